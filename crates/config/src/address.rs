//! The two forms of address in the file: where a pool listens, and an entry of its servers.
//!
//! Text in, parts out; nothing is looked up here. Invariant: a server's entry is cut from the right
//! as twemproxy cuts it, and its effective name, which decides where keys are placed, is
//! twemproxy's to the byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use base::Address;
use proxy::options::{ServerAddress, ServerOptions};

/// A server on this port is named by its host alone: twemproxy keeps the placement of libmemcached,
/// which leaves memcached's own port out of the name.
const PORT_LEFT_OUT: u16 = 11_211;

const TOO_FEW: &str = "has no port or no weight";

/// A pool's address as it was typed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// Needs no look-up.
    Inet(SocketAddr),
    /// A host's name, to be looked up.
    Host(String, u16),
    /// A unix socket and its mode, if one was given.
    Unix(PathBuf, Option<u32>),
}

/// Reads the value of `listen`. The error says what is wrong with it.
pub(crate) fn listen(text: &str) -> Result<Listen, String> {
    if text.starts_with('/') {
        let (path, mode) = match text.rsplit_once(' ') {
            Some((path, mode)) => (path, octal_mode(mode)?),
            None => (text, None),
        };
        return Ok(Listen::Unix(unix_path(path)?, mode));
    }
    let (host, port_text) = text.rsplit_once(':').ok_or("has no port")?;
    let port = port(port_text)?;
    let host = match host {
        "" => return Err(format!("has no host (every address of the machine is 0.0.0.0:{port})")),
        // The C library takes `*` for loopback, and so does twemproxy; people mean every address.
        "*" => return Ok(Listen::Inet((Ipv4Addr::UNSPECIFIED, port).into())),
        host => bare_host(host)?,
    };
    Ok(match host.parse::<IpAddr>() {
        Ok(address) => Listen::Inet((address, port).into()),
        Err(_) => Listen::Host(host.to_owned(), port),
    })
}

/// Reads one entry of `servers`. The error says what is wrong with it.
pub(crate) fn server(text: &str) -> Result<ServerOptions, String> {
    let (rest, given_name) = match text.rsplit_once(' ') {
        Some((rest, name)) => (rest, Some(name)),
        None => (text, None),
    };
    if given_name == Some("") {
        return Err("ends with a space, behind which a name is missing".to_owned());
    }
    let (address_text, weight_text) = rest.rsplit_once(':').ok_or(TOO_FEW)?;
    let weight =
        number(weight_text).filter(|weight| (1..=i32::MAX as u32).contains(weight)).ok_or_else(
            || format!("has the weight '{weight_text}', which must be 1 to {}", i32::MAX),
        )?;
    let (address, effective_name) = if address_text.starts_with('/') {
        if address_text.contains(':') {
            return Err("has a colon in its path, which can't be told from the weight's".to_owned());
        }
        // The trailing colon is a slip of twemproxy's that every placement depends on.
        (ServerAddress::Unix(unix_path(address_text)?), format!("{address_text}:"))
    } else {
        let (host_text, port_text) = address_text.rsplit_once(':').ok_or(TOO_FEW)?;
        let port = port(port_text)?;
        let host = bare_host(host_text)?.to_owned();
        let name = if port == PORT_LEFT_OUT { host_text } else { address_text };
        (ServerAddress::Inet { host, port }, name.to_owned())
    };
    let name = given_name.map_or(effective_name, str::to_owned);
    Ok(ServerOptions { name, address, weight })
}

/// Decimal digits alone, as twemproxy wants them; too many are no number.
pub(crate) fn digits(text: &str) -> Option<u64> {
    let only_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    only_digits.then(|| text.parse().ok()).flatten()
}

fn number(text: &str) -> Option<u32> {
    digits(text).and_then(|number| u32::try_from(number).ok())
}

fn port(text: &str) -> Result<u16, String> {
    let port = digits(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    port.ok_or_else(|| format!("has the port '{text}', which must be 1 to 65535"))
}

/// A host without the brackets that an IPv6 address may have.
fn bare_host(text: &str) -> Result<&str, String> {
    if text.is_empty() {
        return Err("has no host".to_owned());
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("has the host '{text}', which must not contain spaces"));
    }
    let Some(inner) = text.strip_prefix('[') else { return Ok(text) };
    inner
        .strip_suffix(']')
        .filter(|inner| inner.parse::<Ipv6Addr>().is_ok())
        .ok_or_else(|| format!("has the host '{text}': brackets must hold an IPv6 address"))
}

fn unix_path(text: &str) -> Result<PathBuf, String> {
    if text.len() > Address::PATH_SIZE_MAX {
        let size = text.len();
        return Err(format!(
            "has a path of {size} bytes, which must be at most {}",
            Address::PATH_SIZE_MAX
        ));
    }
    if text.contains(char::is_control) {
        return Err("has a control character in its path".to_owned());
    }
    Ok(PathBuf::from(text))
}

