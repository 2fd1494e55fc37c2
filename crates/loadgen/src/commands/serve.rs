//! `weir-bench serve`: the embedded server, as a null server or with a known delay.
//!
//! Invariant: it prints its address only when it listens.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use base::Address;
use clap::Args;
use event::{EventBase, ListenOptions, Readiness, ReadinessOptions, listen_socket, socket};
use protocol::Protocol;

use super::Ending;
use super::args::resolve;
use crate::engine::BaseChoice;
use crate::server::{Delay, Server, ServerOptions};

/// Arguments of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Where to listen: HOST:PORT (port 0 for any), or the path of a unix socket.
    #[arg(default_value = "127.0.0.1:0")]
    pub listen: String,
    /// Speaks memcached's protocol instead of Redis's.
    #[arg(long)]
    pub memcache: bool,
    /// Stores nothing and answers reads with values of so many bytes [default: stores what is
    /// written]
    #[arg(long, value_name = "VALUE_SIZE")]
    pub null: Option<usize>,
    /// Each reply leaves so many microseconds after its request [default: at once]
    #[arg(long, group = "delays", allow_negative_numbers = true)]
    pub delay_us: Option<f64>,
    /// The same with an exponential law of this mean, in microseconds [default: at once]
    #[arg(long, group = "delays", allow_negative_numbers = true)]
    pub exponential_us: Option<f64>,
    /// Requests are served one after the other, in so many microseconds each [default: at once]
    #[arg(long, group = "delays", allow_negative_numbers = true)]
    pub queue_us: Option<f64>,
    /// With --queue-us: nothing is served from FROM seconds after the first request, for LENGTH
    /// seconds [default: never]
    #[arg(long, value_names = ["FROM", "LENGTH"], num_args = 2, requires = "queue_us")]
    pub freeze_s: Option<Vec<f64>>,
    /// The event base.
    #[arg(long, value_enum, default_value = "auto")]
    pub event_base: BaseChoice,
}

fn micros(us: f64) -> Result<Duration, String> {
    let good = (0.0..=1e9).contains(&us);
    if good {
        Ok(Duration::from_secs_f64(us / 1e6))
    } else {
        Err(format!("{us} us: a time must be 0 to 1e9 us"))
    }
}

impl ServeArgs {
    fn delay(&self) -> Result<Delay, String> {
        if let Some(us) = self.delay_us {
            return Ok(Delay::Constant(micros(us)?));
        }
        if let Some(us) = self.exponential_us {
            return Ok(Delay::Exponential(micros(us)?));
        }
        let Some(us) = self.queue_us else { return Ok(Delay::None) };
        let freeze = match self.freeze_s.as_deref() {
            Some(&[from, length]) => Some((micros(from * 1e6)?, micros(length * 1e6)?)),
            _ => None,
        };
        Ok(Delay::Queue { service: micros(us)?, freeze })
    }
}

/// Carries `serve` out.
pub fn execute(args: &ServeArgs, stop: &Arc<AtomicBool>) -> Result<Ending, String> {
    let protocol = if args.memcache { Protocol::Memcache } else { Protocol::Redis };
    let limit = embedded::StoreOptions::NULL_VALUE_SIZE_MAX;
    if args.null.is_some_and(|size| size > limit) {
        return Err(format!("--null: at most {limit}"));
    }
    let options = ServerOptions { protocol, null_value_size: args.null, delay: args.delay()? };
    let running = start(&resolve(&args.listen)?, options, args.event_base, stop.clone())?;
    println!("serving on {}", running.address);
    match running.thread.join() {
        Ok(result) => result.map(|()| Ending::Good),
        Err(_) => Err("the server has failed".to_owned()),
    }
}

/// A server on a thread of its own.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: Address,
    /// Ends it.
    pub stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<(), String>>,
}

impl Running {
    /// Ends it and waits for that.
    pub fn end(self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the server has failed".to_owned())?
    }
}

/// Starts a server; it listens when this returns.
pub fn start(
    address: &Address,
    options: ServerOptions,
    choice: BaseChoice,
    stop: Arc<AtomicBool>,
) -> Result<Running, String> {
    let listener = listen_socket(address, ListenOptions::default())
        .map_err(|error| format!("{address}: {error}"))?;
    let address = socket::local_address(&listener).map_err(|error| error.to_string())?;
    let stopped = stop.clone();
    #[cfg(target_os = "linux")]
    if choice != BaseChoice::Readiness {
        match event::uring_supported() {
            Ok(tier) => {
                let make = move || event::Uring::new(event::UringOptions::new(tier));
                let thread = thread::spawn(move || serve(make, listener, options, &stopped));
                return Ok(Running { address, stop, thread });
            }
            Err(refused) if choice == BaseChoice::Uring => return Err(refused.to_string()),
            Err(_) => {}
        }
    }
    let make = || Readiness::new(ReadinessOptions::default());
    let thread = thread::spawn(move || serve(make, listener, options, &stopped));
    Ok(Running { address, stop, thread })
}

fn serve<B: EventBase<Socket = OwnedFd>>(
    make: impl FnOnce() -> std::io::Result<B>,
    listener: OwnedFd,
    options: ServerOptions,
    stop: &Arc<AtomicBool>,
) -> Result<(), String> {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let base = make().map_err(|error| error.to_string())?;
    let mut server = Server::new(base, listener, options).map_err(|error| error.to_string())?;
    server.run(stop).map_err(|error| error.to_string())
}
