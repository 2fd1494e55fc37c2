//! A Redis connection: requests are read, the command is looked up, checked and executed.
//!
//! What each command does is in `strings`, `keys`, `collections` and `connection`; their rows are
//! in `commands`. Invariant: each request gets exactly one reply, and one that is refused has
//! changed nothing.

use base::Time;

use crate::Outcome;
use crate::store::{ENTRY_OVERHEAD, Store};
use crate::value::{Kind, Value};

mod collections;
mod commands;
mod connection;
mod keys;
mod reader;
mod reply;
mod strings;

pub use reader::{ARGUMENTS_MAX, HEADER_SIZE_MAX, REQUEST_SIZE_MAX};

use commands::{Canned, Command};
use reader::{Args, Read, Reader};
use reply::Refusal;

/// What a command returns: it has appended its reply, or appended nothing and is refused.
type Executed = Result<(), Refusal>;

/// One client connection.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    reader: Reader,
    login: Login,
}

/// What a client has chosen and shown.
#[derive(Debug, Default)]
struct Login {
    database: usize,
    /// The password was right. Only asked for when there is one.
    authenticated: bool,
    /// What is spoken with the client.
    version: reply::Version,
    /// The client said `QUIT`.
    quits: bool,
}

/// One request in execution.
struct Call<'a> {
    /// The command's name in lower case.
    name: &'static str,
    args: Args<'a>,
    store: &'a mut Store,
    login: &'a mut Login,
    now: Time,
    out: &'a mut Vec<u8>,
}

impl Connection {
    /// Executes the complete requests at the beginning of `bytes`; returns the bytes that need not
    /// be seen again. The first byte is the first of a request.
    pub(crate) fn run(
        &mut self,
        store: &mut Store,
        bytes: &[u8],
        now: Time,
        out: &mut Vec<u8>,
    ) -> (usize, Outcome) {
        let mut start = 0;
        loop {
            let rest = &bytes[start..];
            match self.reader.read(rest, self.login.is_missing(store)) {
                Read::Incomplete => return (start, Outcome::Open),
                Read::Nothing { size } => start += size,
                Read::Broken(refusal) => {
                    reply::refuse(out, &refusal);
                    return (bytes.len(), Outcome::Close);
                }
                Read::Request { size } => {
                    store.drop_expired(now);
                    let args = self.reader.arguments(&rest[..size]);
                    if let Err(refusal) = execute(args, store, &mut self.login, now, out) {
                        reply::refuse(out, &refusal);
                    }
                    if self.login.quits {
                        return (bytes.len(), Outcome::Close);
                    }
                    start += size;
                }
            }
        }
    }
}

impl Login {
    /// Whether the client must present a password first.
    fn is_missing(&self, store: &Store) -> bool {
        store.options().password.is_some() && !self.authenticated
    }
}

/// The checks that come before every command, in Redis' order.
fn execute(
    args: Args<'_>,
    store: &mut Store,
    login: &mut Login,
    now: Time,
    out: &mut Vec<u8>,
) -> Executed {
    let Some(command) = commands::find(args.get(0)) else {
        return Err(unknown_command(args));
    };
    if !command.accepts(args.len()) {
        return Err(reply::wrong_arity(command.name));
    }
    if login.is_missing(store) && !command.before_login {
        return Err(reply::NO_LOGIN);
    }
    if command.grows && !store.has_room(growth_max(args)) {
        return Err(reply::OUT_OF_MEMORY);
    }
    if let Some(value) = store.null_value()
        && command.canned != Canned::Execute
    {
        answer_canned(command, args, value, login.version, out);
        return Ok(());
    }
    (command.run)(&mut Call { name: command.name, args, store, login, now, out })
}

/// The most bytes by which a command with these arguments can make the store grow, whatever it does
/// with them. Refusing by this measure is simple and may refuse a little early.
fn growth_max(args: Args<'_>) -> usize {
    args.from(1).map(|argument| argument.len() + ENTRY_OVERHEAD).sum()
}

