//! The table of Redis commands: one row each.
//!
//! Invariant: rows are in the order of their names, by which they are found.

use super::{Call, Executed, collections, connection, keys, strings};

/// One row.
pub(super) struct Command {
    /// In lower case.
    pub(super) name: &'static str,
    /// How many arguments it takes, the name included; a negative number is the least.
    arity: i32,
    /// It may make the store larger, and is refused when that is full.
    pub(super) grows: bool,
    /// It needs no password.
    pub(super) before_login: bool,
    /// What a null server answers.
    pub(super) canned: Canned,
    /// What it does.
    pub(super) run: fn(&mut Call<'_>) -> Executed,
}

/// Replies of a null server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Canned {
    /// The command is executed: it touches no data.
    Execute,
    /// `OK`.
    Ok,
    /// The integer 1.
    One,
    /// The value.
    Value,
    /// The value for each argument.
    Values,
    /// An array of the value alone.
    OneValue,
    /// A set of the value alone.
    Member,
    /// A map of a field to the value.
    Pair,
    /// The word `string`.
    Type,
}

impl Command {
    /// Whether it takes this many arguments, the name included.
    pub(super) fn accepts(&self, count: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { count >= least } else { count == least }
    }
}

/// The command of this name, in any case.
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; NAME_SIZE_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let lower = &*lower;
    let index = COMMANDS.binary_search_by(|row| row.name.as_bytes().cmp(lower)).ok()?;
    Some(&COMMANDS[index])
}

/// The longest name has 9 bytes.
const NAME_SIZE_MAX: usize = 16;

type Run = fn(&mut Call<'_>) -> Executed;

const fn reads(name: &'static str, arity: i32, canned: Canned, run: Run) -> Command {
    Command { name, arity, grows: false, before_login: false, canned, run }
}

const fn grows(name: &'static str, arity: i32, canned: Canned, run: Run) -> Command {
    Command { name, arity, grows: true, before_login: false, canned, run }
}

/// Changes data, but not to more.
const fn shrinks(name: &'static str, arity: i32, canned: Canned, run: Run) -> Command {
    reads(name, arity, canned, run)
}

/// About the connection or the server.
const fn about(name: &'static str, arity: i32, run: Run) -> Command {
    reads(name, arity, Canned::Execute, run)
}

const fn before_login(name: &'static str, arity: i32, run: Run) -> Command {
    Command { before_login: true, ..about(name, arity, run) }
}

static COMMANDS: &[Command] = &[
    grows("append", 3, Canned::One, strings::append),
    before_login("auth", -2, connection::auth),
    about("command", -1, connection::command),
    about("dbsize", 1, keys::dbsize),
    grows("decr", 2, Canned::One, strings::decr),
    grows("decrby", 3, Canned::One, strings::decrby),
    shrinks("del", -2, Canned::One, keys::del),
    about("echo", 2, connection::echo),
    reads("exists", -2, Canned::One, keys::exists),
    shrinks("expire", -3, Canned::One, keys::expire),
    shrinks("flushall", -1, Canned::Ok, keys::flushall),
    reads("get", 2, Canned::Value, strings::get),
    shrinks("getdel", 2, Canned::Value, strings::getdel),
    reads("getrange", 4, Canned::Value, strings::getrange),
    grows("getset", 3, Canned::Value, strings::getset),
    shrinks("hdel", -3, Canned::One, collections::hdel),
    before_login("hello", -1, connection::hello),
    reads("hget", 3, Canned::Value, collections::hget),
    reads("hgetall", 2, Canned::Pair, collections::hgetall),
    reads("hlen", 2, Canned::One, collections::hlen),
    grows("hset", -4, Canned::One, collections::hset),
    grows("incr", 2, Canned::One, strings::incr),
    grows("incrby", 3, Canned::One, strings::incrby),
    about("info", -1, connection::info),
    reads("llen", 2, Canned::One, collections::llen),
    shrinks("lpop", -2, Canned::Value, collections::lpop),
    grows("lpush", -3, Canned::One, collections::lpush),
    reads("lrange", 4, Canned::OneValue, collections::lrange),
    reads("mget", -2, Canned::Values, strings::mget),
    grows("mset", -3, Canned::Ok, strings::mset),
    shrinks("persist", 2, Canned::One, keys::persist),
    shrinks("pexpire", -3, Canned::One, keys::pexpire),
    about("ping", -1, connection::ping),
    reads("pttl", 2, Canned::One, keys::pttl),
    before_login("quit", -1, connection::quit),
    shrinks("rpop", -2, Canned::Value, collections::rpop),
    grows("rpush", -3, Canned::One, collections::rpush),
    grows("sadd", -3, Canned::One, collections::sadd),
    reads("scard", 2, Canned::One, collections::scard),
    about("select", 2, connection::select),
    grows("set", -3, Canned::Ok, strings::set),
    grows("setex", 4, Canned::Ok, strings::setex),
    grows("setnx", 3, Canned::One, strings::setnx),
    grows("setrange", 4, Canned::One, strings::setrange),
    reads("sismember", 3, Canned::One, collections::sismember),
    reads("smembers", 2, Canned::Member, collections::smembers),
    shrinks("srem", -3, Canned::One, collections::srem),
    reads("strlen", 2, Canned::One, strings::strlen),
    reads("touch", -2, Canned::One, keys::exists),
    reads("ttl", 2, Canned::One, keys::ttl),
    reads("type", 2, Canned::Type, keys::type_of),
    shrinks("unlink", -2, Canned::One, keys::del),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_name_in_any_case() {
        assert!(COMMANDS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for row in COMMANDS {
            assert!(row.name.len() <= NAME_SIZE_MAX);
            let found = find(row.name.to_ascii_uppercase().as_bytes()).map(|found| found.name);
            assert_eq!(found, Some(row.name));
        }
        assert!(find(b"").is_none() && find(b"getx").is_none() && find(&[b'a'; 17]).is_none());
    }
}
