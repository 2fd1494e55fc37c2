//! The control side of the simulation: which pool of the plan runs at which index of the workers,
//! and what the workers are told when the configuration changes.
//!
//! The comparison itself is [`runtime::reload::plan`], which ships. Invariant: what this knows is
//! what every worker knows once it has read its mailbox.

use std::sync::Arc;

use base::Address;
use proxy::options::{PoolOptions, ServerOptions};
use runtime::balance::Balance;
use runtime::mailbox::Message;
use runtime::reload;
use runtime::worker::Peers;

use crate::base::{SimBase, SimSocket};
use crate::plan::{PORT_MIN, Plan, PoolPlan, place_of};
use crate::world::World;

/// See the module's text.
pub struct Control {
    peers: Peers<SimBase>,
    balance: Arc<Balance>,
    /// By the workers' index.
    running: Vec<Option<PoolOptions>>,
    /// The workers' index of each pool of the plan that is configured.
    indices: Vec<Option<usize>>,
    /// The servers of each pool of the plan, by their index among all, as configured now.
    servers: Vec<Vec<usize>>,
}

impl Control {
    /// As the plan begins.
    pub fn new(plan: &Plan, peers: Peers<SimBase>, balance: Arc<Balance>) -> Control {
        let running: Vec<_> = plan.pools.iter().map(|pool| Some(pool.options.clone())).collect();
        balance.set_limits(reload::client_limits(&running));
        Control {
            peers,
            balance,
            running,
            indices: (0..plan.pools.len()).map(Some).collect(),
            servers: plan.pools.iter().map(|pool| places(pool, &pool.options)).collect(),
        }
    }

    /// What happens when a name is looked up again.
    pub fn tell_address(&self, server: usize, resolved: bool, plan: &Plan) {
        let pool = plan.pool_of(server);
        let address = resolved.then(|| address_of(server));
        let place = self.servers[pool].iter().position(|place| *place == server);
        // It may have left the configuration.
        let (Some(server), Some(pool)) = (place, self.indices[pool]) else { return };
        self.send_all(|_| Message::SetAddress { pool, server, address: address.clone() });
    }

    /// What happens when the file of the configuration has changed.
    pub fn reload(&mut self, number: usize, world: &mut World) {
        let configured = world.plan.reloads[number].pools.clone();
        self.tell_clients(&configured, world);
        let wanted = configured.iter().flatten().cloned().collect();
        let reload::Plan { mut reload, opened, order } = reload::plan(&self.running, wanted);
        let mut order = order.into_iter();
        self.indices =
            configured.iter().map(|pool| pool.as_ref().and_then(|_| order.next())).collect();
        let plans = world.plan.pools.iter().zip(&configured);
        self.servers = plans
            .map(|(plan, pool)| pool.as_ref().map_or_else(Vec::new, |pool| places(plan, pool)))
            .collect();
        reload.addresses = self.addresses(reload.pools.len());
        self.balance.set_limits(reload::client_limits(&reload.pools));
        self.running = reload.pools.clone();
        let opened: Vec<(usize, usize)> = opened
            .into_iter()
            .filter_map(|index| {
                let options = self.running[index].as_ref()?;
                Some((index, place_of(&options.listen.address)))
            })
            .collect();
        for (_, place) in &opened {
            world.unregistered.entry(*place).or_default();
        }
        let reload = Arc::new(reload);
        self.send_all(|_| {
            let listeners =
                opened.iter().map(|(index, place)| (*index, SimSocket::listening(*place)));
            Message::Reload(Arc::clone(&reload), listeners.collect())
        });
    }

    /// Tells every worker.
    pub fn send_all(&self, message: impl Fn(usize) -> Message<SimSocket>) {
        for (index, peer) in self.peers.iter().enumerate() {
            assert!(peer.try_send(message(index)).is_ok(), "a mailbox of so few messages has room");
        }
    }

    /// Clients know at once where their pools are.
    fn tell_clients(&self, configured: &[Option<PoolOptions>], world: &mut World) {
        let now = world.now;
        for (pool, options) in configured.iter().enumerate() {
            let before = self.indices[pool].and_then(|index| self.running[index].as_ref());
            let name = |options: Option<&PoolOptions>| options.map(|options| options.name.clone());
            let place = |options: Option<&PoolOptions>| {
                options.map(|options| place_of(&options.listen.address))
            };
            let listens = &mut world.listens[pool];
            if before.is_some() && name(before) != name(options.as_ref()) {
                listens.gone_at = Some(now);
            }
            if before.is_some() && place(before) != place(options.as_ref()) {
                listens.left_at = Some(now);
            }
            listens.place = place(options.as_ref());
        }
    }

    /// Where the servers of each pool are, by the workers' index.
    fn addresses(&self, pools_count: usize) -> Vec<Vec<Option<Address>>> {
        let mut addresses = vec![Vec::new(); pools_count];
        for (servers, index) in self.servers.iter().zip(&self.indices) {
            if let Some(index) = index {
                addresses[*index] =
                    servers.iter().map(|server| Some(address_of(*server))).collect();
            }
        }
        addresses
    }
}

/// Which of all servers those of a configuration are.
fn places(plan: &PoolPlan, options: &PoolOptions) -> Vec<usize> {
    let all = &plan.options.servers;
    let place = |server: &ServerOptions| all.iter().position(|other| other.name == server.name);
    options
        .servers
        .iter()
        .map(|server| plan.server_first + place(server).expect("one of the plan's servers"))
        .collect()
}

/// Where a server is.
pub fn address_of(server: usize) -> Address {
    Address::Inet(([10, 0, 0, 1], PORT_MIN + server as u16).into())
}
