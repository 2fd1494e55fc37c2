//! The process as its operator sees it: arguments and exit codes, signals and files, where it
//! listens, what its statistics say, and the demo. Not its workers, see `workers.rs`.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use support::bystander::Bystander;
use support::process::{Running, TempDir, pid, status_field, weir, weir_path};
use support::servers::{ATTEMPTS, Kind, Server, free_port, two_free_ports};
use support::weir::{Base, Pool, Weir};
use support::wire::{Ended, Wire, request, until_listening};
use support::{DEADLINE, until};

/// A proxy that was started with what `plan` writes and says, on ports that `plan` is given.
struct Started {
    running: Running,
    folder: TempDir,
    port: u16,
}

/// Starts a proxy: `plan` is given a folder and two free ports, and gives a configuration and
/// arguments. Tries again when somebody else takes a port.
fn start(plan: impl Fn(&TempDir, [u16; 2]) -> (String, Vec<String>)) -> Started {
    for _ in 0..ATTEMPTS {
        let folder = TempDir::new();
        let ports = [free_port(), free_port()];
        let (text, arguments) = plan(&folder, ports);
        fs::write(folder.join("weir.yml"), text).unwrap();
        let mut command = weir();
        let running =
            Running::start("weir", command.arg("-c").arg(folder.join("weir.yml")).args(arguments));
        if running.writes("weir runs") {
            return Started { running, folder, port: ports[0] };
        }
        let output = running.output();
        assert!(output.contains("can't listen on"), "weir did not start:\n{output}");
    }
    panic!("weir: no port in {ATTEMPTS} attempts");
}

/// A path in a folder, as an argument.
fn path(folder: &TempDir, name: &str) -> String {
    folder.join(name).to_str().expect("names here are text").to_owned()
}

/// Arguments that keep the statistics out of others' way.
fn quiet_stats(folder: &TempDir) -> Vec<String> {
    vec!["-a".to_owned(), path(folder, "stats")]
}

#[test]
fn signals_end_it_with_code_zero_and_without_its_files() {
    let servers = Server::pair(Kind::Redis);
    for (base, signal) in
        Base::BOTH.into_iter().flat_map(|base| [(base, Signal::TERM), (base, Signal::INT)])
    {
        let mut started = start(|folder, [port, _]| {
            let mut arguments = quiet_stats(folder);
            arguments.extend(["-p".to_owned(), path(folder, "pid")]);
            arguments.extend(["--event-base".to_owned(), base.name().to_owned()]);
            (Pool::of(&servers).text(&format!("127.0.0.1:{port}")), arguments)
        });
        let pid_file = started.folder.join("pid");
        let stats = started.folder.join("stats");
        assert_eq!(fs::read_to_string(&pid_file).unwrap(), started.running.pid().to_string());
        let mut client = Wire::connect((Ipv4Addr::LOCALHOST, started.port).into());
        assert_eq!(client.ask(&["SET", "k0", "v"]), b"+OK\r\n");
        started.running.signal(signal);
        assert_eq!(started.running.end().code(), Some(0), "{signal:?} on {base:?}");
        assert!(!pid_file.exists() && !stats.exists(), "its files are left");
        assert!(started.running.output().contains("weir has stopped"));
        let (bytes, ended) = client.rest();
        assert_eq!((bytes.len(), ended), (0, Ended::Closed));
    }
}

#[test]
fn the_log_is_opened_anew_at_sighup() {
    let servers = Server::pair(Kind::Redis);
    let folder = TempDir::new();
    let log = folder.join("log");
    let text = Pool::of(&servers).text(&path(&folder, "socket"));
    fs::write(folder.join("weir.yml"), text).unwrap();
    let mut command = weir();
    command.arg("-c").arg(folder.join("weir.yml")).args(quiet_stats(&folder)).arg("-o").arg(&log);
    let running = Running::start("weir", &mut command);
    until("the log says that it runs", || contains(&log, "weir runs"));
    fs::rename(&log, folder.join("log.old")).unwrap();
    running.signal(Signal::HUP);
    until("the new log is written", || contains(&log, "log reopened"));
}

/// `Some` when the file is there and has the text in it.
fn contains(path: &Path, text: &str) -> Option<()> {
    fs::read_to_string(path).ok()?.contains(text).then_some(())
}

