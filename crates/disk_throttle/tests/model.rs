//! Random requests of several disks, dropped ones, other limits and pauses, compared with a plain model after each step.

#[path = "../../disk_delay/tests/common/mod.rs"]
mod common;
mod world;

use disk_throttle::{GroupStatus, Limits};
use fastrand::Rng;
use std::time::Duration;
use world::{Begun, World};

const DISKS: usize = 3;
const NANO: i128 = 1_000_000_000;

const BYTES: usize = 0;
const OPERATIONS: usize = 1;

/// What happened to the buckets, from the beginning. What they hold is found by going through all of it, and when a request may go on
/// by trying moments: slow and plain.
///
/// The first request of a disk gets an operation, if those are limited, and then its bytes, if those are, and begins. For each of the two
/// the disks take turns: in the order of the time that they had before, but what was before the turn of the last one is forgotten.
#[derive(Default)]
struct Model {
    now_ns: u64,
    events: Vec<(u64, Event)>,
    waiting: Vec<Request>,
    /// For bytes and for operations, as all that follows.
    ends: [[u128; DISKS]; 2],
    place: [u128; 2],
    /// When a request of the disk began or went, last.
    left_ns: [u64; DISKS],
    begun: Vec<u64>,
}

#[derive(Clone, Copy)]
enum Event {
    Limits(Limits),
    /// So much of a bucket.
    Take(usize, u64),
    GiveBack(usize, u64),
}

#[derive(Clone, Copy)]
struct Request {
    id: u64,
    disk: usize,
    units: [u64; 2],
    arrived_ns: u64,
    /// When it got an operation, or needed none, and where its disk's turns for operations ended before.
    passed: Option<(u64, u128)>,
    place: Option<u128>,
}

impl Request {
    /// The bucket from which it takes next.
    fn bucket(&self) -> usize {
        match self.passed {
            Some(_) => BYTES,
            None => OPERATIONS,
        }
    }
}

/// Rate and burst of bytes, then of operations.
fn numbers(limits: &Limits) -> [Option<(u64, u64)>; 2] {
    let burst = |rate: u64, burst: Option<u64>| burst.unwrap_or((rate / 10).max(1));
    let bytes = limits
        .bytes_per_second
        .map(|rate| (rate, burst(rate, limits.burst_bytes)));
    let operations = limits.operations_per_second;
    [
        bytes,
        operations.map(|rate| (rate, burst(rate, limits.burst_operations))),
    ]
}

impl Model {
    fn limits(&self) -> [Option<(u64, u64)>; 2] {
        let limits = self.events.iter().rev().find_map(|(_, event)| match event {
            Event::Limits(limits) => Some(numbers(limits)),
            _ => None,
        });
        limits.unwrap_or_default()
    }

    /// What a bucket holds, in billionths of a unit.
    fn level(&self, bucket: usize, at_ns: u64) -> Option<i128> {
        let mut held: Option<i128> = None;
        let mut limit = None;
        let mut before_ns = 0;
        let end = (at_ns, Event::Take(bucket, 0));
        for (event_ns, event) in self.events.iter().chain([&end]) {
            if let (Some(level), Some((rate, burst))) = (&mut held, limit) {
                *level += i128::from(event_ns - before_ns) * i128::from(rate);
                *level = (*level).min(i128::from(burst) * NANO);
            }
            before_ns = *event_ns;
            match event {
                Event::Take(of, units) if *of == bucket => {
                    held = held.map(|held| held - i128::from(*units) * NANO);
                }
                Event::GiveBack(of, units) if *of == bucket => {
                    held = held.zip(limit).map(|(held, (_, burst))| {
                        (held + i128::from(*units) * NANO).min(i128::from(burst) * NANO)
                    });
                }
                Event::Take(..) | Event::GiveBack(..) => {}
                Event::Limits(limits) => {
                    limit = numbers(limits)[bucket];
                    held = limit.map(|(_, burst)| {
                        let full = i128::from(burst) * NANO;
                        held.map_or(full, |held: i128| held.min(full))
                    });
                }
            }
        }
        held
    }

