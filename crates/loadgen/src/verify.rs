//! Whether a reply is right: the kind that the request may have, of the right key, and no older
//! than what was acknowledged before the request was sent.
//!
//! Each key has one writer (the thread that owns it), so "older" can be told without a clock.
//! Invariant: nothing that a right server may do is called a violation; what can't be known (a
//! write whose reply was lost) makes the check weaker, never wrong.

use crate::reply::Reply;
use crate::workload::Plan;
use crate::workload::file::{Op, Verify, Wire};
use crate::workload::keys::KeyKind;
use crate::workload::plan::Part;
use crate::workload::stream::{Request, multi_keys};
use crate::workload::value::{Versions, Violation};

/// Keys whose versions are followed, per thread: 8 bytes each. With more keys the rest is checked
/// for everything but age.
pub const TRACKED_KEYS_MAX: u64 = 1 << 20;

/// What is known of one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known {
    /// No older version may be read; 0 when that is not known.
    floor: u32,
    /// The last version that was sent.
    newest: u32,
    /// The first version of the writes that are under way together: any of them may be the last. 0
    /// when that is not known any more.
    group: u32,
    /// How many are under way, or whose end will never be known; [`FIELD_MAX`] stands for any more.
    under_way: u32,
    /// It may be gone: deleted, or never written.
    may_miss: bool,
}

/// [`Known`] in 8 bytes: the tables are read for each request, in no order, and half the size
/// stays in the cache. What is far behind the newest version is forgotten, which makes the check of
/// that key weaker.
#[derive(Debug, Clone, Copy)]
struct Entry {
    newest: u32,
    /// From the lowest bit: how far the floor is behind the newest, how far the group is, how many
    /// are under way ([`FIELD_BITS`] each), and whether it may be gone.
    rest: u32,
}

const FIELD_BITS: u32 = 10;
const FIELD_MAX: u32 = (1 << FIELD_BITS) - 1;

impl Entry {
    #[inline]
    fn unpack(self) -> Known {
        let field = |at: u32| self.rest >> (at * FIELD_BITS) & FIELD_MAX;
        let back = |lag| if lag == FIELD_MAX { 0 } else { self.newest - lag };
        Known {
            floor: back(field(0)),
            newest: self.newest,
            group: back(field(1)),
            under_way: field(2),
            may_miss: self.rest >> (3 * FIELD_BITS) != 0,
        }
    }

    #[inline]
    fn pack(known: Known) -> Entry {
        let lag = |version: u32| (known.newest - version).min(FIELD_MAX);
        let rest = lag(known.floor)
            | lag(known.group) << FIELD_BITS
            | known.under_way << (2 * FIELD_BITS)
            | u32::from(known.may_miss) << (3 * FIELD_BITS);
        Entry { newest: known.newest, rest }
    }

    fn change(&mut self, change: impl FnOnce(&mut Known)) {
        let mut known = self.unpack();
        change(&mut known);
        *self = Entry::pack(known);
    }
}

/// What a request must remember until its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expect {
    /// The floor of its key when it was sent.
    pub floor: u32,
    /// The version that it writes; of a read the newest that had been sent, `ANY_VERSION` where
    /// none is known.
    pub version: u32,
    /// Whether a miss is right.
    pub may_miss: bool,
}

/// See [`Expect::version`].
const ANY_VERSION: u32 = u32::MAX;

/// How a request ended, when it ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Reads: so many keys were found, so many not.
    Read {
        /// Found.
        hits: u32,
        /// Not found.
        misses: u32,
    },
    /// Anything else that was done, or not done for a good reason.
    Done,
    /// The server says that it can't.
    Refused,
}

/// Checks the replies of one thread.
#[derive(Debug)]
pub struct Verifier {
    part: Part,
    /// By key; empty where all keys are `alike`, or none is followed.
    values: Vec<Entry>,
    /// What is known of each key of a load that only reads.
    alike: Option<Known>,
    /// The last answer of each counter.
    counters: Vec<u32>,
    text: Vec<u8>,
    keys: Vec<u64>,
    serial: u64,
}

