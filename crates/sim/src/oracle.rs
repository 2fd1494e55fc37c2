//! What must hold between what clients asked, what servers did, and what clients were told.
//!
//! A request is a set of units, one a key; a unit is the pool and the words that a server must get.
//! Each unit that a server executes must have been asked for, once for each time; each reply that a
//! client gets must be what some server answered to that very unit after it was asked, once for
//! each time. So nothing is invented, sent twice, answered with another's reply, or acknowledged
//! without having been done. Invariant: an execution is matched with one reply at most.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use base::Time;
use proxy::options::PoolOptions;
use routing::{DistributionKind, Placement, PlacementOptions};

use crate::plan::{Plan, PoolPlan};
use crate::world::World;

/// Who asked for a unit: a client's connection, and the number of the request on it.
pub type Asker = (usize, u64);

#[derive(Default)]
struct Asked {
    /// Not executed yet, oldest first.
    by: VecDeque<Asker>,
    /// Different connections have asked for it.
    is_shared: bool,
    connection: Option<usize>,
}

struct PoolOracle {
    /// The owner of a key for each set of live servers, by its bits.
    placements: BTreeMap<u32, Placement>,
    members: Vec<routing::Member>,
    /// The place of each member in the plan.
    places: Vec<usize>,
    options: PlacementOptions,
    ejects: bool,
    server_first: usize,
}

/// See the module's text.
pub struct Oracle {
    asked: BTreeMap<Vec<u8>, Asked>,
    executed: BTreeMap<Vec<u8>, VecDeque<u64>>,
    /// Each pool's configurations so far.
    pools: Vec<Vec<PoolOracle>>,
    /// Messages on their way to who listens to a channel; each has one listener at most.
    pub messages: BTreeMap<Vec<u8>, VecDeque<Vec<u8>>>,
    /// Servers that have ever failed somebody.
    pub failed: Vec<bool>,
    /// Connections on which a server said something that nobody can attribute.
    pub tainted: Vec<Vec<usize>>,
    /// Units that were executed.
    pub executed_count: u64,
    /// Replies that were checked.
    pub checked_count: u64,
    /// Of which errors of the proxy.
    pub errors_count: u64,
}

/// The name of a unit.
pub fn unit(pool: usize, words: &[&[u8]]) -> Vec<u8> {
    let mut name = vec![pool as u8];
    for word in words {
        name.extend_from_slice(&(word.len() as u32).to_le_bytes());
        name.extend_from_slice(word);
    }
    name
}

/// The words of a unit.
pub fn unit_words(unit: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = &unit[1..];
    while let Some((size, after)) = rest.split_first_chunk::<4>() {
        let (word, after) = after.split_at(u32::from_le_bytes(*size) as usize);
        words.push(word.to_vec());
        rest = after;
    }
    words
}

/// A unit with its reply.
fn outcome(unit: &[u8], reply: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(unit.len() + reply.len() + 1);
    name.extend_from_slice(unit);
    name.push(0xff);
    name.extend_from_slice(reply);
    name
}

impl Oracle {
    /// An oracle for the pools of a plan.
    pub fn new(plan: &Plan) -> Oracle {
        let servers_count = plan.pools.iter().map(|pool| pool.servers_count).sum();
        Oracle {
            asked: BTreeMap::new(),
            executed: BTreeMap::new(),
            pools: plan
                .pools
                .iter()
                .map(|pool| vec![PoolOracle::new(&pool.options, pool)])
                .collect(),
            messages: BTreeMap::new(),
            failed: vec![plan.may_fail_servers(); servers_count],
            tainted: vec![Vec::new(); servers_count],
            executed_count: 0,
            checked_count: 0,
            errors_count: 0,
        }
    }

    /// A client asks for a unit.
    pub fn ask(&mut self, unit: &[u8], asker: Asker) {
        let asked = self.asked.entry(unit.to_vec()).or_default();
        asked.is_shared |= asked.connection.is_some_and(|other| other != asker.0);
        asked.connection = Some(asker.0);
        asked.by.push_back(asker);
    }

    /// A server executes a unit. Says who asked, where that is certain.
    pub fn execute(
        &mut self,
        unit: &[u8],
        reply: &[u8],
        now: u64,
    ) -> Result<Option<Asker>, String> {
        self.executed_count += 1;
        let asked = self.asked.get_mut(unit).filter(|asked| !asked.by.is_empty());
        let Some(asked) = asked else {
            return Err(format!(
                "a server got what no client has asked for, or got it twice: {}",
                shown(unit)
            ));
        };
        let asker = asked.by.pop_front().filter(|_| !asked.is_shared);
        self.executed.entry(outcome(unit, reply)).or_default().push_back(now);
        Ok(asker)
    }

    /// A server executes what is either a probe of a worker, or a unit that a client has asked for.
    pub fn execute_probe(&mut self, unit: &[u8], reply: &[u8], now: u64) {
        if self.asked.contains_key(unit) {
            self.executed.entry(outcome(unit, reply)).or_default().push_back(now);
        }
    }

    /// Whether a server answered this to the unit, at `since` or later, and no other request was
    /// told so. It is counted for this one from here on.
    pub fn match_reply(&mut self, unit: &[u8], reply: &[u8], since: u64) -> bool {
        let Some(times) = self.executed.get_mut(&outcome(unit, reply)) else { return false };
        match times.iter().position(|at| *at >= since) {
            Some(position) => {
                times.remove(position);
                true
            }
            None => false,
        }
    }

