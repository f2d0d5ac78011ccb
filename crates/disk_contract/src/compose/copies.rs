//! Layers that write through: all copies agree, whatever happens.

use super::ComposedLayer;
use super::stand::{
    ALL, CACHE, CACHE_THROUGH, PLAIN, SECTOR_BYTES, SECTORS, Slot, Stack, Stand, THROUGH,
};
use crate::alone::poll_times;
use crate::ledger::{Arena, Kind, Ledger};
use crate::subject::Checked;
use crate::{Clause, Operation, When};
use disk_backend::{Disk, DiskIo, UnmapBehavior};
use guestmem::GuestMemory;
use scsi_buffers::OwnedRequestBuffers;
use std::ops::Range;

const SHAPES: [&[Slot]; 4] = [
    &[THROUGH, PLAIN],
    &[THROUGH, THROUGH, PLAIN],
    &[CACHE_THROUGH, PLAIN, CACHE, PLAIN],
    &[CACHE_THROUGH, THROUGH, PLAIN, PLAIN],
];

/// More polls than any request here needs.
const POLLS: u32 = 80;

/// What changes, in the tests that leave some of the disk alone.
const PART: Range<u64> = 2..6;

const CHANGES: [(Kind, Operation); 3] = [
    (Kind::Write, Operation::Write),
    (Kind::WriteZeroes, Operation::WriteZeroes),
    (Kind::Unmap, Operation::Unmap),
];

/// Read through the stack, and then through the lower layers alone: it is the same. And what a copy has is what all read.
fn agree<M: AsyncFn(Vec<ComposedLayer>) -> Disk>(
    stand: &mut Stand<'_, M>,
    clause: Clause,
    stack: &Stack,
) -> Checked {
    stand.alone("a drain", stack.disk.drain())?;
    let content = stand.content(&stack.disk)?;
    for index in 0..stack.through_count() {
        let copy = stack.sectors_of(index).into_iter();
        for (sector, (held, shown)) in copy.zip(content.chunks(SECTOR_BYTES as usize)).enumerate() {
            let what = format!("the copy in layer {index} holds, in sector {sector},");
            stand.equal(clause, &what, shown, &held.unwrap_or(shown.to_vec()))?;
        }
    }
    let mut lower = stack.layers[stack.through_count()..].to_vec();
    lower.iter_mut().for_each(|layer| layer.read_cache = false);
    let lower = stand.stack_of(lower);
    let below = stand.content(&lower.disk)?;
    stand.equal(clause, "without the copies", &content, &below)
}

/// C3: whatever the caller's memory holds while a write runs, all copies hold the same.
pub(super) fn agree_whatever_memory_does<M: AsyncFn(Vec<ComposedLayer>) -> Disk>(
    stand: &mut Stand<'_, M>,
) -> Checked {
    for shape in SHAPES {
        for stutter in [0, 1] {
            let stack = stand.build("memory that changes during a write", shape, &[]);
            stand.step("a write from memory that changes all the time");
            write_from_changing_memory(stand, &stack, stutter)?;
            agree(stand, Clause::C3, &stack)?;
        }
    }
    Ok(())
}

fn write_from_changing_memory<M: AsyncFn(Vec<ComposedLayer>) -> Disk>(
    stand: &mut Stand<'_, M>,
    stack: &Stack,
    stutter: u32,
) -> Checked {
    let len = (SECTORS * u64::from(SECTOR_BYTES)) as usize;
    let memory = GuestMemory::allocate(len);
    let spoil = {
        let memory = memory.clone();
        let next = std::sync::atomic::AtomicU8::new(1);
        move || {
            let byte = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            memory.fill_at(0, byte, len).expect("it is all memory");
        }
    };
    let spoil = std::sync::Arc::new(spoil);
    spoil();
    for layer in &stack.layers {
        layer.layer.script().stutter(stutter);
        for when in [When::Before, When::After] {
            let spoil = std::sync::Arc::clone(&spoil);
            layer
                .layer
                .script()
                .run(Operation::Write, when, move || spoil());
        }
    }
    let description = OwnedRequestBuffers::linear(0, len, false);
    let buffers = description.buffer(&memory);
    let mut write = Box::pin(stack.disk.write_vectored(&buffers, 0, false));
    for _ in 0..POLLS {
        if poll_times(write.as_mut(), 1).is_some() {
            break;
        }
        spoil();
    }
    drop(write);
    stand.alone("a drain", stack.disk.drain())?;
    stack.clear_scripts();
    Ok(())
}

/// L3: a copy that would ignore an unmap gets zeros.
pub(super) fn agree_after_unmaps<M: AsyncFn(Vec<ComposedLayer>) -> Disk>(
    stand: &mut Stand<'_, M>,
) -> Checked {
    let all = [
        UnmapBehavior::Zeroes,
        UnmapBehavior::Ignored,
        UnmapBehavior::Unspecified,
    ];
    for shape in SHAPES {
        for mix in 0..27 {
            let behaviors = [all[mix % 3], all[mix / 3 % 3], all[mix / 9]];
            let stack = stand.build("unmaps of copies", shape, &behaviors);
            let arena = Arena::new(&stack.disk, ALL);
            let mut ledger = Ledger::new(&arena, 0, 1);
            for kind in [Kind::Read, Kind::Write] {
                stand.complete(&arena, &mut ledger, kind, 0..7)?;
            }
            let unmap = ledger.call(Kind::Unmap, PART);
            let result = stand.request(&arena, &unmap)?;
            stand.judged(None, ledger.returned(&unmap, result))?;
            if stack.disk.unmap_behavior() != UnmapBehavior::Unspecified {
                stand.check(Clause::L3, &arena, &mut ledger)?;
            }
            agree(stand, Clause::L3, &stack)?;
        }
    }
    Ok(())
}

