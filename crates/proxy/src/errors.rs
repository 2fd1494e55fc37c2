//! Why a request has no response. The variants say who is at fault, since that decides what may be
//! done about it; the texts are what clients see behind the protocol's error word.

use std::fmt;

use base::SocketError;

/// See the module's text.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// The connection could not be opened, or broke while the request was on its way. It may or may
    /// not have been executed.
    Connection(SocketError),
    /// The server closed the connection while it owed the response.
    ServerClosed,
    /// No response within the request time-out. It may or may not have been executed.
    TimedOut,
    /// What came back was not a response to this request, or none at all.
    ServerMisbehaved,
    /// The server's name has not been resolved.
    Unresolved,
    /// Every server of the pool is ejected.
    NoLiveServer,
    /// The connection owes as many responses as it may.
    ServerQueueFull,
    /// As many connections belong to one client each as may.
    TooManyConnections,
    /// The server does not speak what the client has chosen to speak.
    VersionRefused,
    /// A walk through all servers began when they were others.
    OtherServers,
    /// The keys of a request that can't be split, or of a transaction, have several owners.
    KeysApart,
}

impl RequestError {
    /// What the client sees, without prefix and line end. All but the last six are twemproxy's
    /// words, which programs match on.
    pub fn text(self) -> &'static str {
        match self {
            RequestError::Connection(error) => error.text(),
            RequestError::ServerClosed => "unknown",
            RequestError::TimedOut => SocketError::TimedOut.text(),
            RequestError::ServerMisbehaved => "Invalid argument",
            RequestError::Unresolved => SocketError::HostDown.text(),
            RequestError::NoLiveServer => SocketError::ConnectionRefused.text(),
            RequestError::ServerQueueFull => "server queue is full",
            RequestError::TooManyConnections => "too many dedicated connections",
            RequestError::VersionRefused => protocol::VERSION_REFUSED,
            RequestError::OtherServers => "the servers have changed: begin again with cursor 0",
            RequestError::KeysApart => "the keys are on several servers",
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for RequestError {}
