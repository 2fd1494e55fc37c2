//! The table of sockets, one a kind, and the close protocol that both of the kernel's back ends
//! follow.
//!
//! It starts no operation. Invariant: a slot is given up only when none of its operations
//! is in flight, and a token finds a slot only while it is the same use of it.

use std::os::fd::OwnedFd;

use base::{Address, Kind, Token};

use crate::socket::peer_address;

use crate::{Event, socket};

/// An operation of a socket, as a bit of [`Slot::in_flight`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Operation {
    Accept = 1,
    Connect = 2,
    Recv = 4,
    Send = 8,
}

/// One socket. `Io` is what the back end knows about it besides.
pub(crate) struct Slot<Io> {
    pub(crate) token: Token,
    /// `None` only when `connect` could not make one.
    pub(crate) socket: Option<OwnedFd>,
    pub(crate) closing: bool,
    in_flight: u8,
    pub(crate) io: Io,
}

impl<Io> Slot<Io> {
    /// Notes that an operation was started. Asserts that it was not under way: of each kind there
    /// is at most one.
    pub(crate) fn start(&mut self, operation: Operation) {
        assert!(!self.is_in_flight(operation), "{:?}: {operation:?} is under way", self.token);
        self.in_flight |= operation as u8;
    }

    /// Notes that an operation ended.
    pub(crate) fn end(&mut self, operation: Operation) {
        debug_assert!(self.is_in_flight(operation));
        self.in_flight &= !(operation as u8);
    }

    pub(crate) fn is_in_flight(&self, operation: Operation) -> bool {
        self.in_flight & operation as u8 != 0
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.in_flight == 0
    }
}

/// See the module's text.
pub(crate) struct Slots<Io> {
    tables: [Vec<Option<Slot<Io>>>; Kind::COUNT],
    /// Closing, and without operations: the next `wait` says `Closed`.
    closable: Vec<Token>,
}

impl<Io> Slots<Io> {
    pub(crate) fn new() -> Slots<Io> {
        Slots { tables: [const { Vec::new() }; Kind::COUNT], closable: Vec::new() }
    }

    /// Panics when the slot is taken: the owner may name it again only after `Closed`.
    pub(crate) fn insert(&mut self, token: Token, socket: Option<OwnedFd>, io: Io) {
        let table = &mut self.tables[token.kind() as usize];
        let index = token.index() as usize;
        if index >= table.len() {
            table.resize_with(index + 1, || None);
        }
        if let Some(slot) = &table[index] {
            panic!("{token:?} names the slot of {:?}, which is not closed", slot.token);
        }
        table[index] = Some(Slot { token, socket, closing: false, in_flight: 0, io });
    }

    /// The slot, if it is still this use of it.
    #[inline]
    pub(crate) fn get(&mut self, token: Token) -> Option<&mut Slot<Io>> {
        let table = &mut self.tables[token.kind() as usize];
        match table.get_mut(token.index() as usize) {
            Some(Some(slot)) if slot.token == token => Some(slot),
            _ => None,
        }
    }

    /// Who is at the other end of a connection.
    pub(crate) fn peer(&self, token: Token) -> Option<Address> {
        let slot = self.tables[token.kind() as usize].get(token.index() as usize)?.as_ref()?;
        let socket = slot.socket.as_ref().filter(|_| slot.token == token)?;
        peer_address(socket).ok()
    }

    /// As [`Slots::get`], but not when it is being closed: for the owner's calls.
    #[inline]
    pub(crate) fn get_open(&mut self, token: Token) -> Option<&mut Slot<Io>> {
        self.get(token).filter(|slot| !slot.closing)
    }

    /// Takes the slot out, if it is still this use of it.
    pub(crate) fn remove(&mut self, token: Token) -> Option<Slot<Io>> {
        self.get(token)?;
        self.tables[token.kind() as usize][token.index() as usize].take()
    }

    /// The first half of closing: the slot whose operations are now to be cancelled, or `None`
    /// when there is nothing to do, because it is stale or already being closed. The back end then
    /// calls [`Slots::close_step`], and again whenever an operation has ended.
    pub(crate) fn close_begin(&mut self, token: Token) -> Option<&mut Slot<Io>> {
        let slot = self.get_open(token)?;
        slot.closing = true;
        Some(slot)
    }

    /// The second half: once nothing is in flight the slot waits for the next call of
    /// [`Slots::take_closable`].
    pub(crate) fn close_step(&mut self, token: Token) {
        if self.get(token).is_some_and(|slot| slot.closing && slot.is_quiet()) {
            self.closable.push(token);
        }
    }

    /// A slot whose socket can be closed now, taken out.
    pub(crate) fn take_closable(&mut self) -> Option<Slot<Io>> {
        let token = self.closable.pop()?;
        Some(self.remove(token).expect("a closing slot stays until it is taken here"))
    }

    /// Every socket, to be let go of when the event base ends.
    #[cfg(target_os = "linux")]
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot<Io>> {
        self.tables.iter_mut().flatten().flatten()
    }
}

/// Closes the socket of a slot that was taken out, and says so.
pub(crate) fn finish_close<Io>(slot: Slot<Io>, events: &mut Vec<Event<OwnedFd>>) {
    match (slot.token.kind(), slot.socket) {
        (Kind::Listener, Some(listener)) => socket::accept_and_close(listener, |socket| {
            events.push(Event::Accepted { listener: slot.token, socket });
        }),
        (_, Some(socket)) => socket::end_in_order(&socket),
        (_, None) => {}
    }
    events.push(Event::Closed(slot.token));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(generation: u32) -> Token {
        Token::new(Kind::Client, 3, generation)
    }

    #[test]
    fn closing_waits_for_every_operation() {
        let mut slots: Slots<()> = Slots::new();
        slots.insert(token(0), None, ());
        let slot = slots.get(token(0)).expect("it was inserted");
        slot.start(Operation::Recv);
        slot.start(Operation::Send);
        assert!(slots.close_begin(token(0)).is_some());
        assert!(slots.close_begin(token(0)).is_none());
        slots.close_step(token(0));
        assert!(slots.take_closable().is_none());
        for operation in [Operation::Send, Operation::Recv] {
            assert!(slots.closable.is_empty());
            slots.get(token(0)).expect("it is still closing").end(operation);
            slots.close_step(token(0));
        }
        assert!(slots.take_closable().is_some());
        assert!(slots.get(token(0)).is_none());
    }

    #[test]
    fn a_stale_token_finds_nothing() {
        let mut slots: Slots<()> = Slots::new();
        slots.insert(token(0), None, ());
        assert!(slots.remove(token(1)).is_none());
        assert!(slots.remove(token(0)).is_some());
        slots.insert(token(1), None, ());
        assert!(slots.get(token(0)).is_none());
        assert!(slots.close_begin(token(0)).is_none());
    }

    #[test]
    #[should_panic(expected = "is under way")]
    fn a_second_send_is_refused() {
        let mut slots: Slots<()> = Slots::new();
        slots.insert(token(0), None, ());
        let slot = slots.get(token(0)).expect("it was inserted");
        slot.start(Operation::Send);
        slot.start(Operation::Send);
    }
}
