//! A request on its way, and the two queues that it stands in.
//!
//! One record a request (or part of one), linked into its client's FIFO and into its server's, by
//! index and without allocation. Invariant: a record is free exactly when it stands in neither
//! queue and none of its parts is awaited.

use base::slab::Key;
use base::{Slab, Time};
use protocol::{Expect, Join, Quiet};

use crate::errors::RequestError;

/// No record.
pub(crate) const NONE: u32 = u32::MAX;

/// Who gets the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This client, in its turn.
    Client(Key),
    /// The record of the split request that this is a part of.
    Part { parent: u32, part: u32 },
    /// Nobody: the client left, the reply came too late, or it answers our own handshake.
    Nobody,
}

/// What is known of the reply.
#[derive(Debug)]
pub(crate) enum Reply {
    Waiting,
    /// It came before its turn.
    Bytes(Vec<u8>),
    Failed(RequestError),
    /// It will be joined from the replies to parts.
    Parts(Box<Parts>),
}

impl Reply {
    /// Bytes of a reply that waits.
    pub(crate) fn size(&self) -> usize {
        match self {
            Reply::Bytes(bytes) => bytes.len(),
            Reply::Waiting | Reply::Failed(_) | Reply::Parts(_) => 0,
        }
    }
}

/// The parts of a split request.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) join: Join,
    pub(crate) replies: Vec<Reply>,
    pub(crate) waiting_count: usize,
}

#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) owner: Owner,
    pub(crate) next_in_client: u32,
    pub(crate) next_in_server: u32,
    pub(crate) in_client: bool,
    pub(crate) in_server: bool,
    /// The client wants no reply.
    pub(crate) quiet: Quiet,
    /// Its response may take as long as it likes.
    pub(crate) waits: bool,
    pub(crate) expect: Expect,
    /// When the client gets an error instead. Rises along a server's queue.
    pub(crate) deadline: Option<Time>,
    pub(crate) reply: Reply,
    /// Bytes that were forwarded.
    pub(crate) size: u32,
    /// Place of its command in the protocol's table.
    pub(crate) command: u16,
    /// The turn in which it was parsed; `Time::MAX` of what no client has asked for, and of what
    /// is answered by the parser.
    pub(crate) arrived_at: Time,
}

impl Record {
    pub(crate) fn new(owner: Owner) -> Record {
        Record {
            owner,
            next_in_client: NONE,
            next_in_server: NONE,
            in_client: false,
            in_server: false,
            quiet: Quiet::No,
            waits: false,
            expect: Expect::default(),
            deadline: None,
            reply: Reply::Waiting,
            size: 0,
            command: 0,
            arrived_at: Time::MAX,
        }
    }

    /// Whether the client's queue may let it go.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.reply, Reply::Bytes(_) | Reply::Failed(_))
    }
}

/// Which of a record's two links a queue uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// A first-in, first-out queue through one of the two links of records.
#[derive(Debug)]
pub(crate) struct Fifo {
    side: Side,
    head: u32,
    tail: u32,
    count: u32,
}

impl Fifo {
    pub(crate) fn new(side: Side) -> Fifo {
        Fifo { side, head: NONE, tail: NONE, count: 0 }
    }

    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// The oldest record, or [`NONE`].
    pub(crate) fn head(&self) -> u32 {
        self.head
    }

    /// The record behind this one, or [`NONE`].
    pub(crate) fn next(&self, records: &Slab<Record>, index: u32) -> u32 {
        match self.side {
            Side::Client => records.at(index).next_in_client,
            Side::Server => records.at(index).next_in_server,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, records: &mut Slab<Record>, index: u32) {
        let record = records.at_mut(index);
        match self.side {
            Side::Client => record.in_client = true,
            Side::Server => record.in_server = true,
        }
        if self.tail == NONE {
            self.head = index;
        } else {
            let last = records.at_mut(self.tail);
            match self.side {
                Side::Client => last.next_in_client = index,
                Side::Server => last.next_in_server = index,
            }
        }
        self.tail = index;
        self.count += 1;
    }

    /// Takes the oldest record out of this queue. It is not freed.
    #[inline]
    pub(crate) fn pop(&mut self, records: &mut Slab<Record>) -> Option<u32> {
        let index = self.head;
        if index == NONE {
            return None;
        }
        let record = records.at_mut(index);
        self.head = match self.side {
            Side::Client => {
                record.in_client = false;
                std::mem::replace(&mut record.next_in_client, NONE)
            }
            Side::Server => {
                record.in_server = false;
                std::mem::replace(&mut record.next_in_server, NONE)
            }
        };
        if self.head == NONE {
            self.tail = NONE;
        }
        self.count -= 1;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_record_stands_in_two_queues_at_once() {
        let mut records = Slab::new();
        let mut client = Fifo::new(Side::Client);
        let mut server = Fifo::new(Side::Server);
        let first = records.insert(Record::new(Owner::Nobody)).index;
        let second = records.insert(Record::new(Owner::Nobody)).index;
        client.push(&mut records, first);
        client.push(&mut records, second);
        server.push(&mut records, second);
        server.push(&mut records, first);
        assert_eq!(client.len(), 2);
        assert_eq!(server.next(&records, second), first);
        assert_eq!(server.pop(&mut records), Some(second));
        assert_eq!(client.pop(&mut records), Some(first));
        assert_eq!(client.pop(&mut records), Some(second));
        assert_eq!(server.pop(&mut records), Some(first));
        assert_eq!(client.pop(&mut records), None);
        assert!(client.is_empty() && server.is_empty());
        assert!(!records.at(first).in_client && !records.at(first).in_server);
    }
}
