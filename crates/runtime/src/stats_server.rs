//! The statistics port: whoever connects gets one line of JSON, fresh at that moment.
//!
//! It runs on threads of its own and asks the workers. Invariant: a reader costs a bounded time.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use base::Address;
use event::{ListenOptions, listen_socket};

use crate::control_listener::{Listener, Server, WRITE_LIMIT};
use crate::listeners::Inherited;
use crate::process::Shared;

/// How long a reader may stay when he has been served.
const STAY: Duration = Duration::from_millis(100);

/// Takes the listening socket over, or opens it. The path of a unix socket may be one that a dead
/// process has left.
pub(crate) fn bind(address: &Address, inherited: &mut Inherited) -> io::Result<Listener> {
    let socket = match (inherited.take(address).pop(), address) {
        (Some(socket), _) => socket,
        (None, Address::Inet(inet)) => TcpListener::bind(inet)?.into(),
        (None, Address::Unix(_)) => listen_socket(address, ListenOptions::default())?,
    };
    Listener::on(socket)
}

/// Serves readers from now on. Fails for want of a thread or of descriptors.
pub(crate) fn start(listener: Listener, shared: Arc<Shared>) -> io::Result<Server> {
    Server::start("weir-stats", listener, move |mut reader| {
        reader.write_whole(&shared.stats_json(), WRITE_LIMIT)?;
        reader.finish(STAY)
    })
}