impl Verifier {
    /// For the keys of one part.
    pub fn new(plan: &Plan, part: Part) -> Verifier {
        let own = plan.keys.count().div_ceil(part.count).min(TRACKED_KEYS_MAX) as usize;
        let (counters, values) = plan.uses();
        let track = plan.verify() != Verify::Off;
        let own = if track { own } else { 0 };
        // Until a key has been written by this run it may well be missing.
        let known = Known { may_miss: true, ..Known::default() };
        let alike = (track && plan.only_reads()).then_some(known);
        Verifier {
            part,
            values: vec![Entry::pack(known); if values && alike.is_none() { own } else { 0 }],
            alike,
            counters: vec![0; if counters { own } else { 0 }],
            text: Vec::new(),
            keys: Vec::new(),
            serial: 0,
        }
    }

    /// Where a key's entry is, if this part owns the key.
    #[inline]
    fn place(&self, key: u64) -> usize {
        match self.part {
            _ if !self.part.owns(key) => usize::MAX,
            Part { count: 1, .. } => key as usize,
            Part { count, .. } => (key / count) as usize,
        }
    }

    /// Brings what is known of keys into the cache: one after the other the reads would wait for
    /// memory, together they wait once.
    pub fn touch(&self, keys: impl Iterator<Item = u64>) {
        let touched = keys.filter_map(|key| self.values.get(self.place(key)));
        std::hint::black_box(touched.fold(0, |all, entry| all ^ entry.rest));
    }

    #[inline]
    fn entry(&mut self, key: u64) -> Option<&mut Entry> {
        let place = self.place(key);
        self.values.get_mut(place)
    }

    /// A write of a value is about to be sent (or a delete, which takes a version as well): the
    /// version that it must carry.
    pub fn begin_write(&mut self, key: u64, number: u64) -> Expect {
        if self.alike.is_some() {
            // The only write of each key, before the measurement.
            return Expect { version: 1, may_miss: true, floor: 0 };
        }
        let Some(entry) = self.entry(key) else {
            return Expect { version: number as u32, may_miss: true, floor: 0 };
        };
        let mut known = entry.unpack();
        known.newest = known.newest.saturating_add(1);
        if known.under_way == 0 {
            known.group = known.newest;
        }
        known.under_way = (known.under_way + 1).min(FIELD_MAX);
        *entry = Entry::pack(known);
        Expect { version: known.newest, floor: known.floor, may_miss: known.may_miss }
    }

    /// A write has been answered. Only when no other is under way it is known that what was there
    /// before is gone.
    fn end_write(&mut self, key: u64, stored: bool, deleted: bool) {
        let Some(entry) = self.entry(key) else { return };
        entry.change(|known| {
            known.may_miss |= deleted;
            // So many that they were not counted: none of them is known to be the last.
            if known.under_way < FIELD_MAX {
                known.under_way = known.under_way.saturating_sub(1);
            }
            if known.under_way == 0 && stored {
                known.floor = known.floor.max(known.group);
                known.may_miss = deleted;
            }
        });
    }

    /// What a request must remember, when it is sent.
    #[inline]
    pub fn begin(&mut self, plan: &Plan, request: &Request) -> Expect {
        let key = request.key;
        match plan.ops[request.op as usize] {
            Op::Set | Op::Insert | Op::Add | Op::Rmw => self.begin_write(key, request.number),
            Op::Delete => {
                self.may_be_gone(key);
                self.begin_write(key, request.number)
            }
            Op::Incr => {
                let floor = self.counters.get(self.place(key)).copied().unwrap_or(0);
                Expect { floor, ..Expect::default() }
            }
            Op::Get | Op::Gets | Op::Cas | Op::Touch | Op::Prepend => {
                let known = self.alike.or_else(|| self.entry(key).map(|entry| entry.unpack()));
                match known {
                    None => Expect { may_miss: true, version: ANY_VERSION, floor: 0 },
                    Some(Known { floor, newest, may_miss, .. }) => {
                        Expect { floor, version: newest, may_miss }
                    }
                }
            }
            Op::Mget | Op::Scan | Op::Ping => Expect { may_miss: true, ..Expect::default() },
        }
    }

