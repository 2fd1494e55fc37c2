//! The files in `configs/`: each loads, and the reference is the table of keys.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::Protocol;
use proxy::options::{PoolOptions, ServerAddress, ServerOptions};

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

fn load(name: &str) -> Vec<PoolOptions> {
    match config::load(configs().join(name)) {
        Ok(config) => config.pools,
        Err(errors) => panic!("{errors}"),
    }
}

#[test]
fn the_reference_file_equals_the_table_of_keys() {
    let path = configs().join("reference.yml");
    let text = config::reference();
    if std::env::var_os("UPDATE_REFERENCE").is_some_and(|value| value == "1") {
        std::fs::write(&path, &text).unwrap();
    }
    let file = std::fs::read_to_string(&path).unwrap();
    assert!(file == text, "configs/reference.yml differs: run with UPDATE_REFERENCE=1 and look");
}

#[test]
fn the_reference_gives_exactly_the_defaults() {
    let server = ServerOptions {
        name: "127.0.0.1".to_owned(),
        address: ServerAddress::Inet { host: "127.0.0.1".to_owned(), port: 11_211 },
        weight: 1,
    };
    let address = base::Address::Inet("127.0.0.1:22121".parse().unwrap());
    let defaults = PoolOptions::new("reference", Protocol::Memcache, address, vec![server]);
    assert_eq!(load("reference.yml"), [defaults]);
}

/// With the keys that have no default taken in, so that every key of the reference is typed.
#[test]
fn the_keys_that_the_reference_leaves_out_can_be_put_in() {
    let text = config::reference().replace("  # hash_tag:", "  hash_tag:");
    let text = text.replace("  # redis_auth:", "  redis_auth:");
    let text = text.replace("  redis: false", "  redis: true");
    let config = match config::parse(&text, "reference.yml") {
        Ok(config) => config,
        Err(errors) => panic!("{errors}"),
    };
    let pool = &config.pools[0];
    assert_eq!(pool.hash_tag, Some(routing::HashTag::new(b'{', b'}')));
    assert_eq!(pool.password.as_deref(), Some(b"a password".as_slice()));
    assert_eq!(pool.protocol, Protocol::Redis);
}

#[test]
fn every_example_loads_with_the_pools_that_it_describes() {
    let examples = [
        ("memcached.yml", &["cache"] as &[&str]),
        ("mixed.yml", &["pages", "guests", "sessions"]),
        ("nutcracker.yml", &["beta", "alpha", "delta", "gamma"]),
        ("redis.yml", &["store"]),
        ("reference.yml", &["reference"]),
    ];
    let mut files: Vec<String> = std::fs::read_dir(configs())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yml"))
        .collect();
    files.sort();
    assert_eq!(files, examples.map(|(name, _)| name), "every file is an example of this table");
    for (name, pools) in examples {
        let names: Vec<String> = load(name).into_iter().map(|pool| pool.name).collect();
        assert_eq!(names, pools, "{name}");
    }
}

#[test]
fn what_the_examples_type_arrives() {
    let pools = load("nutcracker.yml");
    let [beta, alpha, delta, gamma] = &pools[..] else { panic!("four pools") };
    assert!(alpha.health.eject && alpha.protocol == Protocol::Redis);
    assert_eq!(alpha.health.retry_timeout, Duration::from_secs(2));
    assert_eq!(alpha.servers[2].weight, 2);
    assert_eq!(beta.request_timeout, Some(Duration::from_millis(400)));
    assert_eq!((beta.database, beta.preconnect), (1, true));
    assert_eq!(beta.servers[3].name, "server4");
    // The names without a port come first, being shorter.
    let names: Vec<&str> = gamma.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["127.0.0.1", "127.0.0.1:11212", "127.0.0.1:11213"]);
    assert_eq!(delta.listen.unix_mode, Some(0o666));
    assert_eq!(delta.servers[0].name, "/tmp/memcached.sock:");
    let guests = &load("mixed.yml")[1];
    assert_eq!(guests.client_connections_max, 1000);
    assert_eq!(guests.limits.request_size_max, 1 << 20);
    assert_eq!(guests.client_stall_timeout, Some(Duration::from_secs(10)));
}
