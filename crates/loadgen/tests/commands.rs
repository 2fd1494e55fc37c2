//! The program itself, as people call it: bad input and bad servers end in an error that says what
//! is wrong, a status that is not 0, and what was measured before.
//!
//! Runs are short and nothing here asserts how long something took.

#![allow(clippy::unwrap_used)]

#[path = "support/programs.rs"]
mod programs;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use programs::{Serving, answers, bench, listen, told};

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("weir-bench-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Nobody is asked here, so a plan that is wrong must be found before the first connect.
const NOBODY: &str = "127.0.0.1:1";

#[test]
fn impossible_input_is_told_before_anything_is_measured() {
    let folder = folder("input");
    let file = folder.join("w.toml");
    std::fs::write(&file, "rate = 10\nconections = 3\n").unwrap();
    let file = file.to_str().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["run", NOBODY, "-w", file], "line 2"),
        (&["run", NOBODY, "-w", file], "unknown field `conections`, expected one of"),
        (&["run", NOBODY, "-w", "no-such"], "weir-bench presets"),
        (&["run", NOBODY, "--rate", "0"], "rate = 0: must be above 0"),
        (&["run", NOBODY, "--rate", "-5"], "rate = -5: must be above 0"),
        (&["run", NOBODY, "--rate", "nan"], "rate = NaN: must be above 0"),
        (&["run", NOBODY, "--rate", "1e12"], "at most 1e9 a second"),
        (&["run", NOBODY, "--duration", "-1"], "duration_s = -1: must be above 0"),
        (&["run", NOBODY, "--duration", "nan"], "duration_s = NaN: must be above 0"),
        (&["run", NOBODY, "--json", "/no/such/folder/x"], "/no/such/folder/x: No such file"),
        (&["run", NOBODY], "127.0.0.1:1: Connection refused (0 of 16"),
        (&["run", "127.0.0.1"], "HOST:PORT"),
        (&["curve", NOBODY, "--rates", "100,0"], "--rates: rate = 0: must be above 0"),
        (&["curve", NOBODY, "--rates", "-5"], "--rates: rate = -5"),
        (&["curve", NOBODY, "--rates", "5", "--closed"], "not a closed loop"),
        (&["search", NOBODY, "--slo", "p98 < 1ms"], "p50, p90, p99 and p99.9"),
        (&["search", NOBODY, "--closed"], "open load"),
        (&["search", NOBODY], "no load has passed: 127.0.0.1:1: Connection refused"),
        (&["compare", NOBODY, NOBODY, "--pairs", "1"], "--pairs must be 2"),
        (&["compare", NOBODY, NOBODY], "0 of 10 pairs were measured: 127.0.0.1:1: Connection"),
        (&["storm", NOBODY, "--rate", "-5"], "--rate -5: must be above 0"),
        (&["storm", NOBODY, "--rate", "nan"], "--rate NaN: must be above 0"),
        (&["storm", NOBODY, "--timeout-ms", "0"], "above 0"),
        (&["serve", "--delay-us", "-5"], "-5 us: a time must be 0 to 1e9 us"),
        (&["serve", "--queue-us", "nan"], "NaN us: a time must be"),
        (&["run", NOBODY, "--agents", NOBODY], "agent 127.0.0.1:1: Connection refused"),
        (&["presets", "no-such"], "no preset is called no-such"),
    ];
    for (args, expected) in cases {
        let (text, status) = told(&bench(args));
        assert!(text.contains(expected) && status == 2, "{args:?}: status {status}: {text}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// What `--help` says of each option: one entry each, with its lines joined.
fn options_of(help: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in help.lines().skip_while(|line| *line != "Options:") {
        let is_new = line.starts_with("  ") && line.trim_start().starts_with('-');
        let indent = line.len() - line.trim_start().len();
        if is_new && indent <= 6 {
            found.push(line.trim().to_owned());
        } else if let Some(last) = found.last_mut().filter(|_| indent > 6) {
            *last += " ";
            *last += line.trim();
        }
    }
    found
}

/// A user sees of each option what holds without it, and of each command how it ends.
#[test]
fn help_tells_defaults_and_exit_statuses() {
    let (text, status) = told(&bench(&["--help"]));
    assert!(status == 0 && text.contains("Exit status:\n  0    all went well"), "{text}");
    let commands = ["run", "search", "curve", "compare", "serve", "calibrate", "storm", "agent"];
    for command in commands {
        let (text, status) = told(&bench(&[command, "--help"]));
        assert!(status == 0 && text.contains("\nExit status:\n  0  "), "{command}: {text}");
        let options = options_of(&text);
        assert!(options.len() >= 2, "{command}: {text}");
        for option in options {
            // What is written or started only if it is given explains itself.
            let takes = option.split(' ').find(|word| word.starts_with('<'));
            let is_plain = matches!(takes, None | Some("<FILE>" | "<COMMAND>" | "<KEY"));
            assert!(is_plain || option.contains("default"), "{command}: {option}");
        }
    }
    // The short form has them as well.
    let (text, _) = told(&bench(&["run", "-h"]));
    assert!(text.contains("[default: 10000, or the workload's]"), "{text}");
    assert!(text.contains("Exit status:"), "{text}");
}

/// What each command does with a server that does not work. None may end with 0, none may say
/// that one such server is as good as another.
#[test]
fn no_command_takes_a_broken_server_for_a_good_one() {
    let servers = [
        ("garbage", answers(b"HTTP/1.1 400 Bad Request\r\n\r\n", false), &["not a reply"][..]),
        ("closes", answers(b"$10", true), &["closed by the server", "onnection reset"][..]),
        ("silent", answers(b"", false), &["no reply for 200ms"]),
        (
            "resets",
            listen(|mut stream| drop(stream.read(&mut [0; 4]))),
            &["onnection reset", "roken pipe"],
        ),
        ("refuses", answers(b"-NOAUTH Authentication required.\r\n", false), &["NOAUTH"]),
    ];
    let load = ["-d", "0.2", "--warmup", "0", "-q", "-c", "2", "--set", "timeout_ms=200"];
    for (kind, server, reasons) in &servers {
        let server = server.as_str();
        let without: &[&str] = &["--no-prefill", "-r", "50"];
        let commands: [(&[&str], bool); 4] = [
            (&["run", server, "-r", "50"], false),
            (&["run", server], true),
            (&["curve", server, "--rates", "50"], true),
            (&["compare", server, server, "--pairs", "2"], true),
        ];
        for (command, no_prefill) in commands {
            let more = if no_prefill { without } else { &[] };
            let (text, status) = told(&bench(&[command, &load, more].concat()));
            let is_told = reasons.iter().any(|reason| text.contains(reason));
            assert!(status != 0 && is_told, "{kind} {command:?} {status}: {text}");
            assert!(!text.contains("B is"), "{kind} {command:?}: {text}");
        }
        let (text, status) = told(&bench(&["storm", server, "-n", "5", "--timeout-ms", "200"]));
        assert!(status == 1 && text.contains("answered 0"), "{kind}: {text}");
        let closed = [&["search", server][..], &load, &["--no-prefill"]].concat();
        let (text, status) = told(&bench(&closed));
        let is_told = text.contains("no load has passed") && !text.contains("meets");
        assert!(status == 2 && is_told, "search {kind} {status}: {text}");
    }
}

/// More than can be sent: what was measured is shown, and the status says that it is not what was
/// asked for.
#[test]
fn a_rate_above_what_the_connections_take_is_told() {
    let server = Serving::start(&["serve", "--null", "10", "--queue-us", "1000"]);
    let args = ["run", &server.address, "-r", "500000", "-d", "0.2", "--warmup", "0", "-q"];
    let few = ["--no-prefill", "-c", "1", "--depth", "4", "--set", "timeout_ms=100"];
    let (text, status) = told(&bench(&[&args[..], &few].concat()));
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("due and never sent") && text.contains("a lower --rate"), "{text}");
    assert!(text.starts_with("INVALID"), "{text}");
}

/// Answers PING on each connection until `limit` replies were given in all, then refuses.
fn mortal(limit: u64) -> String {
    let answered = AtomicU64::new(0);
    listen(move |mut stream| {
        let mut request = [0; 14];
        while stream.read_exact(&mut request).is_ok()
            && answered.fetch_add(1, Ordering::Relaxed) < limit
            && stream.write_all(b"+PONG\r\n").is_ok()
        {}
    })
}

const PINGS: [&str; 12] = [
    "-d",
    "0.2",
    "--warmup",
    "0",
    "-q",
    "-c",
    "2",
    "--no-prefill",
    "--set",
    "timeout_ms=100",
    "--set",
    "commands = { ping = 1 }",
];

#[test]
fn a_curve_keeps_what_it_has_when_the_server_dies() {
    let folder = folder("curve");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (json, csv, html) = (path("c.json"), path("c.csv"), path("c.html"));
    let server = Serving::start(&["serve"]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir-bench"))
        .args(["curve", &server.address, "--rates", "200,300"])
        .args(PINGS)
        .args(["--json", &json, "--csv", &csv, "--html", &html])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    // The server goes as soon as the first rate is told.
    for _ in 0..2 {
        out.read_line(&mut String::new()).unwrap();
    }
    drop(server);
    let output = child.wait_with_output().unwrap();
    assert_ne!(output.status.code(), Some(0), "{output:?}");
    let value: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let runs = value["runs"].as_array().unwrap();
    assert!(runs[0]["counts"]["completed"].as_u64().unwrap() > 0);
    let lines = std::fs::read_to_string(&csv).unwrap();
    assert_eq!(lines.lines().count(), 3, "a line for each rate: {lines}");
    // It may have gone before the second rate, or in it.
    let is_marked = value["partial"].is_string() || runs[1]["counts"]["completed"] != 60;
    assert!(is_marked, "{value:#}");
    assert!(std::fs::read_to_string(&html).unwrap().starts_with("<!doctype html>"));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// HdrHistogram's reader in Python finds in the log what the JSON says, of each command and kind.
#[test]
fn another_reader_finds_the_same_figures_in_the_log() {
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = repository.join(".venv/bin/python");
    assert!(python.is_file(), ".venv/bin/python is needed: run make setup");
    let folder = folder("log");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (log, json) = (path("r.hlog"), path("r.json"));
    for (protocol, more) in [("redis", None), ("memcache", Some("--memcache"))] {
        let server = Serving::start(&[&["serve"][..], more.as_slice()].concat());
        let args = ["run", &server.address, "-p", protocol, "-r", "5000", "-d", "1", "-q"];
        let load = ["--warmup", "0.1", "--interval", "0.2", "--set", "timeout_ms = 60000"];
        let mix = ["--set", "commands = { get = 6, set = 2, incr = 1, delete = 1 }"];
        let files = ["--hlog", &log, "--json", &json];
        let (text, status) = told(&bench(&[&args[..], &load, &mix, &files].concat()));
        assert_eq!(status, 0, "{protocol}: {text}");
        let program = repository.join("tests/clients/hlog_reader.py");
        let read = Command::new(&python).arg(program).args([&log, &json]).output().unwrap();
        let (text, status) = told(&read);
        // Count and maximum at least, of two kinds of four commands and two of slip.
        let compared: u32 = text.split(' ').next().unwrap().parse().unwrap_or(0);
        assert!(status == 0 && compared >= 20, "{protocol}: {text}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_comparison_keeps_the_pairs_it_has_and_says_that_they_are_not_all() {
    // Three pairs of a rate that is exact, and not a fourth.
    let mortal = mortal(3 * 100 + 20);
    let server = Serving::start(&["serve"]);
    let exact = ["-r", "500", "--set", "arrival = 'constant'", "--metric", "rate"];
    let args = ["compare", &server.address, &mortal, "--pairs", "6"];
    let (text, status) = told(&bench(&[&args[..], &PINGS, &exact].concat()));
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("NOT WHOLE: 3 of 6 pairs were measured: B ("), "{text}");
    assert!(text.contains("B is"), "{text}");
}

/// Shell commands with all that a shell understands start each server anew, and what they started
/// ends with the trial: else the port would be taken in the next one.
#[test]
fn a_comparison_starts_its_servers_itself() {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (a, b) = (free(), free());
    let start = |address: &str| {
        format!("cd / && '{}' serve {address} || exit 1; true", env!("CARGO_BIN_EXE_weir-bench"))
    };
    let (a_start, b_start) = (start(&a), start(&b));
    let args = ["compare", &a, &b, "--a-start", &a_start, "--b-start", &b_start, "-r", "200"];
    let more = ["--pairs", "2", "--metric", "rate"];
    for base in ["auto", "readiness"] {
        let base = ["--event-base", base];
        let (text, status) = told(&bench(&[&args[..], &PINGS, &more, &base].concat()));
        assert!(status == 0 && text.contains("B is "), "{status}: {text}");
    }
    // Somebody else's server is not measured in its place.
    let other = Serving::start(&["serve", &b]);
    let (text, status) = told(&bench(&[&args[..], &PINGS, &more].concat()));
    assert!(status == 2 && text.contains("listens on") && text.contains("already"), "{text}");
    drop(other);
    // One that does not come up is told.
    let fails = ["--b-start", "exit 3", "--a-start", &a_start, "--pairs", "2"];
    let (text, status) = told(&bench(&[&["compare", &a, &b], &fails[..], &PINGS].concat()));
    assert!(status == 2 && text.contains("exit 3: ended at once with exit status: 3"), "{text}");
}

#[test]
fn a_search_finds_a_load_and_writes_its_trials() {
    let folder = folder("search");
    let json = folder.join("s.json").to_str().unwrap().to_owned();
    let server = Serving::start(&["serve", "--null", "10", "--queue-us", "2000"]);
    // An SLO that the machine's noise can't break, but a server that falls behind does.
    let slo = ["--slo", "p50 < 1s", "--precision", "50", "--json", &json];
    let args = ["search", &server.address, "-d", "0.5", "--warmup", "0", "-q", "--no-prefill"];
    let (text, status) = told(&bench(&[&args[..], &slo, &["--verify", "off"]].concat()));
    let value: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert!(!value["trials"].as_array().unwrap().is_empty(), "{text}");
    if status == 0 {
        // Two milliseconds each: no more than 500 a second, and the confirmed one is a trial.
        let rate = value["rate"].as_f64().unwrap();
        assert!(rate > 10.0 && rate < 520.0, "{text}");
    } else {
        // The machine may be too busy to make any load.
        assert!(value["rate"].is_null() && text.contains("no load"), "{status}: {text}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_storm_is_answered_at_once_and_steadily() {
    for (protocol, more) in [("redis", None), ("memcache", Some("--memcache"))] {
        let server = Serving::start(&[&["serve"][..], more.as_slice()].concat());
        for base in ["auto", "readiness"] {
            let args = ["storm", &server.address, "-n", "200", "-p", protocol];
            let whole = ["--timeout-ms", "60000", "--event-base", base];
            let (text, status) = told(&bench(&[&args[..], &whole].concat()));
            assert!(status == 0 && text.contains("answered 200"), "{text}");
            let (text, status) = told(&bench(&[&args[..], &whole, &["-r", "5000"]].concat()));
            assert!(status == 0 && text.contains("answered 200"), "{text}");
        }
        // The wrong protocol is shown for what it is.
        let other = if protocol == "redis" { "memcache" } else { "redis" };
        let (text, status) = told(&bench(&["storm", &server.address, "-n", "3", "-p", other]));
        assert!(status == 1 && text.contains("wrong reply: \""), "{text}");
        assert!(!text.contains(r"\\") && text.contains("is the protocol right"), "{text}");
    }
}

/// Somebody who accepts and says nothing is no agent, and an agent outlives a coordinator that
/// goes away before it has said what to do.
#[test]
fn what_is_no_agent_is_told_and_a_coordinator_may_vanish() {
    let wrong = answers(b"-ERR unknown command\r\n", false);
    let (text, status) = told(&bench(&["run", NOBODY, "--agents", &wrong]));
    assert!(status == 2 && text.contains("`weir-bench agent` must run there"), "{text}");
    let agent = Serving::start(&["agent", "127.0.0.1:0"]);
    drop(TcpStream::connect(&agent.address).unwrap());
    let server = Serving::start(&["serve"]);
    let args = ["run", &server.address, "--agents", &agent.address, "-r", "500"];
    let (text, status) = told(&bench(&[&args[..], &PINGS].concat()));
    assert!(status == 0, "{status}: {text}");
    // The server of the run is refused to the agent: the coordinator says so.
    let (text, status) = told(&bench(&["run", NOBODY, "--agents", &agent.address, "-d", "1"]));
    assert!(status == 2 && text.contains("Connection refused"), "{text}");
}
