//! What operators see and do: an HTTP address for monitoring, and a unix socket for `weir ctl`.
//!
//! Each is one thread of the control side; both are off unless they are asked for. They read what
//! the workers tell of themselves and never touch a worker's state. Invariant: a caller costs a
//! bounded time and a bounded amount of memory, whatever it sends.

mod config;
mod ctl;
mod http;
mod inspection;
mod listener;
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
use self::listener::{Listener, Server};
use crate::process::{Process, Shared, StartError};

/// Where operators are answered.
#[derive(Debug, Clone, Default)]
pub struct AdminOptions {
    /// HTTP for monitoring; `None` for nowhere.
    pub http: Option<SocketAddr>,
    /// The unix socket of `weir ctl`; `None` for nowhere. Only its owner may connect.
    pub ctl: Option<PathBuf>,
}

/// Says whether the configuration could be reloaded as it is now, and why not.
pub type CheckConfiguration = Box<dyn Fn() -> Result<(), String> + Send>;

/// The sockets, open and not served yet: callers wait.
#[derive(Debug, Default)]
pub struct AdminListeners {
    http: Option<Listener>,
    ctl: Option<Listener>,
}

impl AdminListeners {
    /// Opens them. The path of the unix socket may be one that a dead process has left.
    pub fn bind(options: &AdminOptions) -> Result<AdminListeners, StartError> {
        let open = |address: Address| {
            Listener::bind(&address)
                .map_err(|error| StartError::Listen { address: address.to_string(), error })
        };
        Ok(AdminListeners {
            http: options.http.map(Address::Inet).map(open).transpose()?,
            ctl: options.ctl.clone().map(Address::Unix).map(open).transpose()?,
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
    servers: Vec<Server>,
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
            servers.push(Server::start("weir-admin", listener, serve)?);
        }
        if let Some(listener) = listeners.ctl {
            info!(path = %listener.address(), "weir ctl is answered");
            let context = Arc::clone(&context);
            let serve = move |stream| ctl::serve(stream, &context, &check);
            servers.push(Server::start("weir-ctl", listener, serve)?);
        }
        Ok(Admin { context, servers })
    }

    /// From here on the process says that it is not ready, since its clients are being let go.
    pub fn set_draining(&self) {
        self.context.is_draining.store(true, Ordering::Relaxed);
    }

    /// Ends the threads and closes the sockets; a unix socket's path is removed. A new process may
    /// listen there when this returns.
    pub fn stop(self) {
        for server in self.servers {
            server.stop();
        }
    }
}