/// The reply of a null server.
fn answer_canned(
    command: &Command,
    args: Args<'_>,
    value: &[u8],
    version: reply::Version,
    out: &mut Vec<u8>,
) {
    match command.canned {
        Canned::Ok => reply::status(out, "OK"),
        Canned::One => reply::integer(out, 1),
        Canned::Value => reply::bulk(out, value),
        Canned::Type => reply::status(out, "string"),
        Canned::Values => {
            reply::array(out, args.len() - 1);
            args.from(1).for_each(|_| reply::bulk(out, value));
        }
        Canned::OneValue => {
            reply::array(out, 1);
            reply::bulk(out, value);
        }
        Canned::Member => {
            reply::set(out, version, 1);
            reply::bulk(out, value);
        }
        Canned::Pair => {
            reply::map(out, version, 1);
            reply::bulk(out, b"field");
            reply::bulk(out, value);
        }
        Canned::Execute => unreachable!("the caller executes these"),
    }
}

/// Redis repeats up to this many bytes of the name, and again of the arguments.
const UNKNOWN_ECHO_MAX: usize = 128;

fn unknown_command(args: Args<'_>) -> Refusal {
    // Redis prints C strings: they end at the first NUL.
    let printable = |bytes: &[u8], max: usize| -> Vec<u8> {
        bytes.iter().copied().take_while(|byte| *byte != 0).take(max).collect()
    };
    let mut echo = Vec::new();
    for argument in args.from(1) {
        if echo.len() >= UNKNOWN_ECHO_MAX {
            break;
        }
        let room = UNKNOWN_ECHO_MAX - echo.len();
        echo.push(b'\'');
        echo.extend(printable(argument, room));
        echo.extend(b"' ");
    }
    let name = printable(args.get(0), UNKNOWN_ECHO_MAX);
    Refusal::from_parts(&[b"ERR unknown command '", &name, b"', with args beginning with: ", &echo])
}

/// What several commands need.
impl<'a> Call<'a> {
    /// The value of `key`, if it exists, which must be of this kind.
    fn find(&self, key: &[u8], kind: Kind) -> Result<Option<&Value>, Refusal> {
        match self.store.find(self.login.database, key) {
            Some(value) if value.kind() != kind => Err(reply::WRONG_TYPE),
            found => Ok(found),
        }
    }

    /// The bytes of `key`, if it exists, which must hold bytes.
    fn find_bytes(&self, key: &[u8]) -> Result<Option<&[u8]>, Refusal> {
        Ok(self.find(key, Kind::Bytes)?.and_then(Value::bytes))
    }

    /// Changes the value of `key`, which must be of this kind and is created when it is not there.
    fn edit_or_create<R>(
        &mut self,
        key: &[u8],
        kind: Kind,
        change: impl FnOnce(&mut Value) -> R,
    ) -> Result<R, Refusal> {
        if self.find(key, kind)?.is_none() {
            self.store.put(self.login.database, key, Value::empty(kind));
        }
        Ok(self.store.edit(self.login.database, key, change))
    }

    /// The argument as an integer.
    fn integer(&self, index: usize) -> Result<i64, Refusal> {
        parse_integer(self.args.get(index)).ok_or(reply::NOT_AN_INTEGER)
    }
}

/// An integer in the only form that Redis accepts: no plus, no leading zero, no blank.
fn parse_integer(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let canonical = match digits {
        [b'0'] => bytes.len() == 1,
        [b'1'..=b'9', ..] => true,
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_an_integer() {
        let cases: [(&[u8], Option<i64>); 14] = [
            (b"0", Some(0)),
            (b"-1", Some(-1)),
            (b"10", Some(10)),
            (b"9223372036854775807", Some(i64::MAX)),
            (b"-9223372036854775808", Some(i64::MIN)),
            (b"9223372036854775808", None),
            (b"-0", None),
            (b"+1", None),
            (b"01", None),
            (b" 1", None),
            (b"1 ", None),
            (b"", None),
            (b"-", None),
            (b"1\xff", None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse_integer(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
