//! Whole runs over real sockets, on both event bases: right servers, wrong ones, and none at all.
//!
//! Nothing here asserts how long something took: the machine may be busy.

#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use base::Address;
use loadgen::commands::args::{GeneratorArgs, ReportArgs};
use loadgen::commands::run::{Measured, measure};
use loadgen::commands::self_check::self_check;
use loadgen::commands::serve::{Running, start};
use loadgen::engine::{BaseChoice, RunOptions};
use loadgen::reply::{self, Read};
use loadgen::server::{Delay, ServerOptions};
use loadgen::workload::Settings;
use loadgen::workload::file::Wire;
use loadgen::workload::value::{VIOLATIONS, Violation};
use protocol::Protocol;

const BASES: [BaseChoice; 2] = [BaseChoice::Auto, BaseChoice::Readiness];

fn settings(text: &str) -> Settings {
    Settings::parse(&format!("warmup_s = 0\n{text}")).unwrap()
}

fn generator() -> GeneratorArgs {
    GeneratorArgs {
        event_base: BaseChoice::Auto,
        spin: false,
        cpus: Vec::new(),
        interval: 0.5,
        agents: Vec::new(),
        quiet: true,
    }
}

fn run(address: &Address, base: BaseChoice, text: &str) -> Result<Measured, String> {
    let options = RunOptions { event_base: base, ..RunOptions::new(address.clone()) };
    measure(&settings(text), &options, &generator(), &ReportArgs::default())
}

fn server(protocol: Protocol) -> Running {
    let options = ServerOptions { protocol, null_value_size: None, delay: Delay::None };
    let any = Address::Inet(([127, 0, 0, 1], 0).into());
    start(&any, options, BaseChoice::Readiness, Arc::new(AtomicBool::new(false))).unwrap()
}

/// A server of the test's own: `answer` gets each connection.
fn listen(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            thread::spawn(move || answer(stream));
        }
    });
    Address::Inet(address)
}

const MIXED: &str = "rate = 4000\nduration_s = 1\ntimeout_ms = 60000\nconnections = 8
threads = 2\nverify = 'full'\n[commands]\nget = 6\nset = 3\nmget = 1\ndelete = 0.2\nincr = 1
rmw = 1\n[keys]\ncount = 500\n[values]\nsize = { uniform = [0, 3000] }\n";

#[test]
fn a_right_server_violates_nothing_on_either_event_base() {
    for protocol in [Protocol::Redis, Protocol::Memcache] {
        let server = server(protocol);
        let wire = if protocol == Protocol::Redis { "redis" } else { "memcache" };
        for base in BASES {
            let text = format!("protocol = '{wire}'\n{MIXED}");
            let summary = run(&server.address, base, &text).unwrap().summary;
            let counts = &summary.counts;
            assert_eq!(counts.violations_count(), 0, "{:?}", summary.examples);
            assert_eq!(counts.completed, counts.sent);
            assert!(counts.completed > 3500 && counts.failed() == 0, "{counts:?}");
            assert_eq!(summary.nodelay, (8, 0));
            assert_eq!(summary.response.count, counts.completed);
            assert_eq!(summary.slip_busy.count, counts.completed);
        }
        server.end().unwrap();
    }
}

