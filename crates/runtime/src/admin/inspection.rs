//! What a worker is asked beside its counters: about its clients, and about a key.
//!
//! Asked through the mailbox, answered between two turns. Invariant: an answer is bounded.

use std::sync::Arc;
use std::time::Instant;

use base::{Address, Time};
use crossbeam_channel::{Sender, bounded};
use event::EventBase;
use proxy::Proxy;
use proxy::inspect::{ClientView, KeyView};
use proxy::slow_log::SlowEntry;

use crate::mailbox::Message;
use crate::process::{ANSWER_TIMEOUT, Shared};

/// A question to a worker. Whoever asked may have given up when the answer comes.
#[derive(Debug)]
pub enum Inspection {
    /// Who are your clients?
    Clients {
        /// No more than so many.
        max: usize,
        /// For the answer.
        reply: Sender<ClientsAnswer>,
    },
    /// Which requests took long?
    SlowLog {
        /// For the answer.
        reply: Sender<SlowLogAnswer>,
    },
    /// Where does a key of this pool go?
    Explain {
        /// Index of the pool.
        pool: usize,
        /// The key.
        key: Arc<[u8]>,
        /// For the answer.
        reply: Sender<Option<KeyView>>,
    },
}

/// The clients of a worker.
#[derive(Debug)]
pub struct ClientsAnswer {
    /// The time on the worker's clock.
    pub now: Time,
    /// With where they are, if that is known.
    pub clients: Vec<(ClientView, Option<Address>)>,
}

/// The slow requests of a worker.
#[derive(Debug)]
pub struct SlowLogAnswer {
    /// The time on the worker's clock.
    pub now: Time,
    /// Oldest first; at most [`proxy::slow_log::ENTRIES_MAX`].
    pub entries: Vec<SlowEntry>,
}

impl Inspection {
    /// Answers for a worker.
    pub fn answer<B: EventBase>(self, proxy: &Proxy, base: &B) {
        match self {
            Inspection::Clients { max, reply } => {
                let clients = proxy.clients(max).into_iter();
                let clients = clients.map(|client| {
                    let peer = base.peer(client.token);
                    (client, peer)
                });
                let answer = ClientsAnswer { now: base.now(), clients: clients.collect() };
                let _ = reply.try_send(answer);
            }
            Inspection::SlowLog { reply } => {
                let mut entries: Vec<SlowEntry> = proxy.slow_log().cloned().collect();
                for entry in entries.iter_mut().filter(|entry| entry.address.is_none()) {
                    entry.address = base.peer(entry.client);
                }
                let _ = reply.try_send(SlowLogAnswer { now: base.now(), entries });
            }
            Inspection::Explain { pool, key, reply } => {
                let _ = reply.try_send(proxy.explain(pool, &key));
            }
        }
    }
}

impl Shared {
    /// Asks every worker; `None` of one that does not answer in time.
    pub(crate) fn inspect<T>(&self, ask: impl Fn(Sender<T>) -> Inspection) -> Vec<Option<T>> {
        let asked = self.workers.iter().map(|worker| {
            let (sender, answer) = bounded(1);
            worker.send(Message::Inspect(ask(sender)));
            answer
        });
        let answers: Vec<_> = asked.collect();
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        answers.into_iter().map(|answer| answer.recv_deadline(deadline).ok()).collect()
    }

    /// Workers that do not answer in time.
    pub(crate) fn silent_workers(&self) -> Vec<usize> {
        let answers = self.inspect(|reply| Inspection::Clients { max: 0, reply });
        let silent = answers.iter().enumerate().filter(|(_, answer)| answer.is_none());
        silent.map(|(worker, _)| worker).collect()
    }
}
