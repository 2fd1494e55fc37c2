//! Servers that answer every `get` with their own number, in either protocol. Not servers of data.
//!
//! Each connection has a thread. Invariant: a server's number is its index in the list.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use crate::support::process::TempDir;

/// Servers on ports of their own.
const PORTS_COUNT: usize = 22;
/// Servers on memcached's own port, each on a loopback address of its own.
const MEMCACHED_PORT_COUNT: usize = 4;
/// Servers on unix sockets.
const UNIX_COUNT: usize = 4;

/// memcached's own port, which twemproxy leaves out of a server's name.
const MEMCACHED_PORT: u16 = 11_211;

/// What a thread of a connection needs; there are many.
const STACK_SIZE: usize = 64 << 10;

pub(crate) struct Servers {
    /// How to reach each of them: `host:port` or a path. Several ways mean the same server.
    pub(crate) addresses: Vec<Vec<String>>,
    _folder: TempDir,
}

impl Servers {
    /// Starts all; they end with the process.
    pub(crate) fn start() -> Servers {
        let folder = TempDir::new();
        let mut addresses = Vec::new();
        for _ in 0..PORTS_COUNT {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            serve_inet(listener, addresses.len());
            // The name that is hashed is as it was typed.
            let ways = ["127.0.0.1:", "127.0.0.1:0", "127.1:"];
            addresses.push(ways.iter().map(|way| format!("{way}{port}")).collect());
        }
        for i in 0..MEMCACHED_PORT_COUNT {
            let listener = bind_memcached_port(i as u8);
            let address = listener.local_addr().unwrap();
            serve_inet(listener, addresses.len());
            addresses.push(vec![address.to_string(), format!("{}:011211", address.ip())]);
        }
        for i in 0..UNIX_COUNT {
            let path = folder.join(&format!("server-{i}"));
            let listener = UnixListener::bind(&path).unwrap();
            let number = addresses.len();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    spawn_server(stream.unwrap(), number);
                }
            });
            addresses.push(vec![path.to_str().unwrap().to_owned()]);
        }
        Servers { addresses, _folder: folder }
    }
}

/// Loopback addresses are many, so one is found on which nobody uses memcached's port.
fn bind_memcached_port(i: u8) -> TcpListener {
    let candidates = (1..=250).map(|last| Ipv4Addr::new(127, 77, i, last));
    let found = candidates
        .map(|host| TcpListener::bind(SocketAddr::from((host, MEMCACHED_PORT))))
        .find_map(Result::ok);
    found.expect("nobody uses memcached's port on every address")
}

fn serve_inet(listener: TcpListener, number: usize) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            spawn_server(stream, number);
        }
    });
}

fn spawn_server(stream: impl Read + Write + Send + 'static, number: usize) {
    let builder = std::thread::Builder::new().stack_size(STACK_SIZE);
    builder.spawn(move || serve(stream, number)).expect("a thread is to be had");
}

fn serve(mut stream: impl Read + Write, number: usize) {
    let mut come = Vec::new();
    let mut chunk = vec![0; 16 << 10];
    while let Ok(size @ 1..) = stream.read(&mut chunk) {
        come.extend_from_slice(&chunk[..size]);
        let (mut used, mut replies) = (0, Vec::new());
        while let Some(size) = answer(&come[used..], number, &mut replies) {
            used += size;
        }
        come.drain(..used);
        if stream.write_all(&replies).is_err() {
            return;
        }
    }
}

/// Answers the request at the beginning and gives its size; `None` when it is not whole.
fn answer(bytes: &[u8], number: usize, replies: &mut Vec<u8>) -> Option<usize> {
    let number = number.to_string();
    let line_size = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    if let Some(key) = bytes[..line_size - 2].strip_prefix(b"get ") {
        replies.extend_from_slice(b"VALUE ");
        replies.extend_from_slice(key);
        replies.extend_from_slice(format!(" 0 {}\r\n{number}\r\nEND\r\n", number.len()).as_bytes());
        return Some(line_size);
    }
    const HEAD: &[u8] = b"*2\r\n$3\r\nGET\r\n$";
    assert!(HEAD.starts_with(&bytes[..bytes.len().min(HEAD.len())]), "only GET is asked");
    let rest = bytes.get(HEAD.len()..)?;
    let digits = rest.windows(2).position(|two| two == b"\r\n")?;
    let key_size: usize = std::str::from_utf8(&rest[..digits]).unwrap().parse().unwrap();
    let size = HEAD.len() + digits + 2 + key_size + 2;
    if bytes.len() < size {
        return None;
    }
    replies.extend_from_slice(format!("${}\r\n{number}\r\n", number.len()).as_bytes());
    Some(size)
}
