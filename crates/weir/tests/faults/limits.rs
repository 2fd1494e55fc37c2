//! A proxy that the system gives too few descriptors, or too little memory.
//!
//! Invariant: clients that it has are served on, and what it can't do is said, not dropped.

use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::loader;
use super::site::{KEY, NO_FILES, Site, TIMEOUT};
use crate::support::process::{program, weir_path};
use crate::support::servers::Kind;
use crate::support::weir::{Base, Weir};
use crate::support::wire::Wire;
use crate::support::{DEADLINE, until, until_within};

/// Descriptors that the proxy gets, and clients that come.
const FILES_MAX: &str = "64";
const CLIENTS_COUNT: usize = 100;
/// Clients that leave: the others are so few that there are descriptors to spare.
const LEAVING_COUNT: usize = 75;

/// What the proxy says each time that it can't accept, as a warning or as a detail.
const PAUSES: &str = "accepting pauses";

/// A proxy that may open few files.
fn with_few_files() -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {FILES_MAX}; exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(weir_path());
    command
}

fn full_site(kind: Kind, base: Base) -> (Site, Vec<Wire>) {
    println!("{kind:?}, {base:?}");
    let arguments = ["--event-base", base.name(), "--workers", "1", "-v", "7"];
    let site = Site::start_as(kind, &[TIMEOUT], with_few_files, &arguments);
    let clients = (0..CLIENTS_COUNT).map(|_| site.weir.wire(kind)).collect();
    assert!(site.weir.running.writes(PAUSES), "the proxy has descriptors for all");
    (site, clients)
}

/// How often it has said so.
fn pauses_count(weir: &Weir) -> usize {
    weir.running.output().matches(PAUSES).count()
}

/// How often it has warned of it.
fn warnings_count(weir: &Weir) -> usize {
    let output = weir.running.output();
    output.lines().filter(|line| line.contains(" WARN ") && line.contains(PAUSES)).count()
}

/// Time that the process has had on a CPU so far.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name of the program, in parentheses, may contain anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = [11, 12].map(|at: usize| fields[at].parse::<u64>().unwrap()).iter().sum();
    // Linux tells programs of a hundred ticks a second, whatever it counts in.
    Duration::from_millis(ticks * 10)
}

/// Accepting has paused so often while its use of the CPU is watched.
const PAUSES_WATCHED: usize = 20;

#[test]
fn out_of_descriptors_the_proxy_waits_without_spinning_and_serves_whom_it_has() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        let (site, mut clients) = full_site(kind, base);
        let mut served = clients.drain(..5).collect::<Vec<_>>();
        site.bystander.goes_on();
        site.loader.is_served();
        // What they leave is taken at once by those who wait, so the limit is reached again.
        let Site { bystander, loader, weir, left: _left, right: _right, .. } = site;
        bystander.finish();
        loader.finish();
        pauses_again(&weir, 2);
        let (cpu, since) = (cpu_time(weir.pid()), Instant::now());
        pauses_again(&weir, PAUSES_WATCHED);
        let (used, watched) = (cpu_time(weir.pid()) - cpu, since.elapsed());
        println!("  {used:?} of CPU in {watched:?} at the limit");
        assert!(used < watched / 4, "it spins: {used:?} of CPU in {watched:?}");
        assert!(warnings_count(&weir) < pauses_count(&weir), "each pause is warned of");
        for client in &mut served {
            assert_eq!(kind.get(client, KEY), kind.found(KEY, "left"));
        }
        // Descriptors of those who leave are for those who waited.
        clients.drain(..LEAVING_COUNT).for_each(Wire::reset);
        for client in served.iter_mut().chain(&mut clients) {
            assert_eq!(kind.get(client, KEY), kind.found(KEY, "left"));
        }
        let count = (served.len() + clients.len()) as u64;
        weir.until_counter(kind, "client_connections", |now| now == count);
    }
}

/// Waits until accepting has failed so many times more.
fn pauses_again(weir: &Weir, count: usize) {
    let before = pauses_count(weir);
    until_within(3 * DEADLINE, "accepting fails again and again", || {
        (pauses_count(weir) >= before + count).then_some(())
    });
}

#[test]
fn a_server_that_no_descriptor_is_left_for_is_reached_when_there_is_one() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        let (mut site, mut clients) = full_site(kind, base);
        let mut served = clients.remove(0);
        site.trouble(|site| {
            // A client that waits gets the descriptor of the broken connection.
            let before = pauses_count(&site.weir);
            site.kill();
            let no_files = site.error(NO_FILES);
            let mut get = || String::from_utf8_lossy(&kind.get(&mut served, KEY)).into_owned();
            until("there is no descriptor left", || (get() == no_files).then_some(()));
            until("accepting fails again", || (pauses_count(&site.weir) > before).then_some(()));
            site.left.start_again();
            site.loader.is_answered();
            site.bystander.goes_on();
            clients.drain(..LEAVING_COUNT).for_each(Wire::reset);
        });
        assert_eq!(kind.get(&mut served, KEY), kind.missing());
        site.end();
    }
}