/// Forwards to `upstream`, and gives out two of some hundred thousand replies in the wrong order.
fn swapping_proxy(upstream: Address, swap_at: u64) -> (Address, Arc<AtomicU64>) {
    let replies_count = Arc::new(AtomicU64::new(0));
    let counted = replies_count.clone();
    let address = listen(move |mut client| {
        let Address::Inet(inet) = upstream else { unreachable!() };
        let server = TcpStream::connect(inet).unwrap();
        server.set_nodelay(true).unwrap();
        client.set_nodelay(true).unwrap();
        let (mut to_server, mut from_client) =
            (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
        let mut from_server = server;
        let (mut bytes, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
        let mut held: Option<Vec<u8>> = None;
        while let Ok(size @ 1..) = from_server.read(&mut chunk) {
            bytes.extend_from_slice(&chunk[..size]);
            let mut out = Vec::new();
            while let Read::Whole(size, reply) = reply::read(Wire::Redis, &bytes) {
                let number = counted.fetch_add(1, Ordering::Relaxed);
                let is_value = matches!(reply, reply::Reply::Value { .. });
                let reply: Vec<u8> = bytes.drain(..size).collect();
                if number == swap_at && is_value {
                    held = Some(reply);
                } else {
                    out.extend_from_slice(&reply);
                    out.extend(held.take().into_iter().flatten());
                }
            }
            if client.write_all(&out).is_err() {
                return;
            }
        }
    });
    (address, replies_count)
}

/// Among 100 000 verified operations two replies change places: it is seen, named, and the run
/// fails.
#[test]
fn two_swapped_replies_among_a_hundred_thousand_are_caught() {
    let server = server(Protocol::Redis);
    for base in BASES {
        // Prefill replies come first; then only reads.
        let (proxy, count) = swapping_proxy(server.address.clone(), 1000 + 54_321);
        let text = "rate = 50000\nduration_s = 2\narrival = 'constant'\ntimeout_ms = 60000\n\
            connections = 4\n[commands]\nget = 1\n[keys]\ncount = 1000\n";
        let summary = run(&proxy, base, text).unwrap().summary;
        assert_eq!(summary.counts.completed, 100_000);
        assert_eq!(count.load(Ordering::Relaxed), 101_000);
        let wrong_key = VIOLATIONS.iter().position(|&one| one == Violation::WrongKey).unwrap();
        assert_eq!(summary.counts.violations[wrong_key], 2, "{:?}", summary.examples);
        assert_eq!(summary.counts.violations_count(), 2);
        assert!(summary.is_failure() && summary.examples[0].contains("wrong key"));
        assert_eq!(summary.grade(), loadgen::verdict::Grade::Invalid);
    }
    server.end().unwrap();
}

#[test]
fn nobody_who_listens_is_a_clear_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Inet(listener.local_addr().unwrap());
    drop(listener);
    for base in BASES {
        let error = run(&address, base, "rate = 100\nduration_s = 1").unwrap_err();
        assert!(error.contains("Connection refused") && error.contains("0 of 16"), "{error}");
    }
}

#[test]
fn a_server_that_answers_garbage_is_named_and_the_run_is_invalid() {
    for base in BASES {
        let address = listen(|mut stream| {
            let mut chunk = [0; 4096];
            while let Ok(1..) = stream.read(&mut chunk) {
                if stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").is_err() {
                    return;
                }
            }
        });
        let text = "rate = 200\nduration_s = 1\nprefill = false\nconnections = 2\n\
            timeout_ms = 500";
        let summary = run(&address, base, text).unwrap().summary;
        let garbage = VIOLATIONS.iter().position(|&one| one == Violation::Garbage).unwrap();
        assert!(summary.counts.violations[garbage] > 0 && summary.counts.completed == 0);
        assert!(summary.is_failure());
        assert_eq!(summary.response.count, summary.counts.offered());
    }
}

#[test]
fn a_server_that_answers_nothing_or_resets_leaves_marked_results() {
    let silent = listen(|mut stream| {
        let mut chunk = [0; 4096];
        while let Ok(1..) = stream.read(&mut chunk) {}
    });
    let resetting = listen(|mut stream| {
        let mut chunk = [0; 16];
        // Closing with unread bytes resets.
        let _ = stream.read(&mut chunk);
    });
    for base in BASES {
        for address in [&silent, &resetting] {
            let text = "rate = 500\nduration_s = 1\nprefill = false\nconnections = 4\n\
                timeout_ms = 200";
            let summary = run(address, base, text).unwrap().summary;
            let counts = &summary.counts;
            assert_eq!(counts.completed, 0);
            assert_eq!(counts.timed_out + counts.lost + counts.unsent, counts.offered());
            assert_eq!(summary.response.count, counts.offered(), "they are in the tail");
            assert!(counts.reconnects > 0 && summary.is_failure());
            assert_eq!(summary.grade(), loadgen::verdict::Grade::Invalid);
        }
        // While keys are written there is nothing to keep yet: an error says so.
        let error = run(&silent, base, "timeout_ms = 100\nduration_s = 1").unwrap_err();
        assert!(error.contains("no reply while keys were written"), "{error}");
    }
}