/// 0 leaves what the umask gives, as in twemproxy.
fn octal_mode(text: &str) -> Result<Option<u32>, String> {
    let octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = octal.then(|| u32::from_str_radix(text, 8).ok()).flatten();
    match mode {
        Some(0) => Ok(None),
        Some(mode) if mode <= 0o777 => Ok(Some(mode)),
        _ => Err(format!("has the mode '{text}', which must be octal, 0000 to 0777")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn inet(host: &str, port: u16) -> ServerAddress {
        ServerAddress::Inet { host: host.to_owned(), port }
    }

    fn unix(path: &str) -> ServerAddress {
        ServerAddress::Unix(PathBuf::from(path))
    }

    #[test]
    fn entries_are_cut_from_the_right_and_named_as_twemproxy_names_them() {
        let table = [
            ("127.0.0.1:6379:1", inet("127.0.0.1", 6379), 1, "127.0.0.1:6379"),
            ("127.0.0.1:11211:1", inet("127.0.0.1", 11_211), 1, "127.0.0.1"),
            ("cache:011211:3", inet("cache", 11_211), 3, "cache"),
            ("127.0.0.1:06379:007", inet("127.0.0.1", 6379), 7, "127.0.0.1:06379"),
            ("127.0.0.1:6379:1 alpha", inet("127.0.0.1", 6379), 1, "alpha"),
            ("127.0.0.1:6379:1 a:b:1", inet("127.0.0.1", 6379), 1, "a:b:1"),
            ("::1:6379:1", inet("::1", 6379), 1, "::1:6379"),
            ("[::1]:6379:1", inet("::1", 6379), 1, "[::1]:6379"),
            ("[::1]:11211:1", inet("::1", 11_211), 1, "[::1]"),
            ("/run/redis.sock:1", unix("/run/redis.sock"), 1, "/run/redis.sock:"),
            ("/run/redis.sock:2 one", unix("/run/redis.sock"), 2, "one"),
            ("/run/a b:2 one", unix("/run/a b"), 2, "one"),
            ("h:1:2147483647", inet("h", 1), i32::MAX as u32, "h:1"),
        ];
        for (text, address, weight, name) in table {
            let expected = ServerOptions { name: name.to_owned(), address, weight };
            assert_eq!(server(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn entries_that_are_wrong_say_which_part() {
        let table = [
            ("127.0.0.1", "no port or no weight"),
            ("127.0.0.1:6379", "no port or no weight"),
            ("127.0.0.1:6379:0", "weight '0'"),
            ("127.0.0.1:6379:-1", "weight '-1'"),
            ("127.0.0.1:6379:2147483648", "weight '2147483648'"),
            ("127.0.0.1:6379:99999999999999999999", "weight"),
            ("127.0.0.1:6379:1 two names", "weight '1 two'"),
            ("127.0.0.1:6379:1 ", "a name is missing"),
            ("127.0.0.1:0:1", "port '0'"),
            ("127.0.0.1:65536:1", "port '65536'"),
            (":6379:1", "no host"),
            ("[::1:6379:1", "brackets"),
            ("[localhost]:6379:1", "brackets"),
            ("a b:6379:1 name", "spaces"),
            ("/run/a:b:1", "colon in its path"),
            ("/run/a", "no port or no weight"),
        ];
        for (text, part) in table {
            let message = server(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn listen_addresses_are_read() {
        let table = [
            ("127.0.0.1:22121", Listen::Inet("127.0.0.1:22121".parse().unwrap())),
            ("0.0.0.0:022121", Listen::Inet("0.0.0.0:22121".parse().unwrap())),
            ("*:22121", Listen::Inet("0.0.0.0:22121".parse().unwrap())),
            ("::1:22121", Listen::Inet("[::1]:22121".parse().unwrap())),
            ("[::1]:22121", Listen::Inet("[::1]:22121".parse().unwrap())),
            (":::22121", Listen::Inet("[::]:22121".parse().unwrap())),
            ("localhost:22121", Listen::Host("localhost".to_owned(), 22_121)),
            ("/run/weir", Listen::Unix(PathBuf::from("/run/weir"), None)),
            ("/run/weir 0666", Listen::Unix(PathBuf::from("/run/weir"), Some(0o666))),
            ("/run/weir 0", Listen::Unix(PathBuf::from("/run/weir"), None)),
            ("/run/a b 777", Listen::Unix(PathBuf::from("/run/a b"), Some(0o777))),
        ];
        for (text, expected) in table {
            assert_eq!(listen(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn listen_addresses_that_are_wrong_say_which_part() {
        let long = format!("/{}", "x".repeat(Address::PATH_SIZE_MAX));
        let table = [
            ("127.0.0.1", "no port"),
            (":22121", "0.0.0.0:22121"),
            ("127.0.0.1:", "port ''"),
            ("127.0.0.1:65536", "port '65536'"),
            ("127.0.0.1:+1", "port '+1'"),
            ("[127.0.0.1]:1", "brackets"),
            ("/run/weir 0888", "mode '0888'"),
            ("/run/weir 1000", "mode '1000'"),
            ("/run/weir rw", "mode 'rw'"),
            (long.as_str(), "108 bytes"),
        ];
        for (text, part) in table {
            let message = listen(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn a_path_may_have_the_most_bytes_that_the_kernel_takes() {
        let longest = format!("/{}", "x".repeat(Address::PATH_SIZE_MAX - 1));
        assert!(listen(&longest).is_ok());
        assert!(server(&format!("{longest}:1")).is_ok());
    }
}
