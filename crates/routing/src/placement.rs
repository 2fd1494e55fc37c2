//! From a key to the server that owns it: hash tag, hash, point, member.
//!
//! It does not judge whether a server is in service; the caller tells it with
//! [`Placement::rebuild`]. Invariant: `server_for` gives a live member whenever there is one.

use std::cmp::Ordering;

use crate::distribution::{Distribute, Distribution};
use crate::{DistributionKind, HashKind, HashTag, Point};

/// A server as the placement sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The effective name, which is what gets hashed: the name given in the configuration; or else
    /// the host if the port is 11211; `host:port` as typed for another port; and for a unix socket
    /// the path followed by a colon. Unique in a pool.
    pub name: String,
    /// Share of the keys relative to the other members. At least 1. `random` ignores it.
    pub weight: u32,
}

/// Orders names as twemproxy orders servers and pools: shorter ones first, then by their bytes.
pub fn name_order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// How a pool places its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacementOptions {
    /// Turns the hashed part of a key into a number.
    pub hash: HashKind,
    /// Turns that number into a member.
    pub distribution: DistributionKind,
    /// Which part of a key is hashed; `None` is all of it.
    pub hash_tag: Option<HashTag>,
}

/// Where the keys of one pool go, as one worker sees it. Servers are known by their index in
/// [`Placement::members`].
#[derive(Debug)]
pub struct Placement {
    options: PlacementOptions,
    members: Vec<Member>,
    distribution: Distribution,
    live_count: usize,
}

/// Why a key goes where it goes. For people; the path of a request doesn't use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation<'key> {
    /// The part of the key that decides: inside the hash tag, or all of it.
    pub hashed: &'key [u8],
    /// Its hash, which `random` ignores. `None` in a pool of one server, where nothing is hashed.
    pub hash: Option<u32>,
    /// The point that owns the hash. `None` where nothing is hashed or no member is live.
    pub point: Option<Point>,
    /// What [`Placement::server_for`] would answer now.
    pub server_index: Option<usize>,
}

/// Keys that are hashed together: enough to fill the time that one multiplication takes.
const TOGETHER: usize = 4;

impl Placement {
    /// A placement with every member live. `seed` is for `random`; give each worker another.
    ///
    /// # Panics
    ///
    /// If there is no member, one weighs 0, or they are not in the order of [`name_order`]: the
    /// configuration has been checked for all of these.
    pub fn new(options: PlacementOptions, members: Vec<Member>, seed: u64) -> Placement {
        assert!(!members.is_empty(), "a pool has at least one server");
        assert!(members.iter().all(|member| member.weight > 0), "weights are at least 1");
        assert!(
            members.is_sorted_by(|a, b| name_order(&a.name, &b.name).is_le()),
            "members are in the order of their names"
        );
        let distribution = Distribution::new(options.distribution, seed);
        let live = vec![true; members.len()];
        let mut placement = Placement { options, members, distribution, live_count: 0 };
        placement.rebuild(&live);
        placement
    }

    /// Spreads the keys over the members for which `live` is true. With none of them live the
    /// points stay as they were, and [`Placement::server_for`] gives `None`.
    ///
    /// # Panics
    ///
    /// If `live` has not one element for each member.
    pub fn rebuild(&mut self, live: &[bool]) {
        assert_eq!(live.len(), self.members.len(), "one flag for each member");
        self.live_count = live.iter().filter(|&&live| live).count();
        if self.live_count > 0 {
            self.distribution.rebuild(&self.members, live);
            assert!(!self.points().is_empty(), "a live member has at least one point");
        }
    }

    /// The index of the member that a key goes to, or `None` when no member is live.
    #[inline]
    pub fn server_for(&mut self, key: &[u8]) -> Option<usize> {
        if self.live_count == 0 {
            return None;
        }
        if self.members.len() == 1 {
            return Some(0);
        }
        let hash = self.hash(self.hashed_part(key));
        let [server] = self.distribution.choose([hash]);
        Some(server as usize)
    }

