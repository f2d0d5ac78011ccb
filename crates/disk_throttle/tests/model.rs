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

/// What happened to the buckets, from the beginning. What they hold is found by going through all of it, and when a request may begin
/// by trying moments: slow and plain.
#[derive(Default)]
struct Model {
    now_ns: u64,
    events: Vec<(u64, Event)>,
    waiting: Vec<Request>,
    ends: [u128; DISKS],
    place: u128,
    begun: Vec<u64>,
}

#[derive(Clone, Copy)]
enum Event {
    Limits(Limits),
    /// Bytes, then operations.
    Take([u64; 2]),
}

#[derive(Clone, Copy)]
struct Request {
    id: u64,
    disk: usize,
    units: [u64; 2],
    arrived_ns: u64,
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
            Event::Take(_) => None,
        });
        limits.unwrap_or_default()
    }

    /// What a bucket holds, in billionths of a unit.
    fn level(&self, bucket: usize, at_ns: u64) -> Option<i128> {
        let mut held: Option<i128> = None;
        let mut limit = None;
        let mut before_ns = 0;
        let end = (at_ns, Event::Take([0, 0]));
        for (event_ns, event) in self.events.iter().chain([&end]) {
            if let (Some(level), Some((rate, burst))) = (&mut held, limit) {
                *level += i128::from(event_ns - before_ns) * i128::from(rate);
                *level = (*level).min(i128::from(burst) * NANO);
            }
            before_ns = *event_ns;
            match event {
                Event::Take(units) => {
                    held = held.map(|held| held - i128::from(units[bucket]) * NANO)
                }
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

    fn may_begin(&self, request: &Request, at_ns: u64) -> bool {
        let limits = self.limits();
        [0, 1].into_iter().all(|bucket| match limits[bucket] {
            Some((_, burst)) if request.units[bucket] > 0 => {
                let needed = i128::from(request.units[bucket].min(burst)) * NANO;
                self.level(bucket, at_ns).unwrap() >= needed
            }
            _ => true,
        })
    }

    /// Whether it takes nothing that is limited.
    fn is_free(&self, request: &Request) -> bool {
        let limits = self.limits();
        [0, 1]
            .into_iter()
            .all(|bucket| limits[bucket].is_none() || request.units[bucket] == 0)
    }

    fn begin(&mut self, id: u64) {
        self.waiting.retain(|request| request.id != id);
        self.begun.push(id);
    }

    fn settle(&mut self) {
        loop {
            let firsts = (0..DISKS).filter_map(|disk| {
                let first = self.waiting.iter().find(|request| request.disk == disk)?;
                Some((self.ends[disk].max(self.place), *first))
            });
            let firsts: Vec<(u128, Request)> = firsts.collect();
            if let Some((_, free)) = firsts.iter().find(|(_, first)| self.is_free(first)) {
                self.begin(free.id);
                continue;
            }
            let in_order = firsts
                .iter()
                .min_by_key(|(place, first)| (*place, first.id));
            let Some(&(place, first)) = in_order else {
                return;
            };
            if !self.may_begin(&first, self.now_ns) {
                return;
            }
            let last_ns = self.events.last().map_or(0, |(event_ns, _)| *event_ns);
            let (mut from, mut to) = (last_ns.max(first.arrived_ns), self.now_ns);
            while from < to {
                let middle = from + (to - from) / 2;
                match self.may_begin(&first, middle) {
                    true => to = middle,
                    false => from = middle + 1,
                }
            }
            self.events.push((to, Event::Take(first.units)));
            self.begin(first.id);
            let limits = self.limits();
            let times = [0, 1].map(|bucket| {
                let (rate, _) = limits[bucket]?;
                let units = u128::from(first.units[bucket]) * NANO as u128;
                Some(units.div_ceil(rate.into()))
            });
            self.place = place;
            self.ends[first.disk] = place + times[0].max(times[1]).unwrap_or(0);
        }
    }

    fn change(&mut self, limits: Limits) {
        self.events.push((self.now_ns, Event::Limits(limits)));
        self.ends = [self.place; DISKS];
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
                });
            }
            5 if !requests.is_empty() => {
                let (id, _dropped) = requests.remove(rng.usize(..requests.len()));
                model.waiting.retain(|request| request.id != id);
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
