//! Several machines: agents in network namespaces, and agents and coordinators that die, hang or
//! are told to end in the middle.
//!
//! Namespaces need root; where the system allows none the test says FALLBACK and uses loopback
//! addresses. Nothing here asserts how long something took.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "support/programs.rs"]
mod programs;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;

use programs::{Serving, bench, told};
use rustix::process::{Pid, Signal, kill_process};

const BENCH: &str = env!("CARGO_BIN_EXE_weir-bench");

/// Runs `ip` with these words. What it says when it fails.
fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split(' ')).output();
    let output = output.map_err(|error| format!("ip {words}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("ip {words}: {said}")) }
}

/// A network namespace with a cable to where the test runs.
struct Namespace {
    name: String,
    near: String,
    /// Of the end that is here, and of the other one.
    hosts: [String; 2],
}

impl Namespace {
    /// `number` tells those of one test apart.
    fn new(number: u32) -> Result<Namespace, String> {
        let id = std::process::id() % 10_000 * 10 + number;
        // Addresses for tests of networks, four to each cable, away from those of other tests.
        let base = u32::from(std::net::Ipv4Addr::new(198, 19, 0, 0)) + id % (1 << 14) * 4;
        let hosts = [1, 2].map(|end| std::net::Ipv4Addr::from(base + end).to_string());
        let made = Namespace { name: format!("bench-{id}"), near: format!("benchn{id}"), hosts };
        let Namespace { name, near, hosts: [here, there] } = &made;
        // From here on it is removed when something fails.
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {near} type veth peer name cable netns {name}"))?;
        ip(&format!("addr add {here}/30 dev {near}"))?;
        ip(&format!("link set {near} up"))?;
        ip(&format!("-n {name} addr add {there}/30 dev cable"))?;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("-n {name} link set cable up"))?;
        ip(&format!("-n {name} route add default via {here}"))?;
        Ok(made)
    }

    fn bench(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, BENCH]);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The cable goes with one of its ends; neither need be there.
        for words in [format!("link del {}", self.near), format!("netns del {}", self.name)] {
            let _ = ip(&words);
        }
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("weir-bench-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Two agents, each in a namespace of its own, and the server here, where all reach it; each agent
/// goes over its own cable.
#[test]
fn agents_in_two_namespaces_make_one_load() {
    let spaces: Result<Vec<Namespace>, String> = [1, 2].into_iter().map(Namespace::new).collect();
    let agents: Vec<Serving> = match &spaces {
        Ok(spaces) => spaces
            .iter()
            .map(|space| {
                let listen = format!("{}:7400", space.hosts[1]);
                Serving::start_as(space.bench().args(["agent", &listen]))
            })
            .collect(),
        Err(why) => {
            println!("FALLBACK to loopback, no network namespace is to be had: {why}");
            let hosts = ["127.0.0.2:0", "127.0.0.3:0"];
            hosts.map(|listen| Serving::start(&["agent", listen])).into()
        }
    };
    // The near end of the first cable is an address of this side, whichever cable leads here.
    let host = spaces.as_ref().map_or("127.0.0.1", |spaces| &spaces[0].hosts[0]);
    let server = Serving::start(&["serve", &format!("{host}:0")]);
    they_make_one_load(&server, &agents, "namespaces");
}

#[test]
fn agents_on_two_loopback_addresses_make_one_load() {
    let agents = ["127.0.0.1:0", "127.0.0.2:0"].map(|at| Serving::start(&["agent", at]));
    they_make_one_load(&Serving::start(&["serve"]), &agents, "loopback");
}

/// Each request of the stream is made once, by one of them, and their histograms are added.
fn they_make_one_load(server: &Serving, agents: &[Serving], name: &str) {
    let folder = folder(name);
    let json = folder.join("r.json").to_str().unwrap().to_owned();
    let names = [&agents[0].address[..], &agents[1].address].join(",");
    for base in ["auto", "readiness"] {
        let args = ["run", &server.address, "--agents", &names, "--event-base", base];
        let load = ["-r", "2000", "-d", "1", "--warmup", "0", "-c", "8", "-q", "--json", &json];
        let exact = ["--set", "arrival = 'constant'", "--set", "timeout_ms = 60000"];
        let (text, status) = told(&bench(&[&args[..], &load, &exact].concat()));
        assert!(status == 0, "{base} {status}: {text}");
        let value: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
        assert_eq!(value["machines"], 2);
        assert_eq!(value["counts"]["completed"], 2000, "each request of the stream, once: {text}");
        assert_eq!(value["response"]["count"], 2000);
        assert_eq!(value["nodelay"], serde_json::json!([8, 0]));
        assert_eq!(value["partial"], serde_json::Value::Null);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// A coordinator under way, with what it says.
struct Coordinator {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Coordinator {
    fn start(server: &str, agents: &[&str], more: &[&str]) -> Coordinator {
        let mut child = Command::new(BENCH)
            .args(["run", server, "--agents", &agents.join(",")])
            .args(["-r", "500", "--warmup", "0", "-c", "4", "--interval", "0.1"])
            .args(["--set", "keys.count = 100"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        Coordinator { child, said }
    }

    /// Waits until it has told an interval.
    fn until_measuring(&mut self) {
        let mut line = String::new();
        while !line.contains("p50") {
            line.clear();
            assert_ne!(self.said.read_line(&mut line).unwrap(), 0, "it has ended before");
        }
    }

    fn end(mut self) -> (String, i32) {
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        let output: Output = self.child.wait_with_output().unwrap();
        let (text, status) = told(&output);
        (text + &said, status)
    }

    /// After a signal that leaves it no word.
    fn end_killed(mut self) {
        self.child.wait().unwrap();
    }
}

/// Longer than any of these runs takes.
const LONG: [&str; 2] = ["-d", "3600"];

fn agent() -> Serving {
    Serving::start(&["agent", "127.0.0.1:0"])
}

/// A run that is whole shows that the agents are free again.
fn a_run_is_whole(server: &str, agents: &[&str]) {
    let (text, status) = Coordinator::start(server, agents, &["-d", "0.5"]).end();
    assert!(status == 0 && !text.contains("INVALID: partial"), "{status}: {text}");
}

#[test]
fn an_agent_that_dies_midway_costs_its_part_only() {
    let server = Serving::start(&["serve"]);
    let (stays, mut dies) = (agent(), agent());
    let both = [&stays.address[..], &dies.address];
    let mut run = Coordinator::start(&server.address, &both, &["-d", "2"]);
    run.until_measuring();
    signal(&dies.child, Signal::KILL);
    dies.child.wait().unwrap();
    let (text, status) = run.end();
    assert_eq!(status, 1, "{text}");
    let gone = format!("INVALID: partial: the run did not go to its end: agent {}", dies.address);
    assert!(text.contains(&gone), "{text}");
    // The other one has gone to its end, and was shown until then.
    assert!(text.contains("2/2s  ") && text.contains("verified "), "{text}");
    a_run_is_whole(&server.address, &[&stays.address]);
}

#[test]
fn an_agent_that_hangs_midway_is_given_up() {
    let server = Serving::start(&["serve"]);
    let (stays, hangs) = (agent(), agent());
    let both = [&stays.address[..], &hangs.address];
    let mut run = Coordinator::start(&server.address, &both, &["-d", "1"]);
    run.until_measuring();
    signal(&hangs.child, Signal::STOP);
    let (text, status) = run.end();
    assert_eq!(status, 1, "{text}");
    let gone = format!("agent {}: has said nothing for 10 s", hangs.address);
    assert!(text.contains(&gone) && text.contains("verified "), "{text}");
    a_run_is_whole(&server.address, &[&stays.address]);
}

/// Accepts, answers the first words, and says nothing more. Gives its address, and a way to wait
/// until it was told what to do.
fn silent_agent() -> (String, std::sync::mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (prepared, is_prepared) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while let Some(Ok(line)) = lines.next() {
            if line == "\"Echo\"" {
                stream.write_all(b"\"Echo\"\n").unwrap();
            } else {
                // The test may be over.
                let _ = prepared.send(());
            }
        }
    });
    (address, is_prepared)
}

#[test]
fn an_agent_that_never_answers_is_given_up() {
    let (silent, _prepared) = silent_agent();
    let agent = agent();
    let server = Serving::start(&["serve"]);
    let both = [&silent[..], &agent.address];
    let (text, status) = Coordinator::start(&server.address, &both, &LONG).end();
    let expected = format!("agent {silent}: has said nothing for 10 s");
    assert!(status == 2 && text.contains(&expected), "{status}: {text}");
    a_run_is_whole(&server.address, &[&agent.address]);
}

#[test]
fn a_coordinator_can_be_ended_while_it_waits_for_an_agent() {
    let (silent, prepared) = silent_agent();
    let run = Coordinator::start("127.0.0.1:1", &[&silent], &LONG);
    prepared.recv().unwrap();
    signal(&run.child, Signal::INT);
    let (text, status) = run.end();
    assert!(status == 2 && text.contains("interrupted"), "{status}: {text}");
}

#[test]
fn a_coordinator_that_is_ended_midway_shows_what_all_agents_have() {
    let server = Serving::start(&["serve"]);
    let agents = [agent(), agent()];
    let both = [&agents[0].address[..], &agents[1].address];
    let mut run = Coordinator::start(&server.address, &both, &LONG);
    run.until_measuring();
    signal(&run.child, Signal::INT);
    let (text, status) = run.end();
    assert!(status == 1 && text.contains("interrupted before its end"), "{status}: {text}");
    assert!(text.contains("verified ") && text.contains(", 2 machines"), "{text}");
    a_run_is_whole(&server.address, &both);
    // One that is gone without a word leaves them free as well.
    let mut run = Coordinator::start(&server.address, &both, &LONG);
    run.until_measuring();
    signal(&run.child, Signal::KILL);
    run.end_killed();
    a_run_is_whole(&server.address, &both);
}

#[test]
fn an_agent_that_is_ended_midway_sends_what_it_has() {
    let server = Serving::start(&["serve"]);
    let (stays, mut ends) = (agent(), agent());
    let both = [&stays.address[..], &ends.address];
    let mut run = Coordinator::start(&server.address, &both, &["-d", "2"]);
    run.until_measuring();
    signal(&ends.child, Signal::INT);
    assert!(ends.child.wait().unwrap().success());
    let (text, status) = run.end();
    let expected = format!("agent {}: interrupted before its end", ends.address);
    assert!(status == 1 && text.contains(&expected), "{status}: {text}");
    a_run_is_whole(&server.address, &[&stays.address]);
}

/// Not while it waits for somebody who has connected and says nothing, nor for the word to start.
#[test]
fn an_agent_can_be_ended_while_it_waits_for_a_coordinator() {
    let mut idle = agent();
    let _mute = std::net::TcpStream::connect(&idle.address).unwrap();
    signal(&idle.child, Signal::INT);
    assert!(idle.child.wait().unwrap().success());

    let server = Serving::start(&["serve"]);
    let (silent, prepared) = silent_agent();
    let mut ready = agent();
    // The one before in the list keeps this one from being told to start.
    let run = Coordinator::start(&server.address, &[&silent, &ready.address], &LONG);
    prepared.recv().unwrap();
    signal(&ready.child, Signal::TERM);
    assert!(ready.child.wait().unwrap().success());
    signal(&run.child, Signal::INT);
    run.end();
}