    /// All keys were written before the measurement, but for so many that could not be.
    pub fn end_prefill(&mut self, failed: u64) {
        if let Some(known) = &mut self.alike {
            known.newest = 1;
            // Which keys failed is not followed, so after that any may be missing.
            (known.floor, known.may_miss) = (u32::from(failed == 0), failed > 0);
        }
    }

    /// One of the keys was written before the measurement.
    pub fn prefilled(&mut self, kind: KeyKind, key: u64) {
        if kind == KeyKind::Value {
            self.end_write(key, true, false);
        }
    }

    /// From now on a miss is right.
    fn may_be_gone(&mut self, key: u64) {
        if let Some(entry) = self.entry(key) {
            entry.change(|known| known.may_miss = true);
        }
    }

    /// A reply. `nth` counts the replies of one request. Errors are violations.
    #[inline]
    pub fn check(
        &mut self,
        plan: &Plan,
        request: &Request,
        expect: &Expect,
        nth: u16,
        reply: Reply<'_>,
    ) -> Result<Answer, Violation> {
        let op = plan.ops[request.op as usize];
        if let Reply::Error(_) = reply {
            let writes = matches!(op, Op::Set | Op::Insert | Op::Add | Op::Delete)
                || (matches!(op, Op::Rmw | Op::Cas) && nth == 1);
            if writes {
                // It may or may not have been done: like a lost one, but the next may follow.
                self.end_write(request.key, false, op == Op::Delete);
            }
            return Ok(Answer::Refused);
        }
        if plan.verify() == Verify::Off {
            return Ok(unchecked(reply));
        }
        match (op, reply) {
            (Op::Get | Op::Gets, _) => self.read_one(plan, request.key, expect, reply),
            (Op::Rmw | Op::Cas, _) if nth == 0 => self.read_one(plan, request.key, expect, reply),
            (Op::Mget | Op::Scan, _) => self.read_many(plan, request, nth, reply),
            (Op::Set | Op::Insert | Op::Rmw, Reply::Done) => {
                self.end_write(request.key, true, false);
                Ok(Answer::Done)
            }
            // Another write came between, or a removal.
            (Op::Cas, Reply::Done | Reply::NotStored | Reply::Miss) => {
                self.end_write(request.key, reply == Reply::Done, false);
                Ok(Answer::Done)
            }
            (Op::Prepend, Reply::Done) => Ok(Answer::Done),
            (Op::Prepend, Reply::NotStored | Reply::Miss) => {
                Ok(Answer::Read { hits: 0, misses: 1 })
            }
            // SET NX that did nothing answers null, `add` NOT_STORED.
            (Op::Add, Reply::Done | Reply::NotStored | Reply::Miss) => {
                let stored = reply == Reply::Done;
                self.end_write(request.key, stored, false);
                Ok(Answer::Done)
            }
            (Op::Delete, Reply::Done | Reply::Miss | Reply::Number(0 | 1)) => {
                self.end_write(request.key, true, true);
                Ok(Answer::Done)
            }
            (Op::Incr, Reply::Number(value)) => self.counted(request.key, expect, value),
            (Op::Incr, Reply::Value { bytes, .. }) => {
                let value = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
                self.counted(request.key, expect, value.ok_or(Violation::WrongKind)?)
            }
            // memcached's counters must exist.
            (Op::Incr, Reply::Miss) => Ok(Answer::Read { hits: 0, misses: 1 }),
            (Op::Touch, Reply::Done | Reply::Number(1)) => Ok(Answer::Done),
            (Op::Touch, Reply::Miss | Reply::Number(0)) => Ok(Answer::Read { hits: 0, misses: 1 }),
            (Op::Ping, Reply::Done) => Ok(Answer::Done),
            _ => Err(Violation::WrongKind),
        }
    }