/// Bytes of memory that the proxy may have for its data, and of a request.
const MEMORY_MAX: usize = 512 << 20;
const REQUEST_SIZE_MAX: usize = 16 << 20;
/// Bytes of a value, and clients that each have one on its way. Together they fit.
const VALUE_SIZE: usize = 12 << 20;
const SENDERS_COUNT: usize = 8;

/// The operator has bounded what one client may send, so that what the clients send together fits
/// into what the system gives: what is too large is refused, and nobody dies of it.
#[test]
fn within_its_memory_the_proxy_takes_large_values_and_refuses_larger_ones() {
    for base in Base::BOTH {
        let limited = || {
            let mut command = Command::new(program("prlimit"));
            command.arg(format!("--data={MEMORY_MAX}")).arg(weir_path());
            command
        };
        let keys = [TIMEOUT, &format!("request_size_max_bytes: {REQUEST_SIZE_MAX}")];
        let arguments = ["--event-base", base.name(), "--workers", "1"];
        let site = Site::start_as(Kind::Redis, &keys, limited, &arguments);
        let kind = site.kind;
        let value = "v".repeat(VALUE_SIZE);
        let mut senders: Vec<Wire> = (0..SENDERS_COUNT).map(|_| site.weir.wire(kind)).collect();
        // All have sent most of it before anybody sends the rest.
        let set = loader::set_request(kind, "{k10}:large", &value);
        let (most, rest) = set.split_at(set.len() - 10);
        for sender in &mut senders {
            sender.send(most);
        }
        let mut greedy = site.weir.wire(kind);
        let header = format!("*3\r\n$3\r\nSET\r\n$3\r\n{KEY}\r\n${}\r\n", 8 * REQUEST_SIZE_MAX);
        greedy.send(header.as_bytes());
        let refusal = String::from_utf8_lossy(&greedy.rest().0).into_owned();
        assert!(refusal.starts_with("-ERR "), "{refusal}");
        site.loader.is_served();
        for sender in &mut senders {
            sender.send(rest);
            assert_eq!(kind.reply(sender), kind.stored());
        }
        assert!(kind.get(&mut senders[0], "{k10}:large") == kind.found("{k10}:large", &value));
        println!("{base:?}: refused with {refusal:?}");
        site.end();
    }
}

/// Bytes of the value that no proxy here has room for, and clients that send one at once.
const GREEDY_SIZE: usize = 400 << 20;
const GREEDY_COUNT: usize = 3;

/// How the room is bounded: by the system, which the proxy asks, or by the operator.
const BOUNDS: [(&str, &[&str]); 2] =
    [("--data=300000000", &[]), ("--data=600000000", &["--memory-max", "100"])];

#[test]
fn values_that_there_is_no_memory_for_end_those_who_send_them_and_nobody_else() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        for (limit, bound) in BOUNDS {
            let limited = || {
                let mut command = Command::new(program("prlimit"));
                command.arg(limit).arg(weir_path());
                command
            };
            let arguments = [&["--event-base", base.name(), "--workers", "1"], bound].concat();
            let site = Site::start_as(kind, &["timeout: 5000"], limited, &arguments);
            let greedy: Vec<_> = (0..GREEDY_COUNT).map(|_| greedy(kind, &site)).collect();
            let mut refusals: Vec<String> =
                greedy.into_iter().map(|client| client.join().expect("it is refused")).collect();
            refusals.sort_unstable();
            refusals.dedup();
            println!("{kind:?}, {base:?}, {limit} {bound:?}: {refusals:?}");
            site.bystander.goes_on();
            site.loader.is_served();
            site.end();
        }
    }
}

/// A client that sends a value without mercy. What it was told.
fn greedy(kind: Kind, site: &Site) -> JoinHandle<String> {
    let mut wire = site.weir.wire(kind);
    std::thread::spawn(move || {
        let header = match kind {
            Kind::Redis => {
                format!("*3\r\n$3\r\nSET\r\n${}\r\n{KEY}\r\n${GREEDY_SIZE}\r\n", KEY.len())
            }
            Kind::Memcached => format!("set {KEY} 0 0 {GREEDY_SIZE}\r\n"),
        };
        wire.send(header.as_bytes());
        let part = vec![b'v'; 1 << 20];
        let is_taken = (0..GREEDY_SIZE / part.len()).all(|_| wire.try_send(&part).is_ok());
        assert!(!is_taken, "it has room for all of it");
        // A reset may overtake the words.
        String::from_utf8_lossy(&wire.rest().0).into_owned()
    })
}