/// As behind `| head`, or with a log that went away.
#[test]
fn what_nobody_can_read_ends_nothing_and_changes_no_exit_code() {
    let folder = TempDir::new();
    fs::write(folder.join("bad.yml"), "alpha:\n  lisen: here\n").unwrap();
    let bad = path(&folder, "bad.yml");
    for (arguments, code) in [
        (&["-h"][..], 0),
        (&["-V"], 0),
        (&["-D"], 0),
        (&["-t", "-c", &bad], 1),
        (&["-c", &bad], 1),
        (&["-z"], 1),
        (&["ctl", "--socket", &path(&folder, "absent"), "status"], 1),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = weir().args(arguments).stderr(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}

/// Everything is logged, and nothing of it can be written: whoever asks for something, of a server
/// that lives or of one that does not, must not notice.
#[test]
fn a_log_on_a_full_disk_costs_clients_nothing() {
    let servers = Server::pair(Kind::Redis);
    let dead = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    for (script, base) in [r#"exec "$0" "$@" -o /dev/full"#, r#"exec "$0" "$@" 2> /dev/full"#]
        .into_iter()
        .flat_map(|script| Base::BOTH.map(|base| (script, base)))
    {
        let folder = TempDir::new();
        let pool = Pool::new(Kind::Redis, &[dead, servers[1].address]);
        fs::write(folder.join("weir.yml"), pool.text(&path(&folder, "socket"))).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(weir_path()).args(quiet_stats(&folder));
        command.arg("-c").arg(folder.join("weir.yml")).args(["--event-base", base.name()]);
        let mut running = Running::start("weir", command.args(["--workers", "2", "-v", "11"]));
        for _ in 0..20 {
            let mut client = until("it serves", || UnixStream::connect(folder.join("socket")).ok());
            client.set_read_timeout(Some(DEADLINE)).unwrap();
            for (key, reply) in [("k0", "+OK\r\n"), ("k10", "-ERR Connection refused\r\n")] {
                let said = talk(&mut client, &request(&["SET", key, "v"]), reply.len());
                assert_eq!(said, reply.as_bytes(), "{script}, {base:?}");
            }
            // Each is told in the log.
            [Signal::USR1, Signal::HUP].into_iter().for_each(|signal| running.signal(signal));
        }
        running.signal(Signal::TERM);
        assert_eq!(running.end().code(), Some(0), "{script}, {base:?}");
        assert_eq!(running.output(), "", "it was not logged elsewhere");
    }
}

/// Whoever takes the log, as a service manager does, stands still: lines are lost, and neither
/// clients nor signals wait.
#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let servers = Server::pair(Kind::Redis);
    for base in Base::BOTH {
        let folder = TempDir::new();
        let text = Pool::of(&servers).text(&path(&folder, "socket"));
        fs::write(folder.join("weir.yml"), text).unwrap();
        let (reader, mut writer) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        while writer.write(&[b'.'; 512]).is_ok() {}
        writer.set_nonblocking(false).unwrap();
        let mut command = weir();
        command.arg("-c").arg(folder.join("weir.yml")).args(quiet_stats(&folder));
        command.args(["--event-base", base.name(), "--workers", "2", "-v", "11"]);
        let command = command.stdin(Stdio::null()).stderr(OwnedFd::from(writer));
        let process = Process(command.spawn().unwrap().id());
        for _ in 0..20 {
            let mut client = until("it serves", || UnixStream::connect(folder.join("socket")).ok());
            client.set_read_timeout(Some(DEADLINE)).unwrap();
            assert_eq!(talk(&mut client, &request(&["SET", "k0", "v"]), 5), b"+OK\r\n");
            kill_process(pid(process.0), Signal::USR1).unwrap();
        }
        kill_process(pid(process.0), Signal::TERM).unwrap();
        until("it ends", || process.is_gone().then_some(()));
        drop(reader);
    }
}

#[test]
fn nobody_else_may_write_to_the_log_and_the_pid_file_whatever_the_umask() {
    let servers = Server::pair(Kind::Redis);
    let folder = TempDir::new();
    fs::write(folder.join("weir.yml"), Pool::of(&servers).text(&path(&folder, "socket"))).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$0\" \"$@\""]).arg(weir_path());
    command.arg("-c").arg(folder.join("weir.yml")).args(quiet_stats(&folder));
    command.arg("-p").arg(folder.join("pid")).arg("-o").arg(folder.join("log"));
    let _running = Running::start("weir", &mut command);
    until("it runs", || contains(&folder.join("log"), "weir runs"));
    for name in ["log", "pid"] {
        let mode = fs::metadata(folder.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "{name}");
    }
}