    /// The reply of a request will never come: it may yet be carried out, at any time.
    pub fn lost(&mut self, plan: &Plan, request: &Request) {
        // Its write stays under way for ever, so the floor of its key stays where it is.
        if plan.ops[request.op as usize] == Op::Delete {
            self.may_be_gone(request.key);
        }
    }

    fn counted(&mut self, key: u64, expect: &Expect, value: i64) -> Result<Answer, Violation> {
        // Nobody else adds, so the counter has grown since the last answer that came before this
        // request.
        if value <= i64::from(expect.floor) {
            return Err(Violation::Stale);
        }
        let place = self.place(key);
        if let Some(last) = self.counters.get_mut(place) {
            *last = (*last).max(u32::try_from(value).unwrap_or(u32::MAX - 1));
        }
        Ok(Answer::Done)
    }

    fn read_one(
        &mut self,
        plan: &Plan,
        key: u64,
        expect: &Expect,
        reply: Reply<'_>,
    ) -> Result<Answer, Violation> {
        match reply {
            Reply::Value { key: text, bytes } => {
                if let Some(text) = text {
                    self.same_key(plan, key, text)?;
                }
                let versions = Versions { floor: expect.floor, newest: expect.version };
                self.value(plan, key, versions, bytes)?;
                Ok(Answer::Read { hits: 1, misses: 0 })
            }
            Reply::Miss if plan.settings.must_hit && !expect.may_miss => {
                Err(Violation::UnexpectedMiss)
            }
            Reply::Miss => Ok(Answer::Read { hits: 0, misses: 1 }),
            _ => Err(Violation::WrongKind),
        }
    }

    #[inline]
    fn value(
        &mut self,
        plan: &Plan,
        key: u64,
        versions: Versions,
        bytes: &[u8],
    ) -> Result<u32, Violation> {
        self.serial += 1;
        let full = plan.verify() == Verify::Full || self.serial.is_multiple_of(64);
        let size = plan.size_of(key);
        match plan.values.check(bytes, key, size, versions, full) {
            Err(Violation::UnknownVersion) => {
                // It may have been written after the read was sent.
                let versions = Versions { newest: self.newest(key), ..versions };
                plan.values.check(bytes, key, size, versions, full)
            }
            checked => checked,
        }
    }

    fn newest(&mut self, key: u64) -> u32 {
        match self.alike {
            Some(known) => known.newest,
            None => self.entry(key).map_or(ANY_VERSION, |entry| entry.newest),
        }
    }

    fn same_key(&mut self, plan: &Plan, key: u64, text: &[u8]) -> Result<(), Violation> {
        self.text.clear();
        plan.keys.write(KeyKind::Value, key, &mut self.text);
        if self.text == text { Ok(()) } else { Err(Violation::WrongKey) }
    }

    /// The floors of the keys of a multi-get are not kept: their age is not checked.
    fn read_many(
        &mut self,
        plan: &Plan,
        request: &Request,
        nth: u16,
        reply: Reply<'_>,
    ) -> Result<Answer, Violation> {
        let mut keys = std::mem::take(&mut self.keys);
        keys.clear();
        multi_keys(plan, request, |_, key| keys.push(key));
        let result = self.read_keys(plan, &keys, nth, reply);
        self.keys = keys;
        result
    }