    /// Whether a request may take of its bucket what it does.
    fn may_take(&self, request: &Request, at_ns: u64) -> bool {
        let bucket = request.bucket();
        let units = request.units[bucket];
        match self.limits()[bucket] {
            Some((_, burst)) if units > 0 => {
                let needed = i128::from(units.min(burst)) * NANO;
                self.level(bucket, at_ns).unwrap() >= needed
            }
            _ => true,
        }
    }

    fn first_of(&mut self, disk: usize) -> Option<&mut Request> {
        let mut waiting = self.waiting.iter_mut();
        waiting.find(|request| request.disk == disk)
    }

    /// The firsts of all disks, each with its turn at the bucket from which it takes next.
    fn firsts(&mut self) -> Vec<(u128, Request)> {
        let mut firsts = Vec::new();
        for disk in 0..DISKS {
            let (ends, places) = (self.ends, self.place);
            if let Some(first) = self.first_of(disk) {
                let bucket = first.bucket();
                let place = ends[bucket][disk].max(places[bucket]);
                firsts.push((*first.place.get_or_insert(place), *first));
            }
        }
        firsts
    }

    /// Who takes next of a bucket, and when: who takes nothing of it at once, and others in turn.
    fn next_at(&mut self, bucket: usize) -> Option<(u64, u128, Request)> {
        let limits = self.limits();
        let mut firsts = self.firsts();
        firsts.retain(|(_, first)| first.bucket() == bucket);
        let takes = |first: &Request| limits[bucket].is_some() && first.units[bucket] > 0;
        let in_turn = firsts
            .into_iter()
            .min_by_key(|(place, first)| (takes(first), *place, first.id));
        let (place, first) = in_turn?;
        let since_ns = match first.passed {
            Some((passed_ns, _)) => passed_ns,
            None => first.arrived_ns.max(self.left_ns[first.disk]),
        };
        if !takes(&first) {
            return Some((since_ns, place, first));
        }
        if !self.may_take(&first, self.now_ns) {
            return None;
        }
        let last_ns = self.events.last().map_or(0, |(event_ns, _)| *event_ns);
        let (mut from, mut to) = (last_ns.max(since_ns), self.now_ns);
        while from < to {
            let middle = from + (to - from) / 2;
            match self.may_take(&first, middle) {
                true => to = middle,
                false => from = middle + 1,
            }
        }
        Some((to, place, first))
    }

    fn settle(&mut self) {
        loop {
            let nexts = [self.next_at(OPERATIONS), self.next_at(BYTES)];
            let earliest = nexts.into_iter().flatten().min_by_key(|(ns, ..)| *ns);
            let Some((at_ns, place, first)) = earliest else {
                return;
            };
            let bucket = first.bucket();
            let end_before = self.ends[bucket][first.disk];
            self.take(&first, place, at_ns);
            if bucket == OPERATIONS {
                let request = self.first_of(first.disk).unwrap();
                request.passed = Some((at_ns, end_before));
                request.place = None;
            } else {
                self.waiting.retain(|request| request.id != first.id);
                self.left_ns[first.disk] = at_ns;
                self.begun.push(first.id);
            }
        }
    }

    fn take(&mut self, first: &Request, place: u128, at_ns: u64) {
        let bucket = first.bucket();
        let units = first.units[bucket];
        let Some((rate, _)) = self.limits()[bucket].filter(|_| units > 0) else {
            return;
        };
        self.events.push((at_ns, Event::Take(bucket, units)));
        self.place[bucket] = self.place[bucket].max(place);
        let time_ns = (u128::from(units) * NANO as u128).div_ceil(rate.into());
        self.ends[bucket][first.disk] = place + time_ns;
    }