/// Its address may be another one by now.
#[test]
fn the_name_of_a_server_that_fails_is_looked_up_again() {
    let started = start(|folder, [port, dead]| {
        let mut arguments = quiet_stats(folder);
        arguments.extend(["-v", "7"].map(str::to_owned));
        let listen = format!("  listen: 127.0.0.1:{port}\n  redis: true\n");
        (format!("alpha:\n{listen}  servers:\n   - localhost:{dead}:1\n"), arguments)
    });
    let mut client = Wire::connect((Ipv4Addr::LOCALHOST, started.port).into());
    assert_eq!(client.ask(&["GET", "k"]), b"-ERR Connection refused\r\n");
    assert!(started.running.writes("a server fails: its name is looked up again"));
}

/// A process that nobody here waits for.
struct Process(u32);

impl Process {
    /// Gone, or dead and not waited for yet.
    fn is_gone(&self) -> bool {
        !Path::new(&format!("/proc/{}", self.0)).exists()
            || status_field(self.0, "State").starts_with('Z')
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_gone() {
            let _ = kill_process(pid(self.0), Signal::KILL);
        }
    }
}

/// Runs `weir -d` with a configuration.
fn daemonize(folder: &TempDir, text: &str) -> Output {
    fs::write(folder.join("weir.yml"), text).unwrap();
    let mut command = weir();
    command.arg("-d").arg("-c").arg(folder.join("weir.yml")).args(quiet_stats(folder));
    command.arg("-p").arg(folder.join("pid")).arg("-o").arg(folder.join("log"));
    command.output().expect("it can be started")
}

#[test]
fn the_exit_code_of_daemonizing_tells_whether_it_runs() {
    let servers = Server::pair(Kind::Redis);
    let folder = TempDir::new();
    let socket = folder.join("socket");
    let output = daemonize(&folder, &Pool::of(&servers).text(&path(&folder, "socket")));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let written = fs::read_to_string(folder.join("pid")).expect("it runs, so the file is there");
    let daemon = Process(written.parse().expect("a process id"));
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o777, "as twemproxy's in the background");
    let mut client = UnixStream::connect(&socket).expect("it runs, so it listens");
    assert_eq!(talk(&mut client, b"PING\r\n", 7), b"+PONG\r\n");
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.0)).unwrap();
    let session = stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap().to_owned();
    assert_eq!(session, daemon.0.to_string(), "it leads a session of its own");
    kill_process(pid(daemon.0), Signal::TERM).unwrap();
    until("the daemon ends", || daemon.is_gone().then_some(()));
    assert!(!folder.join("pid").exists());

    let output = daemonize(&folder, "redis:\n  listen: nowhere\n");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("weir.yml:2:"), "the reason is printed: {said}");
    assert!(!folder.join("pid").exists());
}

/// Sends bytes and takes so many back.
fn talk(stream: &mut (impl Read + Write), bytes: &[u8], size: usize) -> Vec<u8> {
    stream.write_all(bytes).unwrap();
    let mut reply = vec![0; size];
    stream.read_exact(&mut reply).unwrap();
    reply
}

