//! What a model server of Redis remembers of a connection, where the embedded server does not: a
//! transaction, a watch, channels, and a request that waits.
//!
//! A real server takes nearly everything at any time. This one holds the proxy to what it promises:
//! such a connection is one client's alone, and is handed on only as it was. Invariant: whatever
//! comes at the wrong time is an error, and says which.

use std::collections::BTreeSet;

use crate::commands;
use crate::oracle::shown;

/// The words of a request, and its bytes.
pub type Call = (Vec<Vec<u8>>, Vec<u8>);

/// See the module's text.
#[derive(Debug, Default)]
pub struct Tied {
    queued: Option<Vec<Call>>,
    watches: bool,
    /// What is listened to.
    pub channels: BTreeSet<Vec<u8>>,
    /// It has been listened on: the proxy asks at its own time whether it still is.
    has_listened: bool,
    /// It speaks RESP3, which has a form of its own for what answers no request.
    pub pushes: bool,
    /// Until then a request waits.
    pub waits_until: u64,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Step {
    /// It is executed at once.
    Execute,
    /// These are, and their replies are one.
    ExecuteAll(Vec<Call>),
    /// It is answered with this.
    Answer(Vec<u8>),
    /// It waits for a while, and is answered then, with its last word.
    Wait,
    /// Whoever listens hears of it.
    Publish,
}

impl Tied {
    /// A request has come.
    pub fn take(&mut self, words: &[Vec<u8>], request: &[u8], now: u64) -> Result<Step, String> {
        let name = words[0].to_ascii_lowercase();
        let wrong = |text: &str| Err(format!("{text}: {}", shown(request)));
        if now < self.waits_until {
            return wrong("a request behind one that waits");
        }
        if name == b"hello" {
            self.pushes = words.get(1).is_some_and(|version| version == b"3");
        }
        if name.ends_with(b"subscribe") {
            return match self.queued.is_some() || self.watches {
                true => wrong("a subscription in a transaction"),
                false => Ok(Step::Answer(self.subscribe(&name, &words[1..]))),
            };
        }
        if self.has_listened && name == b"ping" {
            return Ok(Step::Answer(self.pong(words.get(1).map(Vec::as_slice))));
        }
        if !self.channels.is_empty() {
            return wrong("a request on a connection that listens");
        }
        match (name.as_slice(), &mut self.queued) {
            (b"multi", None) => {
                self.queued = Some(Vec::new());
                Ok(Step::Answer(b"+OK\r\n".to_vec()))
            }
            (b"exec", Some(queued)) => {
                let all = std::mem::take(queued);
                (self.queued, self.watches) = (None, false);
                Ok(Step::ExecuteAll(all))
            }
            (b"discard", Some(_)) => {
                (self.queued, self.watches) = (None, false);
                Ok(Step::Answer(b"+OK\r\n".to_vec()))
            }
            (b"multi" | b"watch", Some(_)) | (b"exec" | b"discard", None) => {
                wrong("out of place in, or outside of, a transaction")
            }
            (_, Some(queued)) => {
                queued.push((words.to_vec(), request.to_vec()));
                Ok(Step::Answer(b"+QUEUED\r\n".to_vec()))
            }
            (b"watch", None) => {
                self.watches = true;
                Ok(Step::Answer(b"+OK\r\n".to_vec()))
            }
            (b"unwatch", None) => {
                self.watches = false;
                Ok(Step::Answer(b"+OK\r\n".to_vec()))
            }
            (name, None) if self.watches => {
                wrong(&format!("{} where a key is watched", name.escape_ascii()))
            }
            (name, None) if commands::waits(name, words) => Ok(Step::Wait),
            (b"publish", None) => Ok(Step::Publish),
            (_, None) => Ok(Step::Execute),
        }
    }

    fn pong(&self, word: Option<&[u8]>) -> Vec<u8> {
        let mut reply = Vec::new();
        match (self.channels.is_empty() || self.pushes, word) {
            (true, None) => return b"+PONG\r\n".to_vec(),
            (true, Some(_)) => {}
            (false, _) => reply.extend_from_slice(b"*2\r\n$4\r\npong\r\n"),
        }
        push_bulk(&mut reply, word.unwrap_or_default());
        reply
    }

    fn subscribe(&mut self, name: &[u8], channels: &[Vec<u8>]) -> Vec<u8> {
        self.has_listened = true;
        let mut reply = Vec::new();
        for channel in channels {
            if name.windows(2).any(|pair| pair == b"un") {
                self.channels.remove(channel);
            } else {
                self.channels.insert(channel.clone());
            }
            reply.extend_from_slice(if self.pushes { b">3\r\n" } else { b"*3\r\n" });
            push_bulk(&mut reply, name);
            push_bulk(&mut reply, channel);
            reply.extend_from_slice(format!(":{}\r\n", self.channels.len()).as_bytes());
        }
        reply
    }
}

/// Appends a bulk string.
pub fn push_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}
