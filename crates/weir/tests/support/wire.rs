//! A client that speaks in bytes: it sends what it is told and hands back what came, unread.
//!
//! Invariant: no read takes longer than [`DEADLINE`]; silence is a failure with what had come.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{DEADLINE, until};

/// How a conversation went on after its last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The peer closed in good order.
    Closed,
    /// The peer closed by force.
    Reset,
}

/// One connection.
pub(crate) struct Wire {
    stream: TcpStream,
    /// Bytes that have come and were not asked for yet.
    ahead: Vec<u8>,
}

impl Wire {
    /// Connects; somebody must be listening.
    pub(crate) fn connect(address: SocketAddr) -> Wire {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_nodelay(true).expect("the socket is good");
        stream.set_read_timeout(Some(DEADLINE)).expect("the socket is good");
        stream.set_write_timeout(Some(DEADLINE)).expect("the socket is good");
        Wire { stream, ahead: Vec::new() }
    }

    /// Waits longer than others do.
    pub(crate) fn patient(self, patience: Duration) -> Wire {
        self.stream.set_read_timeout(Some(patience)).expect("the socket is good");
        self
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the peer takes what it is sent");
    }

    /// As `send`, to one who may have closed.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a Redis request of these words.
    pub(crate) fn ask(&mut self, words: &[&str]) -> Vec<u8> {
        self.send(&request(words));
        self.redis_reply()
    }

    /// Sends a memcached request and takes its reply.
    pub(crate) fn ask_memcached(&mut self, text: &str) -> Vec<u8> {
        self.send(text.as_bytes());
        self.memcached_reply()
    }

    /// A whole reply of Redis, as it came.
    pub(crate) fn redis_reply(&mut self) -> Vec<u8> {
        let mut reply = Vec::new();
        let mut left = 1u64;
        while left > 0 {
            left -= 1;
            let line = self.line();
            let number = std::str::from_utf8(&line[1..line.len() - 2]).unwrap_or("").to_owned();
            reply.extend_from_slice(&line);
            match (line[0], number.parse::<i64>()) {
                (b'$', Ok(size @ 0..)) => reply.extend(self.exact(size as usize + 2)),
                (b'*', Ok(count @ 0..)) => left += count as u64,
                _ => {}
            }
        }
        reply
    }

    /// A whole reply of memcached, as it came.
    pub(crate) fn memcached_reply(&mut self) -> Vec<u8> {
        let mut reply = Vec::new();
        loop {
            let line = self.line();
            reply.extend_from_slice(&line);
            if !line.starts_with(b"VALUE ") {
                return reply;
            }
            let text = std::str::from_utf8(&line).expect("keys are text here");
            let size = text.split_whitespace().nth(3).expect("a size").parse::<usize>();
            reply.extend(self.exact(size.expect("a number") + 2));
        }
    }

    /// The bytes up to and with the next LF.
    pub(crate) fn line(&mut self) -> Vec<u8> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.ahead[searched..].iter().position(|&byte| byte == b'\n') {
                return self.ahead.drain(..=searched + at).collect();
            }
            searched = self.ahead.len();
            self.more();
        }
    }

    /// So many bytes.
    pub(crate) fn exact(&mut self, size: usize) -> Vec<u8> {
        while self.ahead.len() < size {
            self.more();
        }
        self.ahead.drain(..size).collect()
    }

    /// Everything up to bytes that end with `mark`, or to the end of the connection.
    pub(crate) fn up_to(&mut self, mark: &[u8]) -> (Vec<u8>, Option<Ended>) {
        loop {
            if self.ahead.ends_with(mark) {
                return (std::mem::take(&mut self.ahead), None);
            }
            match self.read_some() {
                Ok(0) => return (std::mem::take(&mut self.ahead), Some(Ended::Closed)),
                Ok(_) => {}
                Err(error) if is_reset(&error) => {
                    return (std::mem::take(&mut self.ahead), Some(Ended::Reset));
                }
                Err(error) => panic!("{error}; had come: {}", self.ahead.escape_ascii()),
            }
        }
    }

    /// Everything until the peer closes.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, Ended) {
        // Nothing ends with this, since it does not fit a reply.
        let (bytes, ended) = self.up_to(b"\xff\xfe\xfd never \xff");
        (bytes, ended.expect("it read until the end"))
    }

    fn more(&mut self) {
        match self.read_some() {
            Ok(1..) => {}
            Ok(0) => panic!("closed; had come: {}", self.ahead.escape_ascii()),
            Err(error) => panic!("{error}; had come: {}", self.ahead.escape_ascii()),
        }
    }

    fn read_some(&mut self) -> io::Result<usize> {
        let before = self.ahead.len();
        self.ahead.resize(before + (64 << 10), 0);
        let read = self.stream.read(&mut self.ahead[before..]);
        self.ahead.truncate(before + *read.as_ref().unwrap_or(&0));
        read
    }

    /// Ends the connection by force: the peer gets a reset. Its port is free at once, whereas one
    /// that is closed in good order is kept for a minute; thousands of them would leave no ports to
    /// other tests.
    pub(crate) fn reset(self) {
        let socket = socket2::Socket::from(self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("the socket is good");
    }
}

/// Whether the peer has ended the connection by force.
pub(crate) fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// A Redis request of these words.
pub(crate) fn request(words: &[&str]) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    request_of(&words)
}

/// A Redis request of these words, which may be any bytes.
pub(crate) fn request_of(words: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    request
}

/// A Redis reply that is one string.
pub(crate) fn bulk(value: &[u8]) -> Vec<u8> {
    let mut reply = format!("${}\r\n", value.len()).into_bytes();
    reply.extend_from_slice(value);
    reply.extend_from_slice(b"\r\n");
    reply
}

/// Waits until somebody listens there.
pub(crate) fn until_listening(address: SocketAddr) -> TcpStream {
    until(&format!("{address} listens"), || TcpStream::connect(address).ok())
}