#[test]
fn checking_a_configuration_tells_what_is_wrong() {
    let folder = TempDir::new();
    let good = "alpha:\n  listen: 127.0.0.1:1\n  servers:\n    - 127.0.0.1:2:1\n";
    let bad = good.replace("listen", "lisen").replace(":2:1", ":2");
    for (text, code, said) in [
        (good, 0, &["syntax is ok"][..]),
        (&bad, 1, &["weir.yml:2:", "did you mean 'listen'?", "weir.yml:4:", "syntax is invalid"]),
        ("", 1, &["weir.yml", "syntax is invalid"]),
    ] {
        fs::write(folder.join("weir.yml"), text).unwrap();
        let output = weir().arg("-t").arg("-c").arg(folder.join("weir.yml")).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(output.stdout.is_empty());
        said.iter().for_each(|words| assert!(stderr.contains(words), "{words}: {stderr}"));
    }
    let output = weir().args(["-t", "-c"]).arg(folder.join("absent.yml")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_address_in_use_ends_the_start_with_code_one() {
    let servers = Server::pair(Kind::Redis);
    let folder = TempDir::new();
    // The server itself listens there.
    let text = Pool::of(&servers).text(&servers[0].address.to_string());
    fs::write(folder.join("weir.yml"), text).unwrap();
    let mut command = weir();
    command.arg("-c").arg(folder.join("weir.yml")).args(quiet_stats(&folder));
    command.arg("-p").arg(folder.join("pid"));
    let wanted = format!("can't listen on {}", servers[0].address);
    // Told once on stderr, whether or not the log is there, too.
    for _ in 0..2 {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.matches(&wanted).count(), 1, "{said}");
        assert!(!folder.join("pid").exists());
        command.arg("-o").arg(folder.join("log"));
    }
    contains(&folder.join("log"), &wanted).expect("the log tells, too");
}

#[test]
fn a_unix_socket_has_the_mode_that_was_asked_for_and_serves() {
    let servers = Server::pair(Kind::Memcached);
    for base in Base::BOTH {
        let started = start(|folder, _| {
            let mut arguments = quiet_stats(folder);
            arguments.extend(["--event-base", base.name(), "--workers", "2"].map(str::to_owned));
            let text = Pool::of(&servers).text(&format!("{} 0640", path(folder, "socket")));
            (text, arguments)
        });
        let socket = started.folder.join("socket");
        let mode = fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        // With two workers some of these are handed on.
        let clients: Vec<UnixStream> = (0..8)
            .map(|i| {
                let mut client = UnixStream::connect(&socket).unwrap();
                client.set_read_timeout(Some(DEADLINE)).unwrap();
                let request = format!("set k{i} 0 0 1\r\n{i}\r\nget k{i}\r\n");
                let wanted = format!("STORED\r\nVALUE k{i} 0 1\r\n{i}\r\nEND\r\n");
                let reply = talk(&mut client, request.as_bytes(), wanted.len());
                assert_eq!(reply, wanted.as_bytes());
                client
            })
            .collect();
        drop(clients);
    }
}

#[test]
fn an_ipv6_address_is_written_with_and_without_brackets() {
    let servers = Server::pair(Kind::Redis);
    for form in ["::1", "\"[::1]\""] {
        for base in Base::BOTH {
            let started = start(|folder, [port, _]| {
                let mut arguments = quiet_stats(folder);
                arguments.extend(["--event-base".to_owned(), base.name().to_owned()]);
                let listen = match form.strip_suffix('"') {
                    Some(open) => format!("{open}:{port}\""),
                    None => format!("{form}:{port}"),
                };
                (Pool::of(&servers).text(&listen), arguments)
            });
            let mut client = Wire::connect((Ipv6Addr::LOCALHOST, started.port).into());
            assert_eq!(client.ask(&["SET", "k0", "v"]), b"+OK\r\n");
            assert_eq!(client.ask(&["MGET", "k10", "k0"]), b"*2\r\n$-1\r\n$1\r\nv\r\n");
        }
    }
}

/// The system says whether IPv4 is meant, too, and mostly it does; twemproxy leaves it to that.
#[test]
fn every_ipv6_address_is_every_ipv4_address_where_the_system_says_so() {
    let separate = fs::read_to_string("/proc/sys/net/ipv6/bindv6only").unwrap();
    let servers = Server::pair(Kind::Redis);
    for base in Base::BOTH {
        let started = start(|folder, [port, _]| {
            let mut arguments = quiet_stats(folder);
            arguments.extend(["--event-base".to_owned(), base.name().to_owned()]);
            (Pool::of(&servers).text(&format!("\":::{port}\"")), arguments)
        });
        let mut client = Wire::connect((Ipv6Addr::LOCALHOST, started.port).into());
        assert_eq!(client.ask(&["SET", "k0", "v"]), b"+OK\r\n");
        let over_ipv4 = TcpStream::connect((Ipv4Addr::LOCALHOST, started.port));
        assert_eq!(over_ipv4.is_ok(), separate.trim() == "0", "{over_ipv4:?}");
    }
}

/// twemproxy's names, at which monitoring looks.
const HEADER_NAMES: &str =
    "service source version uptime timestamp total_connections curr_connections";
const POOL_NAMES: &str =
    "client_eof client_err client_connections server_ejects forward_error fragments";
const SERVER_NAMES: &str = "server_eof server_err server_timedout server_connections \
     server_ejected_at requests request_bytes responses response_bytes in_queue in_queue_bytes \
     out_queue out_queue_bytes";

#[test]
fn the_statistics_have_twemproxys_names_and_count_right() {
    for base in Base::BOTH {
        let servers = Server::pair(Kind::Redis);
        let weir = Weir::start(base, 2, &[Pool::of(&servers)]);
        let mut leaving = weir.wire(Kind::Redis);
        assert_eq!(leaving.ask(&["PING"]), b"+PONG\r\n");
        drop(leaving);
        weir.until_counter(Kind::Redis, "client_eof", |count| count == 1);
        let mut client = weir.wire(Kind::Redis);
        for _ in 0..5 {
            client.ask(&["SET", "k0", "abc"]);
            client.ask(&["GET", "k10"]);
        }
        client.ask(&["MGET", "k0", "k10", "k1"]);
        client.ask(&["FLUSHALL"]);
        let stats = weir.stats();
        let has = |value: &Value, names: &str| {
            names.split(' ').for_each(|name| assert!(!value[name].is_null(), "no {name}: {value}"));
        };
        let pool = &stats["redis"];
        has(&stats, HEADER_NAMES);
        has(pool, POOL_NAMES);
        has(&pool["left"], SERVER_NAMES);
        has(&pool["right"], SERVER_NAMES);
        assert_eq!(stats["service"], "nutcracker");
        for (name, count) in [
            ("client_eof", 1),
            ("client_err", 0),
            ("client_connections", 1),
            ("server_ejects", 0),
            ("forward_error", 0),
            ("fragments", 2),
        ] {
            assert_eq!(pool[name], count, "{name} on {base:?}");
        }
        let set = b"*3\r\n$3\r\nSET\r\n$2\r\nk0\r\n$3\r\nabc\r\n".len();
        let get = b"*2\r\n$3\r\nGET\r\n$3\r\nk10\r\n".len();
        let mget_right = b"*3\r\n$4\r\nmget\r\n$2\r\nk0\r\n$2\r\nk1\r\n".len();
        let mget_left = b"*2\r\n$4\r\nmget\r\n$3\r\nk10\r\n".len();
        let bytes_right = 5 * b"+OK\r\n".len() + b"*2\r\n$3\r\nabc\r\n$-1\r\n".len();
        let bytes_left = 5 * b"$-1\r\n".len() + b"*1\r\n$-1\r\n".len();
        for (name, count) in [
            ("requests", [6, 6]),
            ("responses", [6, 6]),
            ("server_err", [0, 0]),
            ("request_bytes", [5 * get + mget_left, 5 * set + mget_right]),
            ("response_bytes", [bytes_left, bytes_right]),
            ("out_queue", [0, 0]),
        ] {
            let found = [&pool["left"][name], &pool["right"][name]];
            assert_eq!(found.map(|count| count.as_u64().unwrap() as usize), count, "{name}");
        }
    }
}

/// A port of its own, where whoever connects gets one line and the end, whatever he sends.
#[test]
fn the_statistics_are_one_line_on_their_port() {
    let servers = Server::pair(Kind::Redis);
    let started = start(|folder, [_, port]| {
        let arguments = ["-a", "127.0.0.1", "-s", &port.to_string()].map(str::to_owned).to_vec();
        fs::write(folder.join("port"), port.to_string()).unwrap();
        (Pool::of(&servers).text(&path(folder, "socket")), arguments)
    });
    let port = fs::read_to_string(started.folder.join("port")).unwrap().parse::<u16>().unwrap();
    for said in [&b""[..], b"stats\r\n", b"GET / HTTP/1.1\r\nHost: weir\r\n\r\n"].repeat(10) {
        let mut reader = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        reader.set_read_timeout(Some(DEADLINE)).unwrap();
        reader.write_all(said).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("it closes in good order");
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.ends_with('\n'));
        let stats: Value = serde_json::from_str(&text).expect("JSON");
        assert!(stats["redis"]["left"].is_object(), "{stats}");
    }
}