    fn read_keys(
        &mut self,
        plan: &Plan,
        keys: &[u64],
        nth: u16,
        reply: Reply<'_>,
    ) -> Result<Answer, Violation> {
        let by_replies = plan.wire() == Wire::Meta;
        let wanted = if by_replies { &keys[nth as usize..=nth as usize] } else { keys };
        let in_order = plan.wire() != Wire::Memcache;
        let mut wanted = wanted.iter().copied();
        let mut left = wanted.len() as u32;
        let mut hits = 0;
        let mut see = |verifier: &mut Verifier, element: Reply<'_>| {
            let (text, bytes) = match element {
                Reply::Miss if in_order => {
                    wanted.next();
                    return Ok(());
                }
                Reply::Value { key, bytes } => (key, bytes),
                _ => return Err(Violation::WrongKind),
            };
            // memcached leaves out what it does not have.
            let key = loop {
                let key = wanted.next().ok_or(Violation::WrongKey)?;
                match text {
                    Some(text) if verifier.same_key(plan, key, text).is_err() => {
                        if in_order {
                            return Err(Violation::WrongKey);
                        }
                    }
                    _ => break key,
                }
            };
            hits += 1;
            left = left.saturating_sub(1);
            let versions = Versions { floor: 0, newest: verifier.newest(key) };
            verifier.value(plan, key, versions, bytes).map(|_| ())
        };
        match reply {
            Reply::Many(mut elements) => {
                if in_order && elements.count() != keys.len() {
                    return Err(Violation::WrongKind);
                }
                while let Some(element) = elements.take() {
                    see(self, element)?;
                }
            }
            Reply::Miss if in_order && !by_replies => return Err(Violation::WrongKind),
            Reply::Miss => {}
            Reply::Value { .. } if !in_order || by_replies => see(self, reply)?,
            _ => return Err(Violation::WrongKind),
        }
        Ok(Answer::Read { hits, misses: left })
    }
}

