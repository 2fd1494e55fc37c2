//! What a wrong file is told: everything at once, each fault with its line and what would be right.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

fn errors(text: &str) -> String {
    match config::parse(text, "weir.yml") {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(errors) => errors.to_string(),
    }
}

const POOL: &str = "alpha:\n  listen: 127.0.0.1:1\n  servers:\n  - a:1:1\n";

#[test]
fn all_errors_are_told_at_once_in_the_order_of_their_lines() {
    let text = "\
alpha:
  listen: 127.0.0.1
  hash: fnv1a_65
  distribution: rendezvous
  timeout: 4000000
  preconnect: yes
  hash-tag: \"{}\"
  hash_tag: \"{\"
  timeout: 5
  redis_auth: secret
  client_output_high_water_bytes: 10
  client_output_max_bytes: 9
  servers:
    - 127.0.0.1:6379:1
    - 127.0.0.1:6379
    - 127.0.0.1:6379:2
beta:
  lisen: 127.0.0.1:2
alpha:
  listen: 127.0.0.1:3
  servers: a:1:1
";
    let form = "host:port:weight or /path:weight, which may be followed by a name";
    let listen = "host:port, or /path of a unix socket, which may be followed by its octal mode \
                  (0000 to 0777)";
    let expected = [
        format!("weir.yml:2: pool 'alpha': listen '127.0.0.1' has no port: must be {listen}"),
        "weir.yml:3: pool 'alpha': hash 'fnv1a_65' is not known: one of one_at_a_time, md5, crc16, \
         crc32, crc32a, fnv1_64, fnv1a_64, fnv1_32, fnv1a_32, hsieh, murmur, jenkins"
            .to_owned(),
        "weir.yml:4: pool 'alpha': distribution 'rendezvous' is not known: one of ketama, modula, \
         random"
            .to_owned(),
        "weir.yml:5: pool 'alpha': timeout '4000000': must be a whole number of ms, 0 to 3600000"
            .to_owned(),
        "weir.yml:6: pool 'alpha': preconnect 'yes': must be true or false".to_owned(),
        "weir.yml:7: pool 'alpha': key 'hash-tag' is not known: did you mean 'hash_tag'?"
            .to_owned(),
        "weir.yml:8: pool 'alpha': hash_tag '{': must be exactly two bytes, such as \"{}\""
            .to_owned(),
        "weir.yml:9: pool 'alpha': timeout is given already at line 5: give it once".to_owned(),
        "weir.yml:10: pool 'alpha': redis_auth needs `redis: true`; memcached has no password"
            .to_owned(),
        "weir.yml:11: pool 'alpha': client_output_high_water_bytes (10) must be at most \
         client_output_max_bytes (9)"
            .to_owned(),
        format!(
            "weir.yml:15: pool 'alpha': server '127.0.0.1:6379' has no port or no weight: must be \
             {form}"
        ),
        "weir.yml:16: pool 'alpha': server '127.0.0.1:6379:2': the server of line 14 has the name \
         '127.0.0.1:6379' already: give one of them another name"
            .to_owned(),
        format!("weir.yml:17: pool 'beta': has no listen: must be {listen}"),
        format!("weir.yml:17: pool 'beta': has no servers: must be a list of {form}"),
        "weir.yml:18: pool 'beta': key 'lisen' is not known: did you mean 'listen'?".to_owned(),
        "weir.yml:19: pool 'alpha': the pool of line 1 has this name already".to_owned(),
        format!(
            "weir.yml:21: pool 'alpha': servers must be a list of at least one entry, each on a \
             line of its own: `- ` and {form}"
        ),
    ];
    assert_eq!(errors(text).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn faults_of_the_shape_name_their_line() {
    let table = [
        ("", "weir.yml: is empty: at least one pool is needed"),
        ("alpha\n", "weir.yml:1: must be a mapping of pools"),
        ("{}\n", "weir.yml:1: must be a mapping of pools"),
        ("workers: 4\n", "weir.yml:1: pool 'workers': must be a mapping of keys"),
        ("alpha:\n\tlisten: 127.0.0.1:1\n", "weir.yml:2: a tab is used as indentation"),
        ("alpha:\n  hash: \"md5\n", "weir.yml:"),
        ("%YAML 1.2\n---\nalpha: 1\n", "weir.yml:1: a directive (%)"),
        ("alpha:\n  listen: [[[[[[[[[1]]]]]]]]]\n", "weir.yml:2: mappings or lists are nested"),
    ];
    for (text, expected) in table {
        let errors = errors(text);
        assert!(errors.starts_with(expected), "{text:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn faults_within_a_right_shape_name_their_line_and_nothing_else_is_wrong() {
    let table = [
        ("  hash:\n", "weir.yml:5: pool 'alpha': hash has no value: must be one of one_at_a_time"),
        ("  timeout:\n  redis: true\n", "weir.yml:5: pool 'alpha': timeout has no value"),
        ("  hash: \"\"\n", "weir.yml:5: pool 'alpha': hash has no value"),
        ("  hash_tag: {}\n", "weir.yml:5: pool 'alpha': hash_tag is a mapping"),
        ("  hash:\n  - md5\n", "weir.yml:5: pool 'alpha': hash is a list: must be one value"),
        ("  hash:\n    x: y\n", "weir.yml:6: pool 'alpha': hash is a mapping: must be one value"),
        ("  backlog: &n 5\n", "weir.yml:5: an anchor (&)"),
        ("  backlog: *n\n", "weir.yml:5: an alias (*)"),
        ("  backlog: !!int 5\n", "weir.yml:5: a tag (!)"),
        ("  timeout: ~\n", "weir.yml:5: pool 'alpha': timeout '~': must be a whole number"),
        ("  x: 1\n", "weir.yml:5: pool 'alpha': key 'x' is not known: see configs/reference.yml"),
        (
            "  HASH: md5\n",
            "weir.yml:5: pool 'alpha': key 'HASH' is not known: did you mean 'hash'?",
        ),
        ("  servers: []\n", "weir.yml:5: pool 'alpha': servers is given already at line 3"),
        ("...\n---\nb: 1\n", "weir.yml:6: a second document begins here"),
        ("  redis: true\n  redis_auth: [s]\n", "weir.yml:6: pool 'alpha': redis_auth is a list"),
    ];
    for (lines, expected) in table {
        let errors = errors(&format!("{POOL}{lines}"));
        assert!(errors.starts_with(expected), "{lines:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn two_pools_at_one_address_are_refused_however_it_is_written() {
    for address in ["127.0.0.1:1", "localhost:1", "127.0.0.1:01", "0.0.0.0:1", "\"*:1\""] {
        let errors = errors(&format!("{POOL}b:\n  listen: {address}\n  servers:\n  - a:1:1\n"));
        let expected = "weir.yml:6: pool 'b': listen ";
        assert!(errors.starts_with(expected) && errors.contains("line 2"), "{address}: {errors}");
    }
    let first = POOL.replace("127.0.0.1:1", "0.0.0.0:1");
    let text = format!("{first}b:\n  listen: 127.0.0.1:1\n  servers:\n  - a:1:1\n");
    assert!(errors(&text).starts_with("weir.yml:6: pool 'b': listen "));
    let text = format!("{first}b:\n  listen: 0.0.0.0:2\n  servers:\n  - a:1:1\n");
    assert!(config::parse(&text, "weir.yml").is_ok());
    let text = format!("{first}b:\n  listen: ::1:1\n  servers:\n  - a:1:1\n");
    assert!(config::parse(&text, "weir.yml").is_ok());
}

#[test]
fn lines_are_counted_alike_with_crlf_and_a_byte_order_mark() {
    let text = format!("\u{feff}{POOL}  hash: x\n").replace('\n', "\r\n");
    assert!(errors(&text).starts_with("weir.yml:5: pool 'alpha': hash 'x' is not known"));
    let text = format!("\u{feff}{POOL}  hash: md5\n").replace('\n', "\r\n");
    assert!(config::parse(&text, "weir.yml").is_ok());
}

#[test]
fn an_entry_of_servers_without_text_names_its_line() {
    let errors = errors("alpha:\n  listen: 127.0.0.1:1\n  servers:\n  -\n  - b:1:1\n");
    assert!(errors.starts_with("weir.yml:4: pool 'alpha': server ''"), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn a_line_end_in_a_value_does_not_break_the_line_of_the_error() {
    let errors = errors(&format!("{POOL}  hash: \"md5\\nweir.yml:99: forged\"\n"));
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn a_password_that_is_wrong_is_not_shown() {
    let errors = errors(&format!("{POOL}  redis_auth: hunter2\n  hash: x\n"));
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn files_that_cannot_be_read_are_told_apart() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let missing = folder.join("no-such-file.yml");
    let message = config::load(&missing).unwrap_err().to_string();
    let expected = format!("{}: cannot be read: No such file", missing.display());
    assert!(message.starts_with(&expected), "{message}");
    let message = config::load(folder).unwrap_err().to_string();
    assert!(message.contains(": cannot be read: "), "{message}");
    let binary = folder.join("not-utf8.yml");
    std::fs::write(&binary, b"alpha:\n  hash: \xff\n").unwrap();
    let message = config::load(&binary).unwrap_err().to_string();
    assert!(message.contains(":2: has a byte that is not UTF-8"), "{message}");
}

#[test]
fn a_file_of_the_greatest_size_is_read_and_a_larger_one_refused() {
    let comment = "#".repeat(config::FILE_SIZE_MAX - POOL.len());
    assert!(config::parse(&format!("{POOL}{comment}"), "weir.yml").is_ok());
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("large.yml");
    std::fs::write(&path, format!("{POOL}{comment}#")).unwrap();
    let message = config::load(&path).unwrap_err().to_string();
    assert!(message.contains("is too large: must be at most 1048576 bytes"), "{message}");
}

#[test]
fn a_file_that_would_grow_without_bound_is_refused() {
    let mut text = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, before) in ('b'..='z').zip('a'..='y') {
        let aliases = vec![format!("*{before}"); 9].join(", ");
        text.push_str(&format!("{name}: &{name} [{aliases}]\n"));
    }
    let errors = errors(&text);
    assert!(errors.starts_with("weir.yml:1: an anchor (&)"), "{errors}");
    assert!(errors.lines().count() <= 26 * 10, "one error an anchor or alias");
    assert!(errors.contains("weir.yml:2: an alias (*)"), "{errors}");
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")] {
        let text = format!("{}1{}", open.repeat(50_000), close.repeat(50_000));
        assert!(errors(&text).contains("nested more than 8 deep"), "{open}");
    }
    let lines: Vec<String> = (0..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(errors(&lines.concat()).contains("nested more than 8 deep"));
}

#[test]
fn many_errors_in_a_large_file_are_all_told() {
    let mut text = POOL.to_owned();
    for number in 0..20_000 {
        text.push_str(&format!("  key_{number}: 1\n"));
    }
    assert_eq!(errors(&text).lines().count(), 20_000);
}

#[test]
fn the_limit_of_clients_is_kept_as_typed() {
    let text = format!("{POOL}  client_connections: 1000\n");
    let config = config::parse(&text, "weir.yml").unwrap();
    assert_eq!(config.pools[0].client_connections_max, 1000);
}

#[test]
fn zero_means_what_it_means_in_twemproxy() {
    let text = format!(
        "{POOL}  timeout: 0\n  server_failure_limit: 0\n  client_stall_timeout_ms: 0\n  \
         server_retry_timeout: 0\n"
    );
    let pool = config::parse(&text, "weir.yml").unwrap().pools.remove(0);
    assert_eq!(pool.request_timeout, None);
    assert_eq!(pool.client_stall_timeout, None);
    assert_eq!(pool.health.failure_limit, 1);
    assert_eq!(pool.health.retry_timeout, std::time::Duration::ZERO);
}

#[test]
fn json_gives_what_yaml_gives() {
    let json = r#"{
        "alpha": {"listen": "127.0.0.1:1", "redis": true, "timeout": 400, "hash_tag": "{}",
                  "servers": ["/run\/a b.sock:1 one", "b:2:1"]}
    }"#;
    let yaml = "alpha:\n  listen: 127.0.0.1:1\n  redis: true\n  timeout: 400\n  hash_tag: '{}'\n  \
                servers:\n  - /run/a b.sock:1 one\n  - b:2:1\n";
    assert_eq!(config::parse(json, "a").unwrap(), config::parse(yaml, "b").unwrap());
}

/// Pieces that a configuration is made of, right and wrong, so that mixing them gets deep.
const PIECES: &[&str] = &[
    "alpha:",
    "beta:",
    "\n",
    "\n  ",
    "\n    ",
    "\n  - ",
    " ",
    "\t",
    ": ",
    "- ",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&a ",
    "*a",
    "!t ",
    "#",
    "---\n",
    "...\n",
    "%",
    "|",
    ">",
    "? ",
    "~",
    "\r\n",
    "listen: 127.0.0.1:1",
    "listen: /x 0777",
    "listen: host:1",
    "servers:",
    "- a:1:1",
    "- /a:1 b",
    "hash: md5",
    "timeout: 5",
    "redis: true",
    "redis_auth: x",
    "\u{feff}",
    "é",
    "\u{0}",
    "\\",
];

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        config::fuzz_config(&bytes);
    }

    #[test]
    fn no_mixture_of_pieces_panics(picks in prop::collection::vec(0..PIECES.len(), 0..60)) {
        let text: String = picks.into_iter().map(|pick| PIECES[pick]).collect();
        config::fuzz_config(text.as_bytes());
    }

    #[test]
    fn no_change_of_a_right_file_panics(
        at in 0usize..4000,
        removed in 0usize..40,
        put_in in prop::collection::vec(0..PIECES.len(), 0..4),
    ) {
        let mut text = config::reference().into_bytes();
        let start = at.min(text.len());
        let end = (start + removed).min(text.len());
        let pieces: String = put_in.into_iter().map(|pick| PIECES[pick]).collect();
        text.splice(start..end, pieces.into_bytes());
        config::fuzz_config(&text);
    }
}
