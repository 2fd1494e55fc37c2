//! Listening sockets: opened anew, or taken over from whoever started the process.
//!
//! It accepts nobody. Invariant: a socket that is taken over has a worker that accepts from it, or
//! is closed here; none stays open with a queue that nobody empties.

use std::os::fd::{AsFd, OwnedFd};

use base::Address;
use event::{ListenOptions, listen_socket, socket};
use proxy::options::PoolOptions;
use tracing::{info, warn};

use crate::process::StartError;

/// The listening sockets of one worker, with their pools.
pub(crate) type Listeners = Vec<(usize, OwnedFd)>;

/// Listening sockets that the process was started with: those of the process whose place it takes,
/// or those that a service manager has opened.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<InheritedSocket>,
}

#[derive(Debug)]
struct InheritedSocket {
    /// `None` for something that does not listen.
    address: Option<Address>,
    /// `None` once it is taken, or given up.
    socket: Option<OwnedFd>,
    taken: bool,
}

impl Inherited {
    /// These sockets, in their order.
    pub fn new(sockets: Vec<OwnedFd>) -> Inherited {
        let inherit = |socket: OwnedFd| {
            let address = socket::listening_address(&socket);
            InheritedSocket { address, socket: Some(socket), taken: false }
        };
        Inherited { sockets: sockets.into_iter().map(inherit).collect() }
    }

    /// Every socket that listens on the address.
    pub fn take(&mut self, address: &Address) -> Vec<OwnedFd> {
        let wanted = self.sockets.iter_mut().filter(|one| one.address.as_ref() == Some(address));
        wanted
            .filter_map(|one| {
                one.taken = true;
                one.socket.take()
            })
            .collect()
    }

    /// Which were taken, in their order.
    pub(crate) fn taken(&self) -> impl Iterator<Item = bool> {
        self.sockets.iter().map(|one| one.taken)
    }

    /// Closes those that nobody wants, and gives their addresses.
    pub(crate) fn close_rest(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        for one in &mut self.sockets {
            if one.socket.take().is_some() {
                names.push(match &one.address {
                    Some(address) => address.to_string(),
                    None => "something that does not listen".to_owned(),
                });
            }
        }
        names.dedup();
        names
    }
}

/// Opens every listener, or takes it over: at least one a worker and internet address, one in all
/// for a unix socket. `pools` are those that listen, with their indices.
pub(crate) fn open<'a>(
    pools: impl Iterator<Item = (usize, &'a PoolOptions)>,
    workers_count: usize,
    inherited: &mut Inherited,
) -> Result<Vec<Listeners>, StartError> {
    let mut listeners: Vec<Listeners> = (0..workers_count).map(|_| Vec::new()).collect();
    for (pool, options) in pools {
        let address = &options.listen.address;
        let failed = |error| StartError::Listen { address: address.to_string(), error };
        let is_unix = matches!(address, Address::Unix(_));
        let socket_options = ListenOptions {
            backlog: options.listen.backlog,
            reuse_port: !is_unix && workers_count > 1,
            keepalive: options.listen.keepalive,
            unix_mode: options.listen.unix_mode,
        };
        let taken = inherited.take(address);
        let taken_count = taken.len();
        for (index, socket) in taken.into_iter().enumerate() {
            socket::take_over(&socket, address, socket_options).map_err(failed)?;
            // When there are fewer workers than before, some accept from several.
            listeners[index % workers_count].push((pool, socket));
        }
        let count = if is_unix { 1 } else { workers_count };
        for worker in listeners.iter_mut().take(count).skip(taken_count) {
            match listen_socket(address, socket_options) {
                Ok(socket) => worker.push((pool, socket)),
                // A listener that was opened to be alone. The others hand connections on.
                Err(error) if taken_count > 0 => {
                    info!(%address, %error, "no more listeners than those taken over");
                    break;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        info!(pool = options.name, %address, servers = options.servers.len(),
            taken_over = taken_count, "listening");
    }
    Ok(listeners)
}

/// The control side's own hold on every listening socket, to be given to another process. A socket
/// is let go of here before its worker closes it, so that the worker's close is the last.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<(usize, OwnedFd)>);

impl Held {
    /// Holds these, too.
    pub(crate) fn hold(&mut self, listeners: &[Listeners]) {
        for (pool, socket) in listeners.iter().flatten() {
            match socket.as_fd().try_clone_to_owned() {
                Ok(socket) => self.0.push((*pool, socket)),
                // It serves all the same, but can't be given to a new process.
                Err(error) => warn!(%error, "a listening socket can't be held for a restart"),
            }
        }
    }

    /// Listeners serve other pools from here on, or end.
    pub(crate) fn reload(&mut self, moved: &[(usize, usize)], closed: &[usize]) {
        self.0.retain(|(pool, _)| !closed.contains(pool));
        for (pool, _) in &mut self.0 {
            if let Some((_, to)) = moved.iter().find(|(from, _)| from == pool) {
                *pool = *to;
            }
        }
    }

    /// Lets go of all.
    pub(crate) fn release(&mut self) {
        self.0.clear();
    }

    /// Another hold on each, with its pool.
    pub(crate) fn copies(&self) -> std::io::Result<Vec<(usize, OwnedFd)>> {
        let copy = |(pool, socket): &(usize, OwnedFd)| Ok((*pool, socket.try_clone()?));
        self.0.iter().map(copy).collect()
    }
}