/// A server that dies in the middle: what was measured before is kept, what came after is counted.
#[test]
fn a_server_that_dies_leaves_what_was_measured() {
    let answered = AtomicU64::new(0);
    let address = listen(move |mut stream| {
        let mut chunk = [0; 14];
        while stream.read_exact(&mut chunk).is_ok() {
            if answered.fetch_add(1, Ordering::Relaxed) > 300
                || stream.write_all(b"+PONG\r\n").is_err()
            {
                return;
            }
        }
    });
    let text = "rate = 1000\nduration_s = 1\nprefill = false\nconnections = 2\ntimeout_ms = 300\n\
        [commands]\nping = 1";
    let summary = run(&address, BaseChoice::Auto, text).unwrap().summary;
    let counts = &summary.counts;
    assert!((290..=301).contains(&counts.completed), "{counts:?}");
    assert!(counts.lost + counts.timed_out + counts.unsent > 600, "{counts:?}");
    assert_eq!(summary.response.count, counts.offered());
}

/// What was due when somebody ended the run is kept, and what lay ahead was never asked for.
#[test]
fn an_interrupted_run_is_marked_and_counts_only_what_was_due() {
    for base in BASES {
        let stop = Arc::new(AtomicBool::new(false));
        let (answered, told) = (AtomicU64::new(0), stop.clone());
        let address = listen(move |mut stream| {
            let mut chunk = [0; 14];
            while stream.read_exact(&mut chunk).is_ok() && stream.write_all(b"+PONG\r\n").is_ok() {
                if answered.fetch_add(1, Ordering::Relaxed) == 200 {
                    told.store(true, Ordering::Relaxed);
                }
            }
        });
        let options = RunOptions { event_base: base, stop, ..RunOptions::new(address) };
        let text = "rate = 1000\nduration_s = 100\nprefill = false\nconnections = 2\n\
            arrival = 'constant'\n[commands]\nping = 1";
        let measured =
            measure(&settings(text), &options, &generator(), &ReportArgs::default()).unwrap();
        let (summary, counts) = (&measured.summary, &measured.summary.counts);
        assert!(summary.partial.as_deref().unwrap().contains("interrupted"));
        assert!(summary.is_failure() && counts.completed > 0);
        // 100 000 were planned; those that were due by then went by at 1000 a second.
        let due = summary.wall_s * 1000.0;
        assert!((counts.offered() as f64 - due).abs() <= 2.0, "{due} {counts:?}");
        assert_eq!(summary.response.count, counts.offered());
    }
}

/// In a closed loop a turn may wait for several replies. Whatever the server does, each request is
/// answered and N = X R holds, as it does without.
#[test]
fn gathering_keeps_the_law_of_a_closed_loop() {
    let server = server(Protocol::Redis);
    for base in BASES {
        for gather in [1, 8] {
            let text = format!(
                "mode = 'closed'\nduration_s = 1\nconnections = 32\ntimeout_ms = 60000\n\
                 gather = {gather}\n[keys]\ncount = 1000\n"
            );
            let summary = run(&server.address, base, &text).unwrap().summary;
            let counts = &summary.counts;
            assert_eq!((summary.gather, counts.violations_count()), (gather, 0));
            assert_eq!((counts.completed, counts.failed()), (counts.sent, 0));
            let in_flight = summary.completed_rate * summary.response.mean_ns as f64 / 1e9;
            assert!((28.0..36.0).contains(&in_flight), "{in_flight} with {gather}");
        }
    }
    server.end().unwrap();
}