    /// What [`Placement::server_for`] gives for each of several keys, one after the other, is added
    /// to `servers`. `None` when no member is live; then nothing is added.
    #[inline]
    pub fn servers_for<'key>(
        &mut self,
        mut keys: impl ExactSizeIterator<Item = &'key [u8]>,
        servers: &mut Vec<u32>,
    ) -> Option<()> {
        if self.live_count == 0 {
            return None;
        }
        if self.members.len() == 1 {
            servers.resize(servers.len() + keys.len(), 0);
            return Some(());
        }
        servers.reserve(keys.len());
        while keys.len() >= TOGETHER {
            let group: [&[u8]; TOGETHER] =
                std::array::from_fn(|_| self.hashed_part(keys.next().expect("counted")));
            let mut hashes = self.options.hash.hash_each(group);
            for (hash, key) in hashes.iter_mut().zip(group) {
                // See `hash`.
                *hash = if key.is_empty() { 0 } else { *hash };
            }
            servers.extend(self.distribution.choose(hashes));
        }
        for key in keys {
            let hash = self.hash(self.hashed_part(key));
            servers.extend(self.distribution.choose([hash]));
        }
        Some(())
    }

    /// How [`Placement::server_for`] would decide for a key. It changes nothing: the next answer of
    /// `random` is the one told here.
    pub fn explain<'key>(&self, key: &'key [u8]) -> Explanation<'key> {
        let is_live = self.live_count > 0;
        if self.members.len() == 1 {
            let server_index = is_live.then_some(0);
            return Explanation { hashed: key, hash: None, point: None, server_index };
        }
        let hashed = self.hashed_part(key);
        let hash = self.hash(hashed);
        let point = is_live.then(|| self.points()[self.distribution.find(hash)]);
        let server_index = point.map(|point| point.server_index as usize);
        Explanation { hashed, hash: Some(hash), point, server_index }
    }

    /// The points of the live members in their order; see [`Point`] for what the values mean.
    pub fn points(&self) -> &[Point] {
        self.distribution.points()
    }

    /// All configured members, live or not, in index order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    #[inline]
    fn hashed_part<'key>(&self, key: &'key [u8]) -> &'key [u8] {
        self.options.hash_tag.map_or(key, |tag| tag.extract(key))
    }

    /// An empty key hashes to 0 whatever the function, as in twemproxy.
    #[inline]
    fn hash(&self, hashed: &[u8]) -> u32 {
        if hashed.is_empty() { 0 } else { self.options.hash.hash(hashed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(distribution: DistributionKind) -> PlacementOptions {
        PlacementOptions { hash: HashKind::Fnv1a_64, distribution, hash_tag: None }
    }

    fn members(names: &[&str]) -> Vec<Member> {
        names.iter().map(|&name| Member { name: name.to_owned(), weight: 1 }).collect()
    }

    #[test]
    fn shorter_names_come_first_and_then_bytes_decide() {
        let mut names = ["zeta", "b", "é", "alpha1", "aa", "a", "zz"];
        names.sort_by(|a, b| name_order(a, b));
        assert_eq!(names, ["a", "b", "aa", "zz", "é", "zeta", "alpha1"]);
    }

    #[test]
    fn an_empty_key_hashes_to_zero_whatever_the_function() {
        for &hash in HashKind::ALL {
            let options = PlacementOptions { hash, ..options(DistributionKind::Modula) };
            let mut placement = Placement::new(options, members(&["a", "b", "c"]), 0);
            assert_eq!(placement.explain(b"").hash, Some(0));
            assert_eq!(placement.server_for(b""), Some(0));
        }
    }

    #[test]
    fn a_pool_of_one_server_hashes_nothing() {
        for &distribution in DistributionKind::ALL {
            let mut placement = Placement::new(options(distribution), members(&["only"]), 0);
            assert_eq!(placement.server_for(b"key"), Some(0));
            assert_eq!(placement.explain(b"key").hash, None);
            assert_eq!(placement.explain(b"key").server_index, Some(0));
            placement.rebuild(&[false]);
            assert_eq!(placement.server_for(b"key"), None);
            assert_eq!(placement.explain(b"key").server_index, None);
        }
    }

    #[test]
    fn with_one_live_member_of_several_it_gets_every_key() {
        for &distribution in DistributionKind::ALL {
            let mut placement = Placement::new(options(distribution), members(&["a", "b", "c"]), 0);
            placement.rebuild(&[false, false, true]);
            for key in 0..100_u32 {
                assert_eq!(placement.server_for(&key.to_le_bytes()), Some(2));
            }
        }
    }

    #[test]
    fn a_member_that_returns_gets_its_keys_back() {
        for distribution in [DistributionKind::Ketama, DistributionKind::Modula] {
            // MD5 spreads keys that are alike; the default hash would put them on one member.
            let options = PlacementOptions { hash: HashKind::Md5, ..options(distribution) };
            let mut placement = Placement::new(options, members(&["a", "b", "c"]), 0);
            let keys: Vec<Vec<u8>> = (0..200).map(|n| format!("key:{n}").into_bytes()).collect();
            let all = |placement: &mut Placement| -> Vec<Option<usize>> {
                keys.iter().map(|key| placement.server_for(key)).collect()
            };
            let before = all(&mut placement);
            assert!((0..3).all(|index| before.contains(&Some(index))));
            placement.rebuild(&[true, false, true]);
            let without = all(&mut placement);
            if distribution == DistributionKind::Ketama {
                for (before, without) in before.iter().zip(&without) {
                    assert!(before == without || *before == Some(1), "no other key moves");
                }
            }
            placement.rebuild(&[false; 3]);
            assert!(all(&mut placement).iter().all(Option::is_none));
            placement.rebuild(&[true; 3]);
            assert_eq!(all(&mut placement), before);
        }
    }

    #[test]
    fn keys_with_one_tag_share_a_server() {
        let options = PlacementOptions {
            hash_tag: Some(HashTag::new(b'{', b'}')),
            ..options(DistributionKind::Ketama)
        };
        let mut placement = Placement::new(options, members(&["a", "b", "c", "d"]), 0);
        let server = placement.server_for(b"user1");
        for suffix in ["tweets", "ids", "x"] {
            let key = format!("{{user1}}:{suffix}");
            assert_eq!(placement.server_for(key.as_bytes()), server);
            assert_eq!(placement.explain(key.as_bytes()).hashed, b"user1");
        }
    }

    #[test]
    #[should_panic(expected = "order of their names")]
    fn members_out_of_order_are_refused() {
        Placement::new(options(DistributionKind::Ketama), members(&["aa", "b"]), 0);
    }

    #[test]
    #[should_panic(expected = "at least one server")]
    fn a_pool_without_members_is_refused() {
        Placement::new(options(DistributionKind::Ketama), Vec::new(), 0);
    }

    /// Weights of every size, with the extremes often.
    fn any_weight() -> impl Strategy<Value = u32> {
        prop_oneof![1..10_u32, 1..=u32::MAX, Just(1), Just(u32::MAX)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn every_key_goes_to_a_live_member(
            weighted in proptest::collection::btree_map(".{0,12}", any_weight(), 1..12),
            masks in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 12), 1..4),
            keys in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..14),
            hash in proptest::sample::select(HashKind::ALL),
            tag in proptest::option::of(any::<(u8, u8)>()),
            seed in any::<u64>(),
        ) {
            let hash_tag = tag.map(|(open, close)| HashTag::new(open, close));
            let mut members: Vec<Member> =
                weighted.into_iter().map(|(name, weight)| Member { name, weight }).collect();
            members.sort_by(|a, b| name_order(&a.name, &b.name));
            for &distribution in DistributionKind::ALL {
                let options = PlacementOptions { hash, distribution, hash_tag };
                let mut placement = Placement::new(options, members.clone(), seed);
                for mask in &masks {
                    let live = &mask[..members.len()];
                    placement.rebuild(live);
                    let mut twin = Placement::new(options, members.clone(), seed);
                    twin.rebuild(live);
                    let mut together = Vec::new();
                    twin.servers_for(keys.iter().map(Vec::as_slice), &mut together);
                    let mut single = Placement::new(options, members.clone(), seed);
                    single.rebuild(live);
                    let one_by_one: Vec<u32> = (keys.iter())
                        .filter_map(|key| single.server_for(key).map(|server| server as u32))
                        .collect();
                    prop_assert_eq!(together, one_by_one);
                    for key in &keys {
                        let told = placement.explain(key).server_index;
                        let server = placement.server_for(key);
                        prop_assert_eq!(server, told);
                        prop_assert_eq!(server.is_some(), live.contains(&true));
                        prop_assert!(server.is_none_or(|index| live[index]));
                    }
                }
            }
        }
    }
}
