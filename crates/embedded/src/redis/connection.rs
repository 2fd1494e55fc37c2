//! Commands about the connection and the server.
//!
//! Nothing here touches data.

use super::reply::Version;
use super::{Call, Executed, parse_integer, reply};
use crate::store::DATABASES_COUNT;

/// The only user that there is.
const USER: &[u8] = b"default";

/// The version whose replies are given.
const VERSION: &str = "7.0.15";

pub(super) fn ping(call: &mut Call<'_>) -> Executed {
    match call.args.len() {
        1 => reply::status(call.out, "PONG"),
        2 => reply::bulk(call.out, call.args.get(1)),
        _ => return Err(reply::wrong_arity(call.name)),
    }
    Ok(())
}

pub(super) fn echo(call: &mut Call<'_>) -> Executed {
    reply::bulk(call.out, call.args.get(1));
    Ok(())
}

pub(super) fn select(call: &mut Call<'_>) -> Executed {
    let index = call.integer(1)?;
    let index = i32::try_from(index).map_err(|_| reply::NOT_A_C_INTEGER)?;
    let index = usize::try_from(index).ok().filter(|index| *index < DATABASES_COUNT);
    call.login.database = index.ok_or(reply::DATABASE)?;
    reply::status(call.out, "OK");
    Ok(())
}

/// `AUTH password` or `AUTH user password`. Where no password is set, any is right.
pub(super) fn auth(call: &mut Call<'_>) -> Executed {
    match call.args.len() {
        2 => log_in(call, USER, 1)?,
        3 => log_in(call, call.args.get(1), 2)?,
        _ => return Err(reply::SYNTAX),
    }
    reply::status(call.out, "OK");
    Ok(())
}

fn log_in(call: &mut Call<'_>, user: &[u8], password_index: usize) -> Executed {
    if let Some(password) = &call.store.options().password
        && (user != USER || password != call.args.get(password_index))
    {
        return Err(reply::WRONG_PASSWORD);
    }
    call.login.authenticated = true;
    Ok(())
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`.
pub(super) fn hello(call: &mut Call<'_>) -> Executed {
    let mut version = call.login.version;
    if call.args.len() > 1 {
        version = match parse_integer(call.args.get(1)).ok_or(reply::NOT_A_VERSION)? {
            2 => Version::Resp2,
            3 => Version::Resp3,
            _ => return Err(reply::NO_SUCH_VERSION),
        };
    }
    let mut index = 2;
    while index < call.args.len() {
        let option = call.args.get(index);
        let left = call.args.len() - index - 1;
        if option.eq_ignore_ascii_case(b"auth") && left >= 2 {
            log_in(call, call.args.get(index + 1), index + 2)?;
            index += 3;
        } else if option.eq_ignore_ascii_case(b"setname") && left >= 1 {
            // No command here shows a connection's name.
            index += 2;
        } else {
            let before = b"ERR Syntax error in HELLO option '";
            return Err(reply::Refusal::from_parts(&[before, option, b"'"]));
        }
    }
    if call.login.is_missing(call.store) {
        return Err(reply::NO_LOGIN_HELLO);
    }
    call.login.version = version;
    let out = &mut *call.out;
    reply::map(out, version, 7);
    for (name, content) in [("server", "redis"), ("version", VERSION)] {
        reply::bulk(out, name.as_bytes());
        reply::bulk(out, content.as_bytes());
    }
    let number = if version == Version::Resp3 { 3 } else { 2 };
    for (name, number) in [("proto", number), ("id", 1)] {
        reply::bulk(out, name.as_bytes());
        reply::integer(out, number);
    }
    for (name, content) in [("mode", "standalone"), ("role", "master")] {
        reply::bulk(out, name.as_bytes());
        reply::bulk(out, content.as_bytes());
    }
    reply::bulk(out, b"modules");
    reply::array(out, 0);
    Ok(())
}

pub(super) fn quit(call: &mut Call<'_>) -> Executed {
    call.login.quits = true;
    reply::status(call.out, "OK");
    Ok(())
}

/// An empty array, whatever is asked: clients ask when they start, and can do without an answer.
pub(super) fn command(call: &mut Call<'_>) -> Executed {
    if call.args.len() > 1 && call.args.get(1).eq_ignore_ascii_case(b"docs") {
        reply::map(call.out, call.login.version, 0);
    } else {
        reply::array(call.out, 0);
    }
    Ok(())
}

/// The few lines that clients look for, whatever section is asked for.
pub(super) fn info(call: &mut Call<'_>) -> Executed {
    let text = format!(
        "# Server\r\nredis_version:{VERSION}\r\nredis_mode:standalone\r\n\r\n\
         # Memory\r\nused_memory:{}\r\nmaxmemory:{}\r\n\r\n\
         # Replication\r\nrole:master\r\n",
        call.store.bytes(),
        call.store.options().bytes_max,
    );
    reply::text(call.out, call.login.version, text.as_bytes());
    Ok(())
}