fn unchecked(reply: Reply<'_>) -> Answer {
    match reply {
        Reply::Value { .. } => Answer::Read { hits: 1, misses: 0 },
        Reply::Miss => Answer::Read { hits: 0, misses: 1 },
        Reply::Many(elements) => Answer::Read { hits: elements.count() as u32, misses: 0 },
        _ => Answer::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Settings;

    const COMMANDS: &str = "[commands]\nget = 1\nset = 1\ndelete = 1\nincr = 1\nmget = 1";

    fn plan(head: &str) -> Plan {
        let settings = Settings::parse(&format!("{head}\n{COMMANDS}")).expect("good");
        Plan::new(&settings, 9).expect("possible")
    }

    struct Case {
        plan: Plan,
        verifier: Verifier,
        number: u64,
    }

    impl Case {
        fn new(head: &str) -> Case {
            let plan = plan(head);
            let verifier = Verifier::new(&plan, Part::WHOLE);
            Case { plan, verifier, number: 0 }
        }

        fn begin(&mut self, op: Op, key: u64) -> (Request, Expect) {
            let op = self.plan.ops.iter().position(|&one| one == op).expect("in the plan");
            self.number += 1;
            let request = Request { number: self.number, op: op as u8, key };
            (request, self.verifier.begin(&self.plan, &request))
        }

        fn end(&mut self, sent: (Request, Expect), reply: Reply<'_>) -> Result<Answer, Violation> {
            self.verifier.check(&self.plan, &sent.0, &sent.1, 0, reply)
        }

        fn value(&self, key: u64, version: u32) -> Vec<u8> {
            let mut bytes = Vec::new();
            self.plan.values.write(key, version, self.plan.size_of(key), &mut bytes);
            bytes
        }

        fn read(&mut self, key: u64, bytes: &[u8]) -> Result<Answer, Violation> {
            let sent = self.begin(Op::Get, key);
            self.end(sent, Reply::Value { key: None, bytes })
        }
    }

    const HIT: Result<Answer, Violation> = Ok(Answer::Read { hits: 1, misses: 0 });

    #[test]
    fn a_value_older_than_an_acknowledged_write_is_stale() {
        let mut case = Case::new("");
        for version in 1..=3 {
            let sent = case.begin(Op::Set, 5);
            assert_eq!(sent.1.version, version);
            case.end(sent, Reply::Done).expect("stored");
        }
        let (old, new) = (case.value(5, 2), case.value(5, 3));
        assert_eq!(case.read(5, &new), HIT);
        assert_eq!(case.read(5, &old), Err(Violation::Stale));
        let future = case.value(5, 4);
        assert_eq!(case.read(5, &future), Err(Violation::UnknownVersion));
        let other = case.value(6, 3);
        assert_eq!(case.read(5, &other), Err(Violation::WrongKey));
        assert_eq!(case.read(5, &new[..50]), Err(Violation::WrongLength));
    }

    #[test]
    fn a_read_that_was_sent_before_the_acknowledgement_may_be_old() {
        let mut case = Case::new("");
        let first = case.begin(Op::Set, 5);
        case.end(first, Reply::Done).expect("stored");
        let read = case.begin(Op::Get, 5);
        let second = case.begin(Op::Set, 5);
        case.end(second, Reply::Done).expect("stored");
        let old = case.value(5, 1);
        assert_eq!(case.end(read, Reply::Value { key: None, bytes: &old }), HIT);
    }

    #[test]
    fn writes_that_are_under_way_together_may_end_in_any_order() {
        let mut case = Case::new("");
        let (first, second) = (case.begin(Op::Set, 5), case.begin(Op::Set, 5));
        case.end(second, Reply::Done).expect("stored");
        case.end(first, Reply::Done).expect("stored");
        let (one, two) = (case.value(5, 1), case.value(5, 2));
        assert_eq!(case.read(5, &one), HIT);
        assert_eq!(case.read(5, &two), HIT);
        let third = case.begin(Op::Set, 5);
        case.end(third, Reply::Done).expect("stored");
        assert_eq!(case.read(5, &two), Err(Violation::Stale));
    }

    #[test]
    fn a_lost_write_makes_the_check_weaker_and_not_wrong() {
        let mut case = Case::new("");
        let first = case.begin(Op::Set, 5);
        case.end(first, Reply::Done).expect("stored");
        let lost = case.begin(Op::Set, 5);
        case.verifier.lost(&case.plan, &lost.0);
        let third = case.begin(Op::Set, 5);
        case.end(third, Reply::Done).expect("stored");
        for version in 1..=3 {
            let bytes = case.value(5, version);
            assert_eq!(case.read(5, &bytes), HIT);
        }
    }

    #[test]
    fn what_does_not_fit_an_entry_makes_the_check_weaker_and_not_wrong() {
        let known = Known { floor: 7, newest: 9, group: 8, under_way: 2, may_miss: true };
        assert_eq!(Entry::pack(known).unpack(), known);
        let far = Known { newest: 7 + FIELD_MAX, ..known };
        let expected = Known { floor: 0, ..far };
        assert_eq!(Entry::pack(far).unpack(), expected, "the floor is forgotten");
        // More writes at once than are counted: none of them is known to be the last, ever.
        let mut case = Case::new("");
        let sent: Vec<_> = (0..2 * FIELD_MAX).map(|_| case.begin(Op::Set, 5)).collect();
        for sent in sent {
            case.end(sent, Reply::Done).expect("stored");
        }
        for version in [1, FIELD_MAX, 2 * FIELD_MAX] {
            let bytes = case.value(5, version);
            assert_eq!(case.read(5, &bytes), HIT);
        }
        let never = case.value(5, 2 * FIELD_MAX + 1);
        assert_eq!(case.read(5, &never), Err(Violation::UnknownVersion));
    }

    #[test]
    fn a_load_that_only_reads_knows_what_was_written_before_it() {
        let settings = Settings::parse("must_hit = true\n[commands]\nget = 1").expect("good");
        let plan = Plan::new(&settings, 9).expect("possible");
        for failed in [0, 1] {
            let mut verifier = Verifier::new(&plan, Part::WHOLE);
            assert_eq!(verifier.begin_write(5, 0).version, 1);
            verifier.prefilled(KeyKind::Value, 5);
            verifier.end_prefill(failed);
            let request = Request { number: 0, op: 0, key: 5 };
            let expect = verifier.begin(&plan, &request);
            let mut check = |reply| verifier.check(&plan, &request, &expect, 0, reply);
            let value = |plan: &Plan, version| {
                let mut bytes = Vec::new();
                plan.values.write(5, version, plan.size_of(5), &mut bytes);
                bytes
            };
            let (old, right, new) = (value(&plan, 0), value(&plan, 1), value(&plan, 2));
            let mut read = |bytes| check(Reply::Value { key: None, bytes });
            assert_eq!(read(&right), HIT);
            assert_eq!(read(&new), Err(Violation::UnknownVersion));
            assert_eq!(read(&old).is_err(), failed == 0);
            assert_eq!(check(Reply::Miss).is_err(), failed == 0);
        }
    }

    #[test]
    fn a_miss_is_wrong_only_where_nothing_may_have_removed_the_key() {
        let mut case = Case::new("must_hit = true");
        let miss = Ok(Answer::Read { hits: 0, misses: 1 });
        let read = case.begin(Op::Get, 5);
        assert_eq!(case.end(read, Reply::Miss), miss);
        let write = case.begin(Op::Set, 5);
        case.end(write, Reply::Done).expect("stored");
        let read = case.begin(Op::Get, 5);
        assert_eq!(case.end(read, Reply::Miss), Err(Violation::UnexpectedMiss));
        let delete = case.begin(Op::Delete, 5);
        let read = case.begin(Op::Get, 5);
        assert_eq!(case.end(read, Reply::Miss), miss);
        case.end(delete, Reply::Number(1)).expect("deleted");
        let read = case.begin(Op::Get, 5);
        assert_eq!(case.end(read, Reply::Miss), miss);
        let old = case.value(5, 1);
        assert_eq!(case.read(5, &old), Err(Violation::Stale));
    }

    #[test]
    fn counters_only_grow() {
        let mut case = Case::new("");
        for value in 1..=2 {
            let sent = case.begin(Op::Incr, 3);
            assert_eq!(case.end(sent, Reply::Number(value)), Ok(Answer::Done));
        }
        let sent = case.begin(Op::Incr, 3);
        assert_eq!(case.end(sent, Reply::Number(2)), Err(Violation::Stale));
    }

    #[test]
    fn a_reply_of_another_kind_was_crossed() {
        let mut case = Case::new("");
        for (op, reply) in [
            (Op::Get, Reply::Done),
            (Op::Set, Reply::Miss),
            (Op::Set, Reply::Number(1)),
            (Op::Incr, Reply::Done),
            (Op::Delete, Reply::Value { key: None, bytes: b"x" }),
            (Op::Mget, Reply::Done),
        ] {
            let sent = case.begin(op, 1);
            assert_eq!(case.end(sent, reply), Err(Violation::WrongKind), "{op:?}");
        }
        let sent = case.begin(Op::Get, 1);
        assert_eq!(case.end(sent, Reply::Error(b"ERR")), Ok(Answer::Refused));
    }

    #[test]
    fn values_of_a_multi_get_are_in_the_order_of_its_keys() {
        for (wire, named) in [("redis", false), ("memcache", true)] {
            let mut case = Case::new(&format!("protocol = '{wire}'\nmulti = 3"));
            let sent = case.begin(Op::Mget, 1);
            let mut keys = Vec::new();
            multi_keys(&case.plan, &sent.0, |_, key| keys.push(key));
            let reply = |case: &Case, order: [usize; 3]| {
                let mut text = Vec::new();
                for index in order {
                    let value = case.value(keys[index], 1);
                    if named {
                        text.extend_from_slice(b"VALUE ");
                        case.plan.keys.write(KeyKind::Value, keys[index], &mut text);
                        text.extend_from_slice(format!(" 0 {}\r\n", value.len()).as_bytes());
                    } else {
                        text.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
                    }
                    text.extend_from_slice(&value);
                    text.extend_from_slice(b"\r\n");
                }
                if named {
                    [&text[..], b"END\r\n"].concat()
                } else {
                    [b"*3\r\n", &text[..]].concat()
                }
            };
            case.verifier.values.iter_mut().for_each(|entry| entry.newest = 1);
            let check = |case: &mut Case, text: &[u8]| {
                let crate::reply::Read::Whole(_, reply) =
                    crate::reply::read(case.plan.wire(), text)
                else {
                    panic!("whole");
                };
                case.end(sent, reply)
            };
            let (good, crossed) = (reply(&case, [0, 1, 2]), reply(&case, [1, 0, 2]));
            assert_eq!(check(&mut case, &good), Ok(Answer::Read { hits: 3, misses: 0 }));
            assert_eq!(check(&mut case, &crossed), Err(Violation::WrongKey));
        }
    }
}
