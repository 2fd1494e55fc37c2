//! Requests of one shape, and the replies that a server which holds every key gives.
//!
//! Not a client library: only what the workloads of the comparison send. Invariant: a key is
//! [`KEY_SIZE`] bytes, so a reply's size follows from the shape of its request.

use std::io::Write;

pub use protocol::Protocol;

/// Bytes of a key.
pub const KEY_SIZE: usize = 20;

/// Appends the key of this number among those whose values have this size.
pub fn push_key(value_size: usize, number: u64, out: &mut Vec<u8>) {
    write!(out, "key:{value_size:06}:{number:09}").expect("memory can be written to");
}

/// The value that every key of this size holds.
pub fn value(value_size: usize) -> Vec<u8> {
    (0..value_size).map(|index| b'a' + (index % 26) as u8).collect()
}

/// Appends a request for the values of these keys: one that knows a single key where there is only
/// one.
pub fn push_get(
    protocol: Protocol,
    value_size: usize,
    numbers: impl ExactSizeIterator<Item = u64>,
    out: &mut Vec<u8>,
) {
    match protocol {
        Protocol::Redis => {
            let count = numbers.len();
            let name = if count == 1 { "GET" } else { "MGET" };
            write!(out, "*{}\r\n${}\r\n{name}\r\n", count + 1, name.len()).expect("memory");
            for number in numbers {
                write!(out, "${KEY_SIZE}\r\n").expect("memory can be written to");
                push_key(value_size, number, out);
                out.extend_from_slice(b"\r\n");
            }
        }
        Protocol::Memcache => {
            out.extend_from_slice(b"get");
            for number in numbers {
                out.push(b' ');
                push_key(value_size, number, out);
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends a request that stores a value under a key.
pub fn push_set(
    protocol: Protocol,
    value_size: usize,
    number: u64,
    value: &[u8],
    out: &mut Vec<u8>,
) {
    let key = |out: &mut Vec<u8>| push_key(value_size, number, out);
    match protocol {
        Protocol::Redis => {
            write!(out, "*3\r\n$3\r\nSET\r\n${KEY_SIZE}\r\n").expect("memory");
            key(out);
            write!(out, "\r\n${}\r\n", value.len()).expect("memory can be written to");
        }
        Protocol::Memcache => {
            out.extend_from_slice(b"set ");
            key(out);
            write!(out, " 0 0 {}\r\n", value.len()).expect("memory can be written to");
        }
    }
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// How large the reply is to a request for so many keys that are all there.
pub fn get_reply_size(protocol: Protocol, value_size: usize, keys_count: usize) -> usize {
    let digits = |number: usize| number.to_string().len();
    match protocol {
        Protocol::Redis => {
            let header = if keys_count == 1 { 0 } else { 3 + digits(keys_count) };
            header + keys_count * (5 + digits(value_size) + value_size)
        }
        Protocol::Memcache => {
            // VALUE <key> 0 <size>\r\n<value>\r\n, and END\r\n behind the last.
            let line = "VALUE ".len() + KEY_SIZE + " 0 ".len() + digits(value_size) + 2;
            keys_count * (line + value_size + 2) + "END\r\n".len()
        }
    }
}

/// How large the reply is to a request that stores a value.
pub fn set_reply_size(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Redis => b"+OK\r\n".len(),
        Protocol::Memcache => b"STORED\r\n".len(),
    }
}

#[cfg(test)]
mod tests {
    use base::Time;
    use embedded::{Session, Store, StoreOptions};

    use super::*;

    #[test]
    fn a_server_answers_as_foretold() {
        for protocol in [Protocol::Redis, Protocol::Memcache] {
            let mut store = Store::new(StoreOptions::default());
            let mut session = Session::new(protocol);
            for size in [1, 64, 1024] {
                let value = value(size);
                let mut requests = Vec::new();
                (0..100).for_each(|n| push_set(protocol, size, n, &value, &mut requests));
                let mut replies = Vec::new();
                session.handle(&mut store, &requests, Time::ZERO, &mut replies);
                assert_eq!(replies.len(), 100 * set_reply_size(protocol));
                for keys in [1, 2, 100] {
                    let (mut requests, mut replies) = (Vec::new(), Vec::new());
                    push_get(
                        protocol,
                        size,
                        (0..keys as u64).collect::<Vec<_>>().into_iter(),
                        &mut requests,
                    );
                    session.handle(&mut store, &requests, Time::ZERO, &mut replies);
                    assert_eq!(replies.len(), get_reply_size(protocol, size, keys));
                }
            }
        }
    }
}