/// Servers of a pool that has so many that the kernel does not take the statistics for a reader.
const MANY_SERVERS_COUNT: usize = 2000;
/// Readers that read nothing: more than are served at a time.
const DEAF_COUNT: usize = 6;

/// They are cut off in the end, and neither clients nor other readers wait for them till then. On a
/// unix socket, for which the kernel keeps less than for a port.
#[test]
fn readers_of_the_statistics_that_do_not_read_hold_up_nobody() {
    let servers = Server::pair(Kind::Redis);
    let started = start(|folder, [port, _]| {
        let mut text = Pool::of(&servers).text(&format!("127.0.0.1:{port}"));
        let socket = path(folder, "socket");
        text.push_str(&format!("many:\n  listen: {socket}\n  redis: true\n  servers:\n"));
        let server = |i| format!("    - 127.0.0.1:{}:1\n", 10_000 + i);
        text.extend((0..MANY_SERVERS_COUNT).map(server));
        (text, quiet_stats(folder))
    });
    let clients = SocketAddr::from((Ipv4Addr::LOCALHOST, started.port));
    let bystander = Bystander::start(Kind::Redis, clients, &["k1", "k11"]);
    let connect = || {
        let reader = UnixStream::connect(started.folder.join("stats")).unwrap();
        reader.set_read_timeout(Some(DEADLINE)).unwrap();
        reader
    };
    let deaf: Vec<UnixStream> = (0..DEAF_COUNT).map(|_| connect()).collect();
    bystander.goes_on();
    let mut text = String::new();
    connect().read_to_string(&mut text).expect("it is served");
    let stats: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(stats["redis"]["client_connections"], 2, "it is told what is so now");
    // What was sent stays in the kernel meanwhile, so there is less of it when it was cut off.
    let mut first = &deaf[0];
    until("it is cut off", || is_cut_off(first).then_some(()));
    let mut taken = Vec::new();
    first.read_to_end(&mut taken).expect("it ends in good order");
    assert!(taken.len() < text.len(), "the kernel took all of it: {}", taken.len());
    bystander.finish();
}