    fn forget(&mut self, id: u64) {
        let request = self.waiting.iter().find(|request| request.id == id);
        let Some(request) = request.copied() else {
            return;
        };
        if let Some((_, end_before)) = request.passed {
            self.ends[OPERATIONS][request.disk] = end_before;
            let event = Event::GiveBack(OPERATIONS, request.units[OPERATIONS]);
            self.events.push((self.now_ns, event));
        }
        self.waiting.retain(|request| request.id != id);
        self.left_ns[request.disk] = self.now_ns;
    }

    /// Turns begin anew, and who went by operations when they were not limited needs one.
    fn change(&mut self, limits: Limits) {
        let were_limited = self.limits()[OPERATIONS].is_some();
        self.events.push((self.now_ns, Event::Limits(limits)));
        self.ends = self.place.map(|place| [place; DISKS]);
        for request in &mut self.waiting {
            request.place = None;
            let place = self.place[OPERATIONS];
            let passed = request.passed.filter(|_| were_limited);
            request.passed = passed.map(|(passed_ns, _)| (passed_ns, place));
        }
    }
}

fn random_limits(rng: &mut Rng) -> Limits {
    let mut limits = Limits::default();
    if rng.u8(..4) > 0 {
        limits.bytes_per_second = Some(1 << rng.u32(0..20)).map(|rate: u64| rate + rng.u64(..rate));
        limits.burst_bytes = rng.bool().then(|| rng.u64(1..100_000));
    }
    if rng.u8(..4) > 0 {
        limits.operations_per_second = Some(rng.u64(1..200));
        limits.burst_operations = rng.bool().then(|| rng.u64(1..10));
    }
    limits
}

fn compare(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let limits = random_limits(&mut rng);
    let world = World::new(limits);
    let disks = [world.disk(), world.disk(), world.disk()];
    let mut model = Model::default();
    model.change(limits);
    let mut requests: Vec<(u64, Begun)> = Vec::new();
    let mut begun = Vec::new();
    for step in 0..200 {
        match rng.u8(..10) {
            0..=4 => {
                let disk = rng.usize(..DISKS);
                let sectors = rng.u64(..20).saturating_sub(4) * rng.u64(1..10);
                let (request, units) = match sectors {
                    0 => (Begun::unmap(&disks[disk]), [0, 1]),
                    sectors => (Begun::write(&disks[disk], sectors), [sectors * 512, 1]),
                };
                requests.push((step, request));
                model.waiting.push(Request {
                    id: step,
                    disk,
                    units,
                    arrived_ns: model.now_ns,
                    passed: None,
                    place: None,
                });
            }
            5 if !requests.is_empty() => {
                let (id, _dropped) = requests.remove(rng.usize(..requests.len()));
                model.forget(id);
            }
            6 if rng.bool() => {
                let limits = random_limits(&mut rng);
                world.group.set_limits(limits).unwrap();
                model.change(limits);
            }
            7 => {
                world.time.advance_to_next();
            }
            _ => {
                let most_ns = 1 << rng.u32(1..36);
                world.time.advance(Duration::from_nanos(rng.u64(..most_ns)));
            }
        }
        model.now_ns = u64::try_from(world.now().as_nanos()).unwrap();
        model.settle();
        requests.retain_mut(|(id, request)| {
            let is_done = request.is_done();
            begun.extend(is_done.then_some(*id));
            !is_done
        });
        begun.sort_unstable();
        model.begun.sort_unstable();
        assert_eq!(begun, model.begun, "step {step}");
        let GroupStatus {
            available_bytes,
            available_operations,
            waiting,
            ..
        } = world.group.status();
        assert_eq!(waiting, model.waiting.len(), "step {step}");
        let available =
            [0, 1].map(|bucket| Some(model.level(bucket, model.now_ns)?.div_euclid(NANO)));
        let shown = [available_bytes, available_operations];
        assert_eq!(shown, available, "step {step}");
    }
}

#[test]
fn a_group_does_what_a_plain_model_does() {
    disk_contract::seeds(100, 100).for_each(|seed| compare(seed.value()));
}
