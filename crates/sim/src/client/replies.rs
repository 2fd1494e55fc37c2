//! Replies are judged: each must be what the request may get.
//!
//! Nothing is asked here. Invariant: a reply that no rule allows is an error, and says which it is.

use std::collections::VecDeque;
use std::time::Duration;

use protocol::Protocol;

use crate::commands;
use crate::oracle::{Oracle, shown, unit_words};
use crate::wire::{self, Version};
use crate::workload::{Expect, Form, Tie};
use crate::world::{MS, US, World};

use super::{ModelClient, Sent};

/// Replies are judged.
impl ModelClient {
    pub(super) fn check(
        &mut self,
        reply: &[u8],
        world: &mut World,
        oracle: &mut Oracle,
    ) -> Result<(), String> {
        oracle.checked_count += 1;
        world.note("reply", self.connection.unwrap_or(0) as u64, reply.len() as u64);
        if self.protocol == Protocol::Redis && reply.starts_with(b"*3\r\n$7\r\nmessage\r\n") {
            return self.check_message(reply, oracle);
        }
        let Some(sent) = self.sent.pop_front() else {
            let refused = proxy_error(self.protocol, reply) == Some("out of memory");
            self.excused |= refused;
            if refused || oracle.is_tainted(self.pool, world.now, world) {
                return Ok(());
            }
            return Err(format!("a reply to nothing: {}", shown(reply)));
        };
        world.tell(|| format!("client {} got {}", self.index, shown(reply)));
        // It may be closed behind that.
        self.excused |= sent.may_be_refused && is_error(self.protocol, reply);
        let max = world.plan.reply_ns_max(self.pool).filter(|_| !self.slow && !sent.may_wait);
        if max.is_some_and(|max| world.now - sent.at > max) {
            return Err(format!("a reply after its time-out: asked at {} ms", sent.at / MS));
        }
        self.note_tie(&sent, reply, world, oracle)?;
        if self.is_right(&sent, reply, world, oracle) {
            return Ok(());
        }
        let explained = self.is_explained(&sent, reply, world, oracle)?;
        if explained || oracle.is_tainted(self.pool, sent.at, world) {
            return Ok(());
        }
        Err(format!("a wrong reply: {} to {:?}", shown(reply), ShownExpect(&sent.expect)))
    }

    /// A message must be the next one of its channel.
    fn check_message(&mut self, reply: &[u8], oracle: &mut Oracle) -> Result<(), String> {
        let elements = wire::redis_elements(reply).unwrap_or_default();
        let body = |element: &[u8]| {
            let start = element.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            element[start..element.len() - 2].to_vec()
        };
        let [_, channel, payload] = elements[..] else {
            return Err(format!("a message without its parts: {}", shown(reply)));
        };
        let next = oracle.messages.get_mut(&body(channel)).and_then(VecDeque::pop_front);
        match next == Some(body(payload)) {
            true => Ok(()),
            false => Err(format!("not the message that was sent next: {}", shown(reply))),
        }
    }

    /// What a reply says about a connection of the client's own.
    fn note_tie(
        &mut self,
        sent: &Sent,
        reply: &[u8],
        world: &mut World,
        oracle: &mut Oracle,
    ) -> Result<(), String> {
        // PING is passed on for as long as the proxy knows no better.
        self.lingers &= sent.tie != Tie::None || reply == b"+PONG\r\n";
        if sent.tie == Tie::None {
            return Ok(());
        }
        self.tied_count -= usize::from(matches!(sent.tie, Tie::Ends | Tie::Waits));
        self.listens &= sent.tie != Tie::Ends;
        let Expect::Exact(wanted) = &sent.expect else {
            self.may_end |= is_error(self.protocol, reply) && !world.plan.keeps_servers();
            return Ok(());
        };
        if reply != wanted {
            self.may_end |= !world.plan.keeps_servers();
            return Ok(());
        }
        let elements = wire::redis_elements(reply).unwrap_or_default();
        let &[_, channel, _] = elements.as_slice() else { return Ok(()) };
        let start = channel.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let channel = channel[start..channel.len() - 2].to_vec();
        if sent.tie == Tie::Begins {
            self.listens = true;
            world.channels.push(channel);
            let excess = world.channels.len().saturating_sub(4);
            world.channels.drain(..excess);
            return Ok(());
        }
        self.lingers = true;
        match oracle.messages.remove(&channel).is_none_or(|left| left.is_empty()) {
            true => Ok(()),
            false => Err("a message has not come to who listened".to_owned()),
        }
    }