/// Whether the other end has closed, whatever is still to be read.
fn is_cut_off(reader: &UnixStream) -> bool {
    let mut watched = [PollFd::new(reader, PollFlags::RDHUP)];
    poll(&mut watched, Some(&Timespec::default())).unwrap();
    !watched[0].revents().is_empty()
}

/// The demo takes two ports in a row.
fn start_demo(seconds: &str) -> (Running, u16) {
    for _ in 0..ATTEMPTS {
        let port = two_free_ports();
        let mut command: Command = weir();
        command.args(["demo", "--seconds", seconds, "--port", &port.to_string()]);
        let demo = Running::start("weir demo", &mut command);
        if demo.writes("Ctrl-C ends it.") {
            return (demo, port);
        }
        let output = demo.output();
        assert!(output.contains("can't listen on"), "the demo did not start:\n{output}");
    }
    panic!("weir demo: no ports in {ATTEMPTS} attempts");
}

#[test]
fn the_demo_serves_and_shows_what_it_does() {
    let (mut demo, port) = start_demo("3");
    let address = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    drop(until_listening(address(port)));
    for (kind, port) in [(Kind::Redis, port), (Kind::Memcached, port + 1)] {
        let mut client = Wire::connect(address(port));
        for key in ["k0", "k10"] {
            assert_eq!(kind.set(&mut client, key, "demo"), kind.stored());
            assert_eq!(kind.get(&mut client, key), kind.found(key, "demo"));
        }
        let (own, other) = (demo.output(), address(port).to_string());
        assert!(own.contains(&other), "{other} is not printed:\n{own}");
    }
    assert!(demo.writes("/s ("), "it shows figures");
    assert_eq!(demo.end().code(), Some(0));
    assert!(demo.output().contains("weir demo has ended"));
}

#[test]
fn the_demo_ends_well_when_interrupted() {
    let (mut demo, _) = start_demo("60");
    demo.signal(Signal::INT);
    assert_eq!(demo.end().code(), Some(0));
}
