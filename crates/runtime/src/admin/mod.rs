//! What operators see and do: an HTTP address for monitoring, and a unix socket for `weir ctl`.
//!
//! Each has threads of the control side; both are off unless they are asked for. They read what the
//! workers tell of themselves and never touch a worker's state. Invariant: a caller costs a
//! bounded time and a bounded amount of memory, whatever it sends.

mod config;
mod ctl;
mod http;
mod inspection;
mod metrics;
mod report;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::Address;
use tracing::info;

pub use self::inspection::{ClientsAnswer, Inspection, SlowLogAnswer};
use crate::control_listener::{Listener, OPERATORS, Server};
use crate::process::{Process, Shared, StartError};
use crate::restart::{Inherited, Offer, Purpose, Successor};

/// Where operators are answered.
#[derive(Debug, Clone, Default)]
pub struct AdminOptions {
    /// HTTP for monitoring; `None` for nowhere.
    pub http: Option<SocketAddr>,
    /// The unix socket of `weir ctl`; `None` for nowhere. Only its owner may connect.
    pub ctl: Option<PathBuf>,
}

/// Says whether the configuration could be reloaded as it is now, and why not.
pub type CheckConfiguration = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The sockets, open and not served yet: callers wait.
#[derive(Debug, Default)]
pub struct AdminListeners {
    http: Option<Listener>,
    ctl: Option<Listener>,
}

impl AdminListeners {
    /// Opens them, or takes them over. The path of the unix socket may be one that a dead process
    /// has left.
    pub fn bind(
        options: &AdminOptions,
        inherited: &mut Inherited,
    ) -> Result<AdminListeners, StartError> {
        let mut open = |address: Address| {
            Listener::take_or_bind(&address, OPERATORS, inherited)
                .map_err(|error| StartError::Listen { address: address.to_string(), error })
        };
        Ok(AdminListeners {
            http: options.http.map(Address::Inet).map(&mut open).transpose()?,
            ctl: options.ctl.clone().map(Address::Unix).map(&mut open).transpose()?,
        })
    }
}

/// What the threads know of the process.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    /// Clients are being let go.
    is_draining: AtomicBool,
}

impl Context {
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }
}

/// The threads that answer operators.
pub struct Admin {
    context: Arc<Context>,
    servers: Vec<(Purpose, Server)>,
}

impl Admin {
    /// Answers from now on, for this process. Fails for want of a thread or of descriptors.
    pub fn start(
        listeners: AdminListeners,
        process: &Process,
        check: CheckConfiguration,
    ) -> io::Result<Admin> {
        let shared = Arc::clone(&process.shared);
        let context = Arc::new(Context { shared, is_draining: AtomicBool::new(false) });
        let mut servers = Vec::new();
        if let Some(listener) = listeners.http {
            info!(address = %listener.address(), "admin HTTP");
            let context = Arc::clone(&context);
            let serve = move |stream| http::serve(stream, &context);
            servers.push((Purpose::Admin, Server::start("weir-admin", listener, serve)?));
        }
        if let Some(listener) = listeners.ctl {
            info!(path = %listener.address(), "weir ctl is answered");
            let context = Arc::clone(&context);
            let serve = move |stream| ctl::serve(stream, &context, &check);
            servers.push((Purpose::Ctl, Server::start("weir-ctl", listener, serve)?));
        }
        Ok(Admin { context, servers })
    }

    /// From here on the process says that it is not ready, since its clients are being let go.
    pub fn set_draining(&self) {
        self.context.is_draining.store(true, Ordering::Relaxed);
    }

    /// Adds the listening sockets to what is offered to a process that is to take over.
    pub fn offer(&self, offer: &mut Offer) -> io::Result<()> {
        for (purpose, server) in &self.servers {
            offer.sockets.push((*purpose, server.socket()?));
        }
        Ok(())
    }

    /// Ends the threads and closes the sockets. A unix socket's path is removed, unless the
    /// successor listens there; a new process may when this returns.
    pub fn stop(self, successor: Option<&Successor>) {
        for (purpose, server) in self.servers {
            server.stop(successor.is_some_and(|successor| successor.has(purpose)));
        }
    }
}