    fn is_right(&mut self, sent: &Sent, reply: &[u8], world: &World, oracle: &mut Oracle) -> bool {
        let expect = match &sent.expect {
            // In RESP3 who listens is answered as anybody.
            Expect::Listening(_, otherwise) if !self.listens || sent.version == Version::Three => {
                otherwise
            }
            Expect::Listening(bytes, _) if bytes.is_empty() => &Expect::Error,
            Expect::Listening(bytes, _) => return reply == bytes,
            expect => expect,
        };
        match expect {
            Expect::Listening(..) => unreachable!("taken out above"),
            Expect::Exact(bytes) => reply == bytes,
            Expect::Single(unit) => oracle.match_reply(unit, reply, sent.at),
            Expect::Count(unit) => oracle.is_sum(unit, reply, sent.at),
            Expect::Error => is_error(self.protocol, reply),
            Expect::Fatal => is_error(self.protocol, reply),
            Expect::Farewell(bytes) => reply == bytes,
            Expect::Hello => reply.starts_with(b"%7\r\n$6\r\nserver\r\n"),
            Expect::Own => true,
            Expect::Nothing => false,
            Expect::Many(Form::Array | Form::Transaction, parts) => {
                let Some(elements) = wire::redis_elements(reply) else { return false };
                let pairs: Vec<_> =
                    parts.iter().map(|(_, unit)| unit.as_slice()).zip(elements).collect();
                pairs.len() == parts.len() && oracle.match_replies(&pairs, sent.at)
            }
            Expect::Many(Form::Ok, parts) => {
                let pairs: Vec<_> =
                    parts.iter().map(|(_, unit)| (unit.as_slice(), reply)).collect();
                reply == b"+OK\r\n" && oracle.match_replies(&pairs, sent.at)
            }
            Expect::Many(Form::Sum, parts) => {
                self.is_right_sum(parts, reply, sent.at, world, oracle)
            }
            Expect::Many(Form::Values, parts) => {
                let (blocks, end) = wire::memcache_blocks(reply);
                let mut blocks = blocks.into_iter().peekable();
                let mut pairs: Vec<(&[u8], &[u8])> = Vec::new();
                for (key, unit) in parts {
                    let block = blocks.next_if(|block| block.key == key.as_slice());
                    pairs.push((unit, block.map_or(b"", |block| block.bytes)));
                }
                blocks.next().is_none()
                    && end == b"END\r\n"
                    && oracle.match_replies(&pairs, sent.at)
            }
        }
    }

    /// The sum lies between the least and the most that servers can have answered.
    fn is_right_sum(
        &self,
        parts: &[(Vec<u8>, Vec<u8>)],
        reply: &[u8],
        since: u64,
        world: &World,
        oracle: &Oracle,
    ) -> bool {
        let text = std::str::from_utf8(reply).unwrap_or("");
        let Some(sum) = text.strip_prefix(':').and_then(|text| text.trim_end().parse::<u64>().ok())
        else {
            return false;
        };
        if world.plan.pools[self.pool].options.database != 0 {
            return sum <= parts.len() as u64;
        }
        let (mut least, mut most) = (0, 0);
        for (_, unit) in parts {
            let (zero, one) = (
                oracle.has_reply(unit, b":0\r\n", since),
                oracle.has_reply(unit, b":1\r\n", since),
            );
            if !zero && !one {
                return false;
            }
            least += u64::from(!zero);
            most += u64::from(one);
        }
        (least..=most).contains(&sum)
    }

    /// Whether an error of the proxy, or values followed by one, may stand in the reply's place.
    fn is_explained(
        &mut self,
        sent: &Sent,
        reply: &[u8],
        world: &World,
        oracle: &mut Oracle,
    ) -> Result<bool, String> {
        if sent.may_be_refused && is_error(self.protocol, reply) {
            self.excused = true;
            return Ok(true);
        }
        if sent.tie != Tie::None && !world.plan.keeps_servers() {
            let aborted = reply.starts_with(b"-EXECABORT ");
            if aborted
                || proxy_error(self.protocol, reply) == Some("the keys are on several servers")
            {
                return Ok(true);
            }
        }
        if world.plan.is_fault_free || (world.healed && self.probes.is_some()) {
            return Ok(false);
        }
        let mut error = reply;
        if let Expect::Many(Form::Values, parts) = &sent.expect {
            let (blocks, end) = wire::memcache_blocks(reply);
            for block in blocks {
                let unit = parts.iter().find(|(key, _)| key == block.key).map(|(_, unit)| unit);
                let right = unit.is_some_and(|unit| oracle.has_reply(unit, block.bytes, sent.at));
                if !right {
                    return Ok(false);
                }
            }
            error = end;
        }
        // One part's own error stands for all.
        if let Expect::Many(_, parts) = &sent.expect
            && is_error(self.protocol, error)
            && parts.iter().any(|(_, unit)| oracle.has_reply(unit, error, sent.at))
        {
            return Ok(true);
        }
        let Some(text) = proxy_error(self.protocol, error) else { return Ok(false) };
        oracle.errors_count += 1;
        self.excused |= text == "out of memory";
        if text == "Connection timed out" && !self.may_time_out(sent, world) {
            return Err(format!("a time-out before its time: asked at {} ms", sent.at / MS));
        }
        if SERVER_ERRORS.contains(&text) && !self.may_fail(sent, world, oracle) {
            return Err(format!("{text}, though no server of its keys has failed"));
        }
        Ok(true)
    }

