//! `weir demo`: small in-memory servers on free ports, a proxy before them, and what to try.
//!
//! The servers are [`embedded`]'s, each on a thread of its own with plain blocking sockets: what is
//! shown is the proxy. Invariant: it ends cleanly at Ctrl-C, or after the seconds asked for.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use embedded::{Outcome, Protocol, Session, Store, StoreOptions};
use runtime::process::{self, ProcessOptions};
use runtime::{Time, WorkerStats};
use signal_hook::consts::signal::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::arguments::{Arguments, DemoOptions};
use crate::logging;
use crate::terminal::say;

/// What the last of the three commands says to memcached.
const CONVERSATION: &str = r"set greeting 0 0 5\r\nhello\r\nget greeting\r\nquit\r\n";

/// Servers behind each of the two pools.
const SERVERS_COUNT: usize = 2;

/// Runs the demo until Ctrl-C.
pub(crate) fn run(options: &DemoOptions, arguments: &Arguments) -> ExitCode {
    match try_run(options, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            say(format_args!("weir: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn try_run(options: &DemoOptions, arguments: &Arguments) -> Result<(), String> {
    // Warnings only: the screen is for the figures.
    logging::start(arguments.verbose().min(4), arguments.output.as_deref())
        .map_err(|error| format!("can't open the log: {error}"))?;
    let ended = watch_signals().map_err(|error| format!("can't watch for signals: {error}"))?;
    let ports = [options.port, options.port + 1];
    let text = configuration(ports)
        .map_err(|error| format!("can't start an in-memory server: {error}"))?;
    let config = config::parse(&text, "demo.yml").map_err(|errors| errors.to_string())?;
    let names: Vec<String> = config.pools.iter().map(|pool| pool.name.clone()).collect();
    let process = process::start(ProcessOptions {
        pools: config.pools,
        buffered_bytes_max: arguments.memory_max(),
        cpus: arguments.cpu_options(),
        event_base: arguments.event_base(),
        stats_address: None,
    })
    .map_err(|error| format!("{error}; is another demo running? --port chooses other ports"))?;
    let shown = format!(
        "weir {} demo, with this configuration:\n{text}{}",
        env!("CARGO_PKG_VERSION"),
        commands(ports)
    );
    show(&shown)?;
    let started = Instant::now();
    let mut before = process.stats();
    loop {
        let over = options.seconds.is_some_and(|s| started.elapsed() >= Duration::from_secs(s));
        if over || ended.recv_timeout(Duration::from_secs(1)) != Err(RecvTimeoutError::Timeout) {
            break;
        }
        let now = process.stats();
        show(&figures(&names, &before, &now, &process.balance()))?;
        before = now;
    }
    process.drain(Duration::ZERO);
    show("weir demo has ended")
}

/// Prints a line; when nobody can read it there is no point in going on.
fn show(line: &str) -> Result<(), String> {
    writeln!(io::stdout(), "{line}").map_err(|error| format!("can't print: {error}"))
}

/// A channel that gets a message at Ctrl-C.
fn watch_signals() -> io::Result<mpsc::Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            let _ = sender.send(());
        }
    });
    Ok(receiver)
}

/// The configuration of two pools, whose servers run already.
fn configuration(ports: [u16; 2]) -> io::Result<String> {
    let mut text = String::new();
    for (name, protocol, port) in
        [("redis", Protocol::Redis, ports[0]), ("memcached", Protocol::Memcache, ports[1])]
    {
        let is_redis = protocol == Protocol::Redis;
        text.push_str(&format!(
            "{name}:\n  listen: 127.0.0.1:{port}\n  redis: {is_redis}\n  servers:\n"
        ));
        for _ in 0..SERVERS_COUNT {
            text.push_str(&format!("  - {}:1\n", start_server(protocol)?));
        }
    }
    Ok(text)
}

fn start_server(protocol: Protocol) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let store = Arc::new(Mutex::new(Store::new(StoreOptions::default())));
    let started = Instant::now();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let store = Arc::clone(&store);
            std::thread::spawn(move || serve(stream, protocol, &store, started));
        }
    });
    Ok(address)
}

/// One connection of an in-memory server: of those there is one a worker.
fn serve(mut stream: TcpStream, protocol: Protocol, store: &Mutex<Store>, started: Instant) {
    let mut session = Session::new(protocol);
    let mut input = vec![0; 64 << 10];
    let mut output = Vec::new();
    // Small replies must not wait for each other.
    let _ = stream.set_nodelay(true);
    while let Ok(size @ 1..) = stream.read(&mut input) {
        let now = Time::ZERO + started.elapsed();
        let outcome = {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            session.handle(&mut store, &input[..size], now, &mut output)
        };
        if stream.write_all(&output).is_err() || outcome == Outcome::Close {
            return;
        }
        output.clear();
    }
}

fn commands([redis, memcached]: [u16; 2]) -> String {
    format!(
        "try, in another terminal:
  redis-cli -p {redis} set greeting hello
  redis-benchmark -p {redis} -t get,set -n 200000 -P 16 -q
  bash -c 'exec 3<>/dev/tcp/127.0.0.1/{memcached}; printf \"{CONVERSATION}\" >&3; cat <&3'
Ctrl-C ends it."
    )
}

/// One line: what happened since the last.
fn figures(names: &[String], before: &WorkerStats, now: &WorkerStats, clients: &[u32]) -> String {
    let mut line = String::new();
    for ((name, before), now) in names.iter().zip(&before.pools).zip(&now.pools) {
        let requests = now.client_requests - before.client_requests;
        let errors = now.forward_errors - before.forward_errors;
        let shares: Vec<String> = (before.servers.iter().zip(&now.servers))
            .map(|(before, now)| (now.requests - before.requests).to_string())
            .collect();
        let shares = shares.join(" + ");
        line.push_str(&format!("{name}: {requests}/s ({shares} to servers), {errors} errors; "));
    }
    format!("{line}clients by worker {clients:?}")
}