/// A real memcached, in both of its protocols, with all that it has and Redis lacks.
#[test]
fn a_real_memcached_is_understood_and_violates_nothing() {
    struct Ended(std::process::Child);
    impl Drop for Ended {
        fn drop(&mut self) {
            // It may have ended by itself.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = std::process::Command::new("memcached")
        .args(["-l", "127.0.0.1", "-U", "0", "-u", "nobody", "-p", &port.to_string()])
        .spawn()
        .expect("memcached is needed: run make setup");
    let mut server = Ended(child);
    let address = ([127, 0, 0, 1], port).into();
    while TcpStream::connect(address).is_err() {
        assert!(server.0.try_wait().unwrap().is_none(), "memcached has ended");
        thread::yield_now();
    }
    for wire in ["memcache", "meta"] {
        let text = format!(
            "protocol = '{wire}'\nrate = 4000\nduration_s = 1\ntimeout_ms = 60000\n\
             verify = 'full'\nmust_hit = true\n[keys]\ncount = 500\n[commands]\nget = 3\n\
             set = 2\ngets = 1\ncas = 2\nprepend = 1\nrmw = 1\nincr = 1\ntouch = 1\nmget = 1\n\
             add = 1"
        );
        let summary = run(&Address::Inet(address), BaseChoice::Auto, &text).unwrap().summary;
        let counts = &summary.counts;
        assert_eq!(counts.violations_count(), 0, "{wire}: {:?}", summary.examples);
        assert_eq!((counts.failed(), summary.prefill_failed), (0, 0), "{wire}");
        assert_eq!(counts.completed, counts.offered(), "{wire}");
        assert_eq!(summary.ops.len(), 10);
        assert!(summary.ops.iter().all(|op| op.response.count > 50), "{wire}");
    }
}

/// A load that is as large as the ceiling is found out, and so is what more threads would change.
#[test]
fn a_self_check_finds_the_ceiling() {
    let server = server(Protocol::Redis);
    let text = "mode = 'closed'\nduration_s = 1\nconnections = 4\n[keys]\ncount = 1000";
    let options = RunOptions::new(server.address.clone());
    let mut summary = run(&server.address, BaseChoice::Auto, text).unwrap().summary;
    assert_eq!((summary.ceiling_rate, &summary.doubled), (None, &None));
    self_check(&mut summary, &options, &generator()).unwrap();
    let ceiling = summary.ceiling_rate.unwrap();
    assert!(ceiling > 0.0 && summary.doubled.as_ref().unwrap().completed_rate > 0.0);
    // The server answers as fast as the null server does, or nearly.
    summary.ceiling_rate = Some(ceiling.min(summary.completed_rate));
    let verdict = loadgen::verdict::judge(&summary);
    assert!(verdict.findings.iter().any(|finding| finding.check == "ceiling"));
    server.end().unwrap();
}

/// Reports in all forms from one run; each is readable by what reads its kind.
#[test]
fn reports_are_written_in_all_forms() {
    let folder = std::env::temp_dir().join(format!("weir-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let server = server(Protocol::Memcache);
    let file = |name: &str| Some(folder.join(name));
    let report = ReportArgs {
        json: file("r.json"),
        csv: file("r.csv"),
        hlog: file("r.hlog"),
        html: file("r.html"),
    };
    let text = "protocol = 'memcache'\nrate = 2000\nduration_s = 1\ntimeout_ms = 60000";
    let options = RunOptions::new(server.address.clone());
    let measured = measure(&settings(text), &options, &generator(), &report).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&read("r.json")).unwrap();
    assert_eq!(json["counts"]["completed"], measured.summary.counts.completed);
    assert_eq!(json["settings"]["protocol"], "memcache");
    assert!(read("r.csv").lines().count() > 2);
    assert!(read("r.csv.percentiles.csv").contains("get,service,"));
    assert!(read("r.hlog").lines().any(|line| line.starts_with("Tag=get.response,")));
    assert!(read("r.html").starts_with("<!doctype html>"));
    std::fs::remove_dir_all(&folder).unwrap();
    server.end().unwrap();
}
