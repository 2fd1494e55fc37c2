//! `CLIENT`: what a client says of itself and asks about itself. Other clients are none of its
//! business here: they may be those of other workers, and of other pools. Invariant: a name or a
//! version that is kept is a printable word, so that it can't break a line that shows it.

use super::{Words, raw, text};
use crate::decimal;
use crate::redis::reply::{ECHO_SIZE_MAX, error, printable, refused, wrong_arity};
use crate::redis::{push_bulk, push_null};
use crate::{Labels, Parsed, Profile, Scratch, Then};

pub(super) const BAD_NAME: &str =
    "Client names cannot contain spaces, newlines or special characters.";

/// The most bytes that are kept of a name or a version: they cost memory while the client stays.
const LABEL_SIZE_MAX: usize = 256;

pub(super) fn answer(
    words: &Words<'_>,
    size: usize,
    profile: &Profile,
    scratch: &mut Scratch,
) -> Parsed {
    let subcommand = words.get(1).to_ascii_lowercase();
    let count_wanted = match subcommand.as_slice() {
        b"id" | b"getname" | b"info" => 2,
        b"setname" | b"no-evict" | b"no-touch" => 3,
        b"setinfo" => 4,
        b"list" => return list(words, size, profile, scratch),
        b"reply" | b"tracking" | b"caching" | b"trackinginfo" | b"getredir" | b"pause"
        | b"unpause" | b"unblock" | b"kill" | b"help" => {
            return refused(&format!("client|{}", subcommand.escape_ascii()), size, scratch);
        }
        _ => {
            let name = printable(words.get(1), ECHO_SIZE_MAX);
            let pieces = [b"unknown subcommand '", name, b"'. Try CLIENT HELP."];
            return error(&pieces, size, scratch);
        }
    };
    if words.count() != count_wanted {
        let name = format!("client|{}", subcommand.escape_ascii());
        return wrong_arity(&name, size, scratch);
    }
    let version = profile.version;
    match subcommand.as_slice() {
        b"id" => raw(format!(":{}\r\n", profile.id).as_bytes(), size, scratch),
        b"getname" => get_name(size, profile, scratch),
        b"info" => text(&line(profile), size, version, scratch),
        b"setname" => set_name_to(words.get(2), size, profile, scratch),
        b"setinfo" => set_info(words, size, profile, scratch),
        _ if words.is(2, "on") || words.is(2, "off") => raw(b"+OK\r\n", size, scratch),
        _ => error(&[b"syntax error"], size, scratch),
    }
}

/// Whether a client may call itself, or its library, so.
pub(super) fn is_label(word: &[u8]) -> bool {
    word.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// Names a connection; an empty name takes its name away.
pub(super) fn set_name(profile: &mut Profile, name: &[u8]) {
    set_label(profile, name, |labels| &mut labels.name);
}

/// Changes one label. When none is left their memory goes back.
fn set_label(
    profile: &mut Profile,
    word: &[u8],
    which: impl FnOnce(&mut Labels) -> &mut Box<[u8]>,
) {
    let labels = profile.labels.get_or_insert_default();
    *which(labels) = word[..word.len().min(LABEL_SIZE_MAX)].into();
    if **labels == Labels::default() {
        profile.labels = None;
    }
}

fn get_name(size: usize, profile: &Profile, scratch: &mut Scratch) -> Parsed {
    match profile.name() {
        b"" => push_null(&mut scratch.reply, profile.version, b"$-1\r\n"),
        name => push_bulk(&mut scratch.reply, name),
    }
    Parsed::Reply { size, then: Then::Continue, fault: false }
}

fn set_name_to(name: &[u8], size: usize, profile: &Profile, scratch: &mut Scratch) -> Parsed {
    if !is_label(name) {
        return error(&[BAD_NAME.as_bytes()], size, scratch);
    }
    let mut next = profile.clone();
    set_name(&mut next, name);
    scratch.profile = Some(next);
    raw(b"+OK\r\n", size, scratch)
}

/// `CLIENT SETINFO LIB-NAME name` and `CLIENT SETINFO LIB-VER version`
fn set_info(words: &Words<'_>, size: usize, profile: &Profile, scratch: &mut Scratch) -> Parsed {
    let (attribute, value) = (words.get(2), words.get(3));
    let name = match attribute.to_ascii_lowercase().as_slice() {
        b"lib-name" => "lib-name",
        b"lib-ver" => "lib-ver",
        _ => {
            let shown = printable(attribute, ECHO_SIZE_MAX);
            return error(&[b"Unrecognized option '", shown, b"'"], size, scratch);
        }
    };
    if !is_label(value) {
        let text = b" cannot contain spaces, newlines or special characters.";
        return error(&[name.as_bytes(), text], size, scratch);
    }
    let mut next = profile.clone();
    set_label(&mut next, value, |labels| match name {
        "lib-name" => &mut labels.library,
        _ => &mut labels.library_version,
    });
    scratch.profile = Some(next);
    raw(b"+OK\r\n", size, scratch)
}

/// `CLIENT LIST [TYPE type] [ID id ...]`: of all clients, which may be those of other workers, only
/// the one that asks.
fn list(words: &Words<'_>, size: usize, profile: &Profile, scratch: &mut Scratch) -> Parsed {
    let ids = 3..words.count();
    let shown = match (words.count(), words.is(2, "id")) {
        (2, _) => true,
        (4.., true) => {
            if ids.clone().any(|i| decimal::integer(words.get(i)).is_none_or(|id| id < 1)) {
                return error(&[b"Invalid client ID"], size, scratch);
            }
            ids.clone().any(|i| decimal::integer(words.get(i)) == Some(profile.id as i64))
        }
        (4, _) if words.is(2, "type") => match words.get(3).to_ascii_lowercase().as_slice() {
            b"normal" => true,
            b"master" | b"replica" | b"slave" | b"pubsub" => false,
            kind => {
                let kind = printable(kind, ECHO_SIZE_MAX);
                return error(&[b"Unknown client type '", kind, b"'"], size, scratch);
            }
        },
        _ => return error(&[b"syntax error"], size, scratch),
    };
    let lines = if shown { line(profile) } else { Vec::new() };
    text(&lines, size, profile.version, scratch)
}

/// The client as `CLIENT INFO` shows it: of a server's fields those that there is something to say
/// about.
fn line(profile: &Profile) -> Vec<u8> {
    let [library, version] = profile.library().map(String::from_utf8_lossy);
    let name = String::from_utf8_lossy(profile.name());
    let resp = profile.version.number();
    let id = profile.id;
    format!("id={id} name={name} db=0 resp={resp} lib-name={library} lib-ver={version}\n")
        .into_bytes()
}