    /// [`Oracle::match_reply`] for all parts of one reply, or for none.
    pub fn match_replies(&mut self, parts: &[(&[u8], &[u8])], since: u64) -> bool {
        parts.iter().all(|(unit, reply)| self.has_reply(unit, reply, since))
            && parts.iter().all(|(unit, reply)| self.match_reply(unit, reply, since))
    }

    /// Whether a server answered this to the unit at `since` or later.
    pub fn has_reply(&self, unit: &[u8], reply: &[u8], since: u64) -> bool {
        self.executed
            .get(&outcome(unit, reply))
            .is_some_and(|times| times.iter().any(|at| *at >= since))
    }

    /// Whether a reply is a sum of what servers have answered to the unit at `since` or later.
    pub fn is_sum(&self, unit: &[u8], reply: &[u8], since: u64) -> bool {
        let number = |reply: &[u8]| -> Option<u64> {
            std::str::from_utf8(reply.strip_prefix(b":")?).ok()?.trim_end().parse().ok()
        };
        let mut head = unit.to_vec();
        head.push(0xff);
        let answers =
            self.executed.range(head.clone()..).take_while(|(name, _)| name.starts_with(&head));
        let most: u64 = answers
            .map(|(name, times)| {
                let count = times.iter().filter(|at| **at >= since).count() as u64;
                number(&name[head.len()..]).unwrap_or(0) * count
            })
            .sum();
        number(reply).is_some_and(|sum| sum <= most)
    }

    /// Whether the key may belong to this server of the pool, under any configuration so far.
    pub fn may_own(&mut self, pool: usize, key: &[u8], server: usize) -> bool {
        let failed = &self.failed;
        self.pools[pool].iter_mut().any(|pool| pool.may_own(failed, key, server))
    }

    /// Whether this server of the pool may own the key and has failed somebody.
    pub fn may_have_failed(&mut self, pool: usize, key: &[u8], server: usize) -> bool {
        let first = self.pools[pool][0].server_first;
        self.failed[first + server] && self.may_own(pool, key, server)
    }

    /// Whether the unit, which nobody else asks for, was executed.
    pub fn was_executed(&self, unit: &[u8]) -> bool {
        is_unique(unit) && self.asked.get(unit).is_some_and(|asked| asked.by.is_empty())
    }

    /// There is a new configuration.
    pub fn reload(&mut self, plan: &Plan, pools: &[Option<PoolOptions>]) {
        for ((known, options), plan) in self.pools.iter_mut().zip(pools).zip(&plan.pools) {
            known.extend(options.as_ref().map(|options| PoolOracle::new(options, plan)));
        }
    }

    /// Whether, at `since` or later, a connection was open on which a server of this pool has said
    /// something out of turn.
    pub fn is_tainted(&self, pool: usize, since: u64, world: &World) -> bool {
        let plan = &world.plan.pools[pool];
        self.tainted[plan.server_first..plan.server_first + plan.servers_count]
            .iter()
            .flatten()
            .any(|id| world.connections[*id].closed_at.is_none_or(|at| at >= since))
    }
}

impl PoolOracle {
    fn new(options: &PoolOptions, plan: &PoolPlan) -> PoolOracle {
        let places = options.servers.iter().map(|server| {
            let all = &plan.options.servers;
            all.iter().position(|other| other.name == server.name).expect("one of the plan's")
        });
        PoolOracle {
            placements: BTreeMap::new(),
            members: options.members(),
            places: places.collect(),
            options: PlacementOptions {
                hash: options.hash,
                distribution: options.distribution,
                hash_tag: options.hash_tag,
            },
            ejects: options.health.eject,
            server_first: plan.server_first,
        }
    }

    /// `failed` are all servers, `server` is one of the pool.
    fn may_own(&mut self, failed: &[bool], key: &[u8], server: usize) -> bool {
        if self.options.distribution == DistributionKind::Random {
            return true;
        }
        let Some(server) = self.places.iter().position(|place| *place == server) else {
            return false;
        };
        let count = self.members.len();
        let all = (1u32 << count) - 1;
        if self.owner(all, key) == server {
            return true;
        }
        if !self.ejects {
            return false;
        }
        let mut dead_possible = 0;
        for index in 0..count {
            let has_failed = failed[self.server_first + self.places[index]];
            dead_possible |= u32::from(has_failed) << index;
        }
        (1..all).any(|live| {
            !live & all & !dead_possible == 0
                && live & (1 << server) != 0
                && self.owner(live, key) == server
        })
    }

    fn owner(&mut self, live: u32, key: &[u8]) -> usize {
        let placement = self.placements.entry(live).or_insert_with(|| {
            let mut placement = Placement::new(self.options, self.members.clone(), 0);
            let flags: Vec<bool> =
                (0..self.members.len()).map(|index| live & (1 << index) != 0).collect();
            placement.rebuild(&flags);
            placement
        });
        placement.server_for(key).expect("at least one server is live")
    }
}

/// Whether a unit names its asker: writes carry it in their value.
pub fn is_unique(unit: &[u8]) -> bool {
    unit.windows(3).any(|window| window == b"<v:")
}

/// A unit for a person.
pub fn shown(unit: &[u8]) -> String {
    let text: String = unit.escape_ascii().to_string();
    text.chars().take(300).collect()
}

/// The instant of the world's clock.
pub fn time(now: u64) -> Time {
    Time::from_ns(now)
}