    /// Whether a server of one of the keys may have failed. A request without a key, or with one
    /// that only its parser knows, may have gone anywhere.
    fn may_fail(&self, sent: &Sent, world: &World, oracle: &mut Oracle) -> bool {
        let keys: Vec<Vec<u8>> = match &sent.expect {
            Expect::Single(unit) => {
                let words = unit_words(unit);
                if commands::goes_everywhere(&words[0]) {
                    return true;
                }
                commands::key_of(self.protocol, &words).into_iter().collect()
            }
            Expect::Many(_, parts) => parts.iter().map(|(key, _)| key.clone()).collect(),
            _ => return true,
        };
        let servers_count = world.plan.pools[self.pool].servers_count;
        keys.is_empty()
            || keys.iter().any(|key| {
                (0..servers_count).any(|server| oracle.may_have_failed(self.pool, key, server))
            })
    }

    fn may_time_out(&self, sent: &Sent, world: &World) -> bool {
        let waited = world.now - sent.at;
        let network = &world.plan.network;
        let slowest = 3 * network.latency_us_max * US + 2 * MS;
        let connects_slowly = network.silent_connect_pm > 0
            || network.pause_pm > 0
            || (world.plan.server.down_silently && world.plan.server.restart_pm > 0)
            || world
                .plan
                .options_of(self.pool)
                .any(|options| options.connect_timeout.as_nanos() as u64 <= slowest);
        let is_over = |most: Duration| u128::from(waited) >= most.as_nanos();
        connects_slowly
            || world
                .plan
                .options_of(self.pool)
                .any(|known| known.request_timeout.is_some_and(is_over))
            || world.server_closed_at.is_some_and(|at| at >= sent.at)
    }
}

struct ShownExpect<'a>(&'a Expect);

impl std::fmt::Debug for ShownExpect<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Expect::Single(unit) => f.write_str(&shown(unit)),
            Expect::Many(form, parts) => {
                write!(f, "{form:?}")?;
                parts.iter().try_for_each(|(_, unit)| write!(f, " | {}", shown(unit)))
            }
            other => write!(f, "{other:?}"),
        }
    }
}

fn is_error(protocol: Protocol, reply: &[u8]) -> bool {
    match protocol {
        Protocol::Redis => reply.starts_with(b"-"),
        Protocol::Memcache => [b"ERROR".as_slice(), b"CLIENT_ERROR ", b"SERVER_ERROR "]
            .iter()
            .any(|word| reply.starts_with(word)),
    }
}

/// The text of an error of the proxy's own.
fn proxy_error(protocol: Protocol, reply: &[u8]) -> Option<&'static str> {
    let prefix: &[u8] = match protocol {
        Protocol::Redis => b"-ERR ",
        Protocol::Memcache => b"SERVER_ERROR ",
    };
    let text = reply.strip_prefix(prefix)?.strip_suffix(b"\r\n")?;
    PROXY_ERRORS.iter().copied().find(|known| known.as_bytes() == text)
}

/// Those that stand for a server that failed.
const SERVER_ERRORS: [&str; 4] =
    ["Connection refused", "Connection reset by peer", "Broken pipe", "Connection timed out"];

const PROXY_ERRORS: [&str; 15] = [
    "the servers have changed: begin again with cursor 0",
    // Something else than the answer to HELLO may have come.
    protocol::VERSION_REFUSED,
    "Connection refused",
    "Connection reset by peer",
    "Broken pipe",
    "Connection timed out",
    "unknown",
    "Invalid argument",
    "Host is down",
    "server queue is full",
    "out of memory",
    "unexpected response to a part of the request",
    "a server answered a key that was not asked for",
    "too many dedicated connections",
    "the keys are on several servers",
];
