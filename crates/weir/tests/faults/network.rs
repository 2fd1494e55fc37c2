//! Networks: a cable that is pulled out for a while, and a kernel that connects a socket to itself.
//!
//! They need a network namespace. Where the system allows none, the test says so, counts it, and
//! does what it can without. Invariant: what was made in the system is removed again.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::loader;
use super::relay::Relay;
use super::site::{KEY, REFUSED, Site, TIMEOUT};
use super::upstream::Upstream;
use crate::support::process::{Running, TempDir, program, weir, weir_path};
use crate::support::servers::{Kind, two_free_ports};
use crate::support::weir::{Base, Pool};
use crate::support::{DEADLINE, until_within};

/// Errors that a broken network may cause, by their texts.
const UNREACHABLE: [&str; 3] =
    ["Connection timed out", "No route to host", "Network is unreachable"];

/// A namespace with one cable that leads into it. The far end has this address.
struct Namespace {
    name: String,
    near: String,
    far: String,
    host: Ipv4Addr,
}

/// Runs `ip` with these words. What it says when it fails.
fn ip(words: &str) -> Result<(), String> {
    let output = Command::new(program("ip")).args(words.split(' ')).output();
    let output = output.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("ip {words}: {said}")) }
}

impl Namespace {
    /// Why not, where it is forbidden.
    fn new() -> Result<Namespace, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id() % 10_000 * 10 + count % 10;
        // Addresses for tests of networks, four to each cable.
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + id % (1 << 15) * 4;
        let (near_host, host) = (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2));
        let name = format!("weir-{id}");
        ip(&format!("netns add {name}"))?;
        // From here on it is removed when something fails.
        let (near, far) = (format!("weirn{id}"), format!("weirf{id}"));
        let made = Namespace { name, near, far, host };
        let Namespace { name, near, far, .. } = &made;
        ip(&format!("link add {near} type veth peer name {far} netns {name}"))?;
        ip(&format!("addr add {near_host}/30 dev {near}"))?;
        ip(&format!("link set {near} up"))?;
        ip(&format!("-n {name} addr add {host}/30 dev {far}"))?;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("-n {name} link set {far} up"))?;
        Ok(made)
    }

    /// Plugs the cable in, or pulls it out.
    fn set_up(&self, is_up: bool) {
        let word = if is_up { "up" } else { "down" };
        ip(&format!("-n {} link set {} {word}", self.name, self.far))
            .expect("it was allowed before");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The cable goes with one of its ends.
        for words in [format!("link del {}", self.near), format!("netns del {}", self.name)] {
            if let Err(error) = ip(&words) {
                eprintln!("{error}");
            }
        }
    }
}

/// What leads to the server.
enum Cable {
    Namespace(Namespace),
    Relay(Relay),
}

impl Cable {
    fn set_up(&self, is_up: bool) {
        match self {
            Cable::Namespace(namespace) => namespace.set_up(is_up),
            Cable::Relay(relay) => relay.set_open(is_up),
        }
    }

    /// A server, started, behind a cable, and where the proxy reaches it.
    fn to_server(kind: Kind) -> (Cable, Upstream, SocketAddr) {
        match Namespace::new() {
            Ok(namespace) => {
                let address = SocketAddr::from((namespace.host, two_free_ports()));
                let prefix = ["ip", "netns", "exec", &namespace.name];
                let mut server = Upstream::down(kind, address, &prefix);
                server.start_again();
                (Cable::Namespace(namespace), server, address)
            }
            Err(error) => {
                println!("FALLBACK to loopback, no network namespace is to be had: {error}");
                let server = Upstream::start(kind);
                let relay = Relay::to(server.address);
                let address = relay.address;
                (Cable::Relay(relay), server, address)
            }
        }
    }
}

/// TCP, and the cache of neighbours, try again within a few seconds.
const PLUGGED_IN_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn a_cable_that_is_pulled_out_fails_requests_until_it_is_back() {
    let (mut runs_count, mut fallbacks_count) = (0, 0);
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        let (cable, server, address) = Cable::to_server(kind);
        runs_count += 1;
        fallbacks_count += u32::from(matches!(cable, Cable::Relay(_)));
        let arguments = ["--event-base", base.name(), "--workers", "1"];
        let keys = [TIMEOUT, "connect_timeout_ms: 1000"];
        let mut site = Site::before(server, address, &keys, weir, &arguments);
        for _ in 0..2 {
            site.trouble(|site| {
                cable.set_up(false);
                let reply = site.get(KEY);
                let is_right = UNREACHABLE.iter().any(|text| reply == site.error(text));
                assert!(is_right, "{reply}");
                site.loader.is_answered();
                site.bystander.goes_on();
                cable.set_up(true);
                let found = site.kind.found(KEY, "left");
                until_within(PLUGGED_IN_WITHIN, "the server is reached again", || {
                    (site.get(KEY).as_bytes() == found).then_some(())
                });
            });
        }
        site.end();
    }
    println!("{fallbacks_count} of {runs_count} runs fell back to loopback");
}

/// Where a server's port is one that the kernel hands out, a connection to it while nobody listens
/// may be given that very port, and so end where it began. Here it is the only port there is.
#[test]
fn a_server_that_is_down_is_never_the_proxy_itself() {
    for (kind, base) in Kind::BOTH.into_iter().flat_map(|kind| Base::BOTH.map(|b| (kind, b))) {
        let port = two_free_ports();
        let folder = TempDir::new();
        let socket = folder.join("socket");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let pool = Pool::new(kind, &[address, address]).with(TIMEOUT);
        let text = pool.text(socket.to_str().unwrap());
        std::fs::write(folder.join("weir.yml"), text).unwrap();
        let range = "/proc/sys/net/ipv4/ip_local_port_range";
        let script =
            format!("ip link set lo up && echo '{port} {port}' > {range} && exec \"$0\" \"$@\"");
        let mut command = Command::new(program("unshare"));
        command.args(["--map-root-user", "--net", "sh", "-c", &script]).arg(weir_path());
        command.arg("-c").arg(folder.join("weir.yml")).arg("-a").arg(folder.join("stats"));
        let running = Running::start("weir", command.args(["--event-base", base.name()]));
        if !running.writes("weir runs") {
            println!(
                "FALLBACK: not shown, no network namespace is to be had: {}",
                running.output()
            );
            continue;
        }
        let refused = match kind {
            Kind::Redis => format!("-ERR {REFUSED}\r\n"),
            Kind::Memcached => format!("SERVER_ERROR {REFUSED}\r\n"),
        };
        let mut client = UnixStream::connect(&socket).unwrap();
        let first = ask(&mut client, &kind.get_request(KEY));
        assert_eq!(String::from_utf8_lossy(&first), refused, "{kind:?} on {base:?}");
        for _ in 0..50 {
            // The port may be in use for a while, by the connection that was closed.
            let reply = ask(&mut client, &kind.get_request(KEY));
            let is_error = loader::error_text(&reply).is_some();
            assert!(is_error, "'{}' to {kind:?} on {base:?}", reply.escape_ascii());
        }
    }
}

/// The first bytes of a reply, which for an error are all.
fn ask(client: &mut UnixStream, request: &[u8]) -> Vec<u8> {
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(request).unwrap();
    let mut reply = vec![0; 1000];
    let size = client.read(&mut reply).unwrap();
    reply.truncate(size);
    reply
}
