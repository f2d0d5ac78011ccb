//! Read caches: they hold what lies below, undo nothing, and change nothing but the speed.

use super::ComposedLayer;
use super::stand::{
    ALL, CACHE, CACHE_THROUGH, PLAIN, SECTOR_BYTES, SECTORS, SHORT_CACHE, Slot, Stack, Stand,
};
use crate::alone::poll_times;
use crate::ledger::{Arena, Kind, Ledger};
use crate::subject::Checked;
use crate::{Clause, Gate, Operation, When};
use disk_backend::{Disk, DiskIo};
use futures_lite::future::block_on;
use guestmem::GuestMemory;
use scsi_buffers::OwnedRequestBuffers;

/// A cache on top, in the middle, written through, two of them, one that is too short.
const SHAPES: [&[Slot]; 6] = [
    &[CACHE, PLAIN],
    &[PLAIN, CACHE, PLAIN],
    &[CACHE_THROUGH, PLAIN],
    &[CACHE_THROUGH, CACHE, PLAIN],
    &[CACHE, CACHE, PLAIN],
    &[PLAIN, SHORT_CACHE, PLAIN],
];

/// More polls than any request here needs.
const POLLS: u32 = 50;

/// What fills the memory of a request while that runs.
const SPOILT: u8 = 0xee;

/// C3: whatever the caller's memory holds while a read runs, what a cache keeps is what lies below.
pub(super) fn hold_what_lies_below<M: AsyncFn(Vec<ComposedLayer>) -> Disk>(
    stand: &mut Stand<'_, M>,
) -> Checked {
    for shape in SHAPES {
        for stutter in [0, 1] {
            let stack = stand.build("memory that changes during a read", shape, &[]);
            let expected = stand.content(&stand.stack_of(vec![bottom(&stack)]).disk)?;
            spoil_and_read(stand, &stack, stutter)?;
            for index in 0..stack.layers.len() {
                for (sector, kept) in stack.sectors_of(index).into_iter().enumerate() {
                    let size = SECTOR_BYTES as usize;
                    let below = &expected[sector * size..(sector + 1) * size];
                    let what = format!("layer {index} holds, in sector {sector},");
                    stand.equal(Clause::C3, &what, below, &kept.unwrap_or(below.to_vec()))?;
                }
            }
            let content = stand.content(&stack.disk)?;
            // A short layer hides what lies below its end (L5).
            let shown = content
                .len()
                .min((shortest(shape) * u64::from(SECTOR_BYTES)) as usize);
            let what = "the lowest layer";
            stand.equal(Clause::C3, what, &content[..shown], &expected[..shown])?;
        }
    }
    Ok(())
}

fn shortest(shape: &[Slot]) -> u64 {
    let sizes = shape.iter().map(|slot| slot.sector_count);
    sizes.min().expect("a stack has layers")
}

fn bottom(stack: &Stack) -> ComposedLayer {
    let bottom = stack.layers.last().expect("a stack has layers");
    ComposedLayer {
        write_through: false,
        read_cache: false,
        ..bottom.clone()
    }
}

/// Reads everything into memory that is overwritten at each step, and between polls.
fn spoil_and_read<M: AsyncFn(Vec<ComposedLayer>) -> Disk>(
    stand: &mut Stand<'_, M>,
    stack: &Stack,
    stutter: u32,
) -> Checked {
    stand.step("a read into memory that is overwritten all the time");
    let len = (SECTORS * u64::from(SECTOR_BYTES)) as usize;
    let memory = GuestMemory::allocate(len);
    let spoil = {
        let memory = memory.clone();
        move || {
            let filled = memory.fill_at(0, SPOILT, len);
            filled.expect("it is all memory");
        }
    };
    for layer in &stack.layers {
        layer.layer.script().stutter(stutter);
        for (operation, when) in [
            (Operation::Read, When::After),
            (Operation::Fill, When::Before),
            (Operation::Fill, When::After),
        ] {
            layer.layer.script().run(operation, when, spoil.clone());
        }
    }
    let description = OwnedRequestBuffers::linear(0, len, true);
    let buffers = description.buffer(&memory);
    let mut read = Box::pin(stack.disk.read_vectored(&buffers, 0));
    for _ in 0..POLLS {
        if poll_times(read.as_mut(), 1).is_some() {
            break;
        }
        spoil();
    }
    drop(read);
    stand.alone("a drain", stack.disk.drain())?;
    stack.clear_scripts();
    Ok(())
}

/// L6: without its caches, a stack reads the same.
pub(super) fn change_nothing_but_speed<M: AsyncFn(Vec<ComposedLayer>) -> Disk>(
    stand: &mut Stand<'_, M>,
) -> Checked {
    for shape in SHAPES
        .into_iter()
        .filter(|shape| shortest(shape) == SECTORS)
    {
        let stack = stand.build("a stack with and without its caches", shape, &[]);
        let arena = Arena::new(&stack.disk, ALL);
        let mut ledger = Ledger::new(&arena, 0, 1);
        for _ in 0..60 {
            let kind = Kind::ALL[stand.rng.usize(0..Kind::ALL.len())];
            let range = crate::concurrency::range_inside(&mut stand.rng, &ALL);
            stand.complete(&arena, &mut ledger, kind, range)?;
        }
        stand.check(Clause::C2, &arena, &mut ledger)?;
        stand.alone("a drain", stack.disk.drain())?;
        // A cache that is written and does not write through is no mere cache.
        let through_count = stack.through_count();
        let is_needed = |index: usize| {
            index == through_count || (index > through_count && !stack.layers[index].read_cache)
        };
        let needed = (0..stack.layers.len()).filter(|index| is_needed(*index));
        let bare = needed.map(|index| ComposedLayer {
            read_cache: false,
            write_through: false,
            ..stack.layers[index].clone()
        });
        let bare = stand.stack_of(bare.collect());
        let (with, without) = (stand.content(&stack.disk)?, stand.content(&bare.disk)?);
        stand.equal(Clause::L6, "without its caches", &with, &without)?;
    }
    Ok(())
}

