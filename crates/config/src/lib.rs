//! The configuration: twemproxy's file as it is, Weir's own keys beside twemproxy's.
//!
//! Three steps, one module each: `low` is what was typed, with its lines; `check` makes of it what
//! runs, with the table of keys in `keys`; `error` holds everything that is wrong, at once. It
//! binds nothing, and of all names it looks up only those of listening hosts. Invariant: a
//! [`Config`] is right in itself: `PoolOptions::validate` finds nothing in any of its pools.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use proxy::options::PoolOptions;

mod address;
mod check;
mod error;
mod keys;
mod low;
mod reference;

pub use error::{ConfigError, Errors};
pub use reference::reference;

/// The largest configuration, in bytes. Default 1 MiB: some ten thousand servers, and small
/// enough to be read before anything in it is trusted.
pub const FILE_SIZE_MAX: usize = 1 << 20;

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// At least one, in the order of [`routing::name_order`]. Here `client_connections_max` is a
    /// number for the whole process; the runtime shares it out.
    pub pools: Vec<PoolOptions>,
}

/// Reads and checks a file. The errors name it as `path` does.
pub fn load(path: impl AsRef<Path>) -> Result<Config, Errors> {
    let path = path.as_ref();
    let file_name = path.display().to_string();
    match read(path) {
        Ok(bytes) => parse_bytes(&bytes, &file_name, &resolve),
        Err(error) => {
            let mut report = error::Report::new(&file_name);
            report.file(format!("cannot be read: {error}"));
            report.finish(Config { pools: Vec::new() })
        }
    }
}

/// Checks a text. The errors name it `file_name`. Looks up the names of listening hosts.
pub fn parse(text: &str, file_name: &str) -> Result<Config, Errors> {
    parse_bytes(text.as_bytes(), file_name, &resolve)
}

/// The first address of a host, as the system's resolver gives them; may take as long as it does.
fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let no_address = || io::Error::new(io::ErrorKind::NotFound, "the answer is empty");
    (host, port).to_socket_addrs()?.next().ok_or_else(no_address)
}

/// One byte more than the limit is enough to see that it is exceeded.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_SIZE_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse_bytes(
    bytes: &[u8],
    file_name: &str,
    resolve: check::Resolve<'_>,
) -> Result<Config, Errors> {
    let mut report = error::Report::new(file_name);
    let mut pools = Vec::new();
    if bytes.len() > FILE_SIZE_MAX {
        report.file(format!("is too large: must be at most {FILE_SIZE_MAX} bytes"));
    } else {
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                let text = text.strip_prefix('\u{feff}').unwrap_or(text);
                let typed = low::read(text, &mut report);
                pools = check::check(&typed, resolve, &mut report);
            }
            Err(error) => {
                let before = &bytes[..error.valid_up_to()];
                let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
                let line = u32::try_from(line).expect("the size was checked above");
                report.at(line, "has a byte that is not UTF-8: save the file as UTF-8");
            }
        }
    }
    report.finish(Config { pools })
}

/// Entry point for fuzzing: no input may panic, hang or grow without bound. Looks nothing up.
pub fn fuzz_config(data: &[u8]) {
    let no_names = |_: &str, _: u16| Err(io::Error::from(io::ErrorKind::NotFound));
    match parse_bytes(data, "fuzz.yml", &no_names) {
        Ok(config) => {
            assert!(!config.pools.is_empty(), "an accepted configuration has a pool");
            for pool in &config.pools {
                assert_eq!(pool.validate(), Vec::<String>::new());
            }
        }
        Err(errors) => assert!(errors.iter().next().is_some(), "a refusal has a reason"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str = "alpha:\n  listen: cache.example:22121\n  servers:\n  - a:1:1\n";

    #[test]
    fn the_name_of_a_listening_host_is_looked_up_and_no_server_is() {
        let resolve = |host: &str, port: u16| {
            assert_eq!((host, port), ("cache.example", 22_121));
            Ok(SocketAddr::from(([10, 0, 0, 1], port)))
        };
        let config = parse_bytes(TEXT.as_bytes(), "weir.yml", &resolve).unwrap();
        let expected = base::Address::Inet("10.0.0.1:22121".parse().unwrap());
        assert_eq!(config.pools[0].listen.address, expected);
    }

    #[test]
    fn a_listening_host_without_an_address_is_an_error_with_its_line() {
        let resolve = |_: &str, _: u16| Err(io::Error::other("no such host"));
        let errors = parse_bytes(TEXT.as_bytes(), "weir.yml", &resolve).unwrap_err();
        let expected = "weir.yml:2: pool 'alpha': listen 'cache.example:22121': the host \
                        'cache.example' has no address (no such host)";
        assert!(errors.to_string().starts_with(expected), "{errors}");
    }

    #[test]
    fn literal_addresses_are_never_looked_up() {
        let resolve = |host: &str, _: u16| -> io::Result<SocketAddr> { panic!("{host}") };
        for address in ["127.0.0.1:1", "\"*:1\"", "::1:1", "\"[::1]:1\"", "/tmp/weir.sock"] {
            let text = TEXT.replace("cache.example:22121", address);
            assert!(parse_bytes(text.as_bytes(), "weir.yml", &resolve).is_ok(), "{address}");
        }
    }
}