/// L4: after a layer has failed, nothing that completed is lost, and no copy is stale.
pub(super) fn agree_after_failures<M: AsyncFn(Vec<ComposedLayer>) -> Disk>(
    stand: &mut Stand<'_, M>,
) -> Checked {
    for shape in SHAPES {
        let written = shape.iter().take_while(|slot| slot.write_through).count() + 1;
        for failing in 0..written {
            for (kind, operation) in CHANGES {
                for when in [When::Before, When::After] {
                    let stack = stand.build("a layer that fails", shape, &[]);
                    let arena = Arena::new(&stack.disk, ALL);
                    let mut ledger = Ledger::new(&arena, 0, 1);
                    for kind in [Kind::Read, Kind::Write] {
                        stand.complete(&arena, &mut ledger, kind, ALL)?;
                    }
                    stand.step(format!(
                        "layer {failing} fails {when:?} its next {operation:?}"
                    ));
                    let script = stack.layers[failing].layer.script();
                    script.fail_nth(0, operation, when);
                    let call = ledger.call(kind, PART);
                    match stand.request(&arena, &call)? {
                        Ok(sight) => {
                            let returned = ledger.returned(&call, Ok(sight));
                            stand.judged(None, returned)?;
                        }
                        Err(_) => ledger.gave_up(&call),
                    }
                    script.clear();
                    stand.check(Clause::L4, &arena, &mut ledger)?;
                    agree(stand, Clause::L4, &stack)?;
                    stand.complete(&arena, &mut ledger, Kind::Write, 3..5)?;
                    stand.check(Clause::L4, &arena, &mut ledger)?;
                    agree(stand, Clause::L4, &stack)?;
                }
            }
        }
    }
    Ok(())
}

/// L4: what a read has seen of a change that fails in the end is not taken back.
pub(super) fn do_not_go_back<M: AsyncFn(Vec<ComposedLayer>) -> Disk>(
    stand: &mut Stand<'_, M>,
) -> Checked {
    for shape in SHAPES {
        for (kind, operation) in CHANGES {
            let stack = stand.build("a read beside a change that fails", shape, &[]);
            let arena = Arena::new(&stack.disk, ALL);
            let mut ledger = Ledger::new(&arena, 0, 1);
            stand.complete(&arena, &mut ledger, Kind::Write, ALL)?;
            let truth = stack.layers[stack.through_count()].layer.script();
            let gate = truth.hold(operation, When::Before);
            truth.fail_nth(0, operation, When::Before);
            stand.step("a change that waits in the lowest layer it goes to, and fails there");
            let change = ledger.call(kind, PART);
            let mut changing = Box::pin(arena.perform(&change, false));
            let early = poll_times(changing.as_mut(), POLLS);
            let read = ledger.call(Kind::Read, ALL);
            let mut reading = Box::pin(arena.perform(&read, false));
            let seen = poll_times(reading.as_mut(), POLLS);
            let is_seen = seen.is_some();
            if let Some(result) = seen {
                stand.judged(None, ledger.returned(&read, result))?;
            }
            gate.open();
            let result = match early {
                Some(result) => result,
                None => stand.alone("a change whose turn has come", changing)?,
            };
            match result {
                Ok(sight) => stand.judged(None, ledger.returned(&change, Ok(sight)))?,
                Err(_) => ledger.gave_up(&change),
            }
            if !is_seen {
                let result = stand.alone("a read beside a change", reading)?;
                stand.judged(None, ledger.returned(&read, result))?;
            }
            truth.clear();
            stand.check(Clause::L4, &arena, &mut ledger)?;
            agree(stand, Clause::L4, &stack)?;
        }
    }
    Ok(())
}

/// C9: a change that is dropped half way is completed or undone, in all copies.
pub(super) fn agree_after_dropped_writes<M: AsyncFn(Vec<ComposedLayer>) -> Disk>(
    stand: &mut Stand<'_, M>,
) -> Checked {
    for shape in SHAPES {
        for poll_count in 1..20 {
            for (kind, _) in CHANGES {
                let stack = stand.build("a change that is dropped half way", shape, &[]);
                let arena = Arena::new(&stack.disk, ALL);
                let mut ledger = Ledger::new(&arena, 0, 1);
                stand.complete(&arena, &mut ledger, Kind::Write, ALL)?;
                let scripts = stack.layers.iter().map(|layer| layer.layer.script());
                scripts.for_each(|script| script.stutter(1));
                stand.step(format!(
                    "a {} of {PART:?}, polled {poll_count} times",
                    kind.title()
                ));
                let call = ledger.call(kind, PART);
                let mut changing = Box::pin(arena.perform(&call, false));
                let polled = poll_times(changing.as_mut(), poll_count);
                drop(changing);
                match polled {
                    Some(result) => stand.judged(None, ledger.returned(&call, result))?,
                    None => ledger.gave_up(&call),
                }
                if poll_count % 2 == 0 {
                    stand.check(Clause::C9, &arena, &mut ledger)?;
                }
                agree(stand, Clause::C9, &stack)?;
                stand.check(Clause::C9, &arena, &mut ledger)?;
            }
        }
    }
    Ok(())
}
