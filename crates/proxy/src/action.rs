//! What the core wants done. Values only; the worker carries them out in the order given.

use base::{Address, Chain, Token};

/// One thing to do, each a call of the event base of the same name.
#[derive(Debug)]
pub enum Action {
    /// Open a connection to a server.
    Connect(Token, Address),
    /// Receive about so many bytes.
    RecvStart(Token, usize),
    /// Send; nothing else is being sent on this connection.
    Send(Token, Chain),
    /// Close; nothing else is asked of this token afterwards.
    Close(Token),
}