/// Where a read is held up.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// It has what it wanted from the lowest layer.
    BottomRead,
    /// It is about to fill the topmost cache.
    FillBegins,
    /// It has filled it.
    FillEnds,
}

impl Point {
    const ALL: [Self; 3] = [Self::BottomRead, Self::FillBegins, Self::FillEnds];

    fn hold(self, stack: &Stack) -> Gate {
        let cache = stack.layers.iter().find(|layer| layer.read_cache);
        let cache = cache.expect("every shape has a cache").layer.script();
        match self {
            Self::BottomRead => {
                let bottom = stack.layers.last().expect("a stack has layers");
                bottom.layer.script().hold(Operation::Read, When::After)
            }
            Self::FillBegins => cache.hold(Operation::Fill, When::Before),
            Self::FillEnds => cache.hold(Operation::Fill, When::After),
        }
    }
}

/// What comes between a read and its fill.
#[derive(Debug, Clone, Copy)]
struct Race {
    point: Point,
    kind: Kind,
    is_whole: bool,
    /// The reader's future is dropped before it can go on.
    is_dropped: bool,
    /// The lowest layer becomes shorter first.
    shrinks: bool,
}

/// L2: a fill undoes no write, zeroing or unmap that came after its read began.
pub(super) fn undo_nothing<M: AsyncFn(Vec<ComposedLayer>) -> Disk>(
    stand: &mut Stand<'_, M>,
) -> Checked {
    for shape in SHAPES {
        for bits in 0..8 {
            for point in Point::ALL {
                for kind in [Kind::Write, Kind::WriteZeroes, Kind::Unmap] {
                    let race = Race {
                        point,
                        kind,
                        is_whole: bits & 1 > 0,
                        is_dropped: bits & 2 > 0,
                        shrinks: bits & 4 > 0,
                    };
                    run(stand, shape, race)?;
                }
            }
        }
    }
    Ok(())
}

fn run<M: AsyncFn(Vec<ComposedLayer>) -> Disk>(
    stand: &mut Stand<'_, M>,
    shape: &[Slot],
    race: Race,
) -> Checked {
    let stack = stand.build("a fill that races a change", shape, &[]);
    // A layer that is written through takes no writes beyond where it once ended.
    let shrinks = race.shrinks && stack.through_count() == 0 && race.kind != Kind::Write;
    let gate = race.point.hold(&stack);
    let arena = Arena::new(&stack.disk, ALL);
    let mut ledger = Ledger::new(&arena, 0, 1);

    stand.step(format!("a read of sectors {ALL:?}, held up by {race:?}"));
    let read = ledger.call(Kind::Read, ALL);
    let mut reading = Box::pin(arena.perform(&read, false));
    let mut is_read = false;
    if let Some(result) = poll_times(reading.as_mut(), POLLS) {
        stand.judged(None, ledger.returned(&read, result))?;
        is_read = true;
    }
    if shrinks {
        let bottom = stack.layers.last().expect("a stack has layers");
        let resized = block_on(disk_layered::LayerIo::resize(bottom.layer.inner(), 3));
        resized.expect("a reference layer can be resized");
    }
    let range = if race.is_whole { ALL } else { 2..6 };
    let call = ledger.call(race.kind, range);
    let mut changing = Box::pin(arena.perform(&call, false));
    // It need not wait for the read, but it may.
    let early = poll_times(changing.as_mut(), POLLS);
    if race.is_dropped {
        drop(reading);
        gate.open();
        let result = match early {
            Some(result) => result,
            None => stand.alone("a change beside a dropped read", changing)?,
        };
        stand.judged(None, ledger.returned(&call, result))?;
    } else {
        gate.open();
        let result = match early {
            Some(result) => result,
            None => stand.alone("a change beside a read that nobody polls", changing)?,
        };
        stand.judged(None, ledger.returned(&call, result))?;
        if !is_read {
            let result = stand.alone("a read that was held up", reading)?;
            stand.judged(None, ledger.returned(&read, result))?;
        }
    }
    if shrinks {
        // What was cut off reads zero, or what a cache has kept of it; what was changed since reads as it was changed to.
        return changed_reads_zero(stand, &stack, &call.range);
    }
    stand.alone("a drain", stack.disk.drain())?;
    if shortest(shape) == SECTORS {
        return stand.check(Clause::L2, &arena, &mut ledger);
    }
    Ok(())
}

fn changed_reads_zero<M: AsyncFn(Vec<ComposedLayer>) -> Disk>(
    stand: &mut Stand<'_, M>,
    stack: &Stack,
    range: &std::ops::Range<u64>,
) -> Checked {
    let content = stand.content(&stack.disk)?;
    let size = u64::from(SECTOR_BYTES);
    let changed = &content[(range.start * size) as usize..(range.end * size) as usize];
    let what = format!("sectors {range:?}, counted from the first, were zeroed to");
    stand.equal(Clause::L2, &what, changed, &vec![0; changed.len()])
}
