//! From the pools that run and those that are wanted to what each worker is told.
//!
//! Pure, but for opening the new listeners. Invariant: a pool that stays keeps its index; an index
//! never means another pool than it once did.

use base::Address;
use proxy::options::PoolOptions;

use crate::mailbox::Reload;

/// What changes.
#[derive(Debug, Default)]
pub struct Plan {
    /// What every worker is told, but for the addresses.
    pub reload: Reload,
    /// Pools that need a new listener, by index.
    pub opened: Vec<usize>,
    /// The wanted pools' indices, in their order.
    pub order: Vec<usize>,
}

/// Compares the pools that run, by index, with those that are wanted. A pool is the same when its
/// name and protocol are.
pub fn plan(running: &[Option<PoolOptions>], wanted: Vec<PoolOptions>) -> Plan {
    let mut plan = Plan::default();
    let mut pools: Vec<Option<PoolOptions>> = running.iter().map(|_| None).collect();
    for options in wanted {
        let same = running.iter().position(|pool| {
            pool.as_ref()
                .is_some_and(|pool| pool.name == options.name && pool.protocol == options.protocol)
        });
        let index = same.unwrap_or(pools.len());
        if index == pools.len() {
            pools.push(None);
        }
        pools[index] = Some(options);
        plan.order.push(index);
    }
    plan_listeners(running, &pools, &mut plan);
    plan.reload.pools = pools;
    plan
}

/// How many clients each pool may have, by index; 0 for no limit.
pub fn client_limits(pools: &[Option<PoolOptions>]) -> impl Iterator<Item = u32> {
    pools.iter().map(|pool| pool.as_ref().map_or(0, |options| options.client_connections_max))
}

/// A listener whose address is wanted stays open, though perhaps for another pool: the kernel would
/// not let the same address be opened twice, and clients that wait in its queue would be lost.
fn plan_listeners(running: &[Option<PoolOptions>], pools: &[Option<PoolOptions>], plan: &mut Plan) {
    let address_of = |pool: &Option<PoolOptions>| -> Option<Address> {
        pool.as_ref().map(|options| options.listen.address.clone())
    };
    for (index, pool) in pools.iter().enumerate() {
        let Some(address) = address_of(pool) else { continue };
        let served_by = running.iter().position(|pool| address_of(pool).as_ref() == Some(&address));
        match served_by {
            Some(from) if from == index => {}
            Some(from) => plan.reload.moved.push((from, index)),
            None => plan.opened.push(index),
        }
    }
    for (index, pool) in running.iter().enumerate() {
        let Some(address) = address_of(pool) else { continue };
        let still_wanted = pools.iter().any(|pool| address_of(pool).as_ref() == Some(&address));
        if !still_wanted {
            plan.reload.closed.push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy::options::{Protocol, ServerAddress, ServerOptions};

    /// A pool whose name is in capitals speaks the other protocol.
    fn pool(name: &str, port: u16) -> PoolOptions {
        let address = ServerAddress::Inet { host: "127.0.0.1".to_owned(), port: 1 };
        let server = ServerOptions { name: "s".to_owned(), address, weight: 1 };
        let listen = Address::Inet(([127, 0, 0, 1], port).into());
        let options = PoolOptions::new(name, protocol(name), listen, vec![server]);
        PoolOptions { name: name.to_lowercase(), ..options }
    }

    fn protocol(name: &str) -> Protocol {
        let is_upper = name.chars().all(char::is_uppercase);
        if is_upper { Protocol::Memcache } else { Protocol::Redis }
    }

    fn names(plan: &Plan) -> Vec<Option<&str>> {
        plan.reload.pools.iter().map(|pool| pool.as_ref().map(|p| p.name.as_str())).collect()
    }

    #[test]
    fn pools_keep_their_index_and_new_ones_come_behind() {
        let running = [Some(pool("a", 1)), None, Some(pool("b", 2))];
        let plan = plan(&running, vec![pool("c", 3), pool("b", 2)]);
        assert_eq!(names(&plan), [None, None, Some("b"), Some("c")]);
        assert_eq!(plan.order, [3, 2]);
        assert_eq!(plan.opened, [3]);
        assert_eq!(plan.reload.closed, [0]);
        assert!(plan.reload.moved.is_empty());
    }

    #[test]
    fn an_address_that_stays_keeps_its_listener_whoever_uses_it() {
        let running = [Some(pool("a", 1)), Some(pool("b", 2))];
        let swapped = plan(&running, vec![pool("a", 2), pool("b", 1)]);
        assert_eq!(swapped.reload.moved, [(1, 0), (0, 1)]);
        assert!(swapped.opened.is_empty() && swapped.reload.closed.is_empty());
        let renamed = plan(&running, vec![pool("c", 1), pool("b", 2)]);
        assert_eq!(renamed.reload.moved, [(0, 2)]);
    }

    #[test]
    fn a_pool_of_another_protocol_is_another_pool() {
        let running = [Some(pool("a", 1))];
        let plan = plan(&running, vec![pool("A", 1)]);
        assert_eq!(names(&plan), [None, Some("a")]);
        assert_eq!(plan.reload.moved, [(0, 1)]);
    }

    #[test]
    fn a_new_address_of_a_pool_opens_one_listener_and_closes_one() {
        let plan = plan(&[Some(pool("a", 1))], vec![pool("a", 5)]);
        assert_eq!((plan.opened, plan.reload.closed), (vec![0], vec![0]));
    }
}
