//! A layer that cannot be opened any more is opened with what is left, and what is not is named.

mod common;

use common::{
    bytes_at, bytes_of, content, few_pages, flip, layer_on, open, put, read, report, store, tight,
    try_open, try_read, watched, with_unreadable, write,
};
use disk_backend::{Disk, DiskError};
use disk_contract::seeds;
use disk_layered::LayerIo;
use disk_sim::{Image, Sim, SimDisk, SimOptions, Step};
use disklayer_durable::{
    Condition, DurableLayer, Loss, OpenError, Role, Verify, format, info, loss, repair, salvage,
};
use fastrand::Rng;
use futures_lite::future::block_on;
use std::ops::Range;

const SECTORS: u64 = 24;
const STRIPE_BYTES: u64 = 4096 + 8 * 512;
const LOG_BLOCKS: u32 = 32;
const FIRST_PAGE: u64 = 8192 + LOG_BLOCKS as u64 * 4096;

fn one(range: Range<u64>) -> Vec<Range<u64>> {
    vec![range]
}

/// A layer with a log of four entries that begin at the blocks 0, 3, 5 and 8; its content, and that without the last entry.
async fn logged() -> (Disk, Vec<Option<u8>>, Vec<Option<u8>>) {
    let store = store(1, 512).await;
    let mut options = tight(SECTORS, 512);
    options.log_blocks = Some(LOG_BLOCKS);
    // The log is as the tests know it.
    options.logs_data = false;
    let layer = layer_on(&store, &options, &few_pages()).await;
    let mut before = Vec::new();
    let rounds: [&[u64]; 4] = [&[1, 9], &[2], &[10, 17], &[3]];
    for (value, sectors) in (1..).zip(rounds) {
        before = content(&layer).await;
        for sector in sectors {
            write(&layer, *sector, value).await;
        }
        layer.sync_cache().await.unwrap();
    }
    assert_eq!(info(&store).await.unwrap().log_blocks_used, 10);
    let now = content(&layer).await;
    drop(layer);
    (store, now, before)
}

/// Salvages, and holds what that says against what `loss` said, and what is there then.
async fn salvaged(store: &Disk) -> (Loss, Vec<Option<u8>>) {
    let before = bytes_of(store).await;
    let expected = loss(store, watched).await.unwrap();
    assert!(before == bytes_of(store).await, "nothing is written");
    let lost = salvage(store, watched).await.unwrap();
    assert_eq!(lost, expected);
    assert_eq!(report(store).await.condition, Condition::Clean);
    assert!(loss(store, watched).await.unwrap().is_none());
    let layer = open(store).await;
    let found = content(&layer).await;
    // It is a layer like any other.
    write(&layer, 0, 9).await;
    layer.close().await.unwrap();
    drop(layer);
    assert_eq!(read(&open(store).await, 0).await, Some(9));
    (lost, found)
}

#[test]
fn what_is_whole_in_the_log_is_kept_and_pages_that_were_in_the_rest_alone_are_named() {
    block_on(async {
        // By the block that rots: where the lost part begins, and what may be old.
        let cases = [
            // There are later images of all that these were about.
            (0, Some(0), vec![]),
            (1, Some(0), vec![]),
            (2, Some(0), vec![]),
            (3, Some(3), vec![]),
            (4, Some(3), vec![]),
            // Whose images those were is not known; that of the first stripe came later.
            (5, Some(5), one(8..24)),
            (6, Some(5), one(8..16)),
            (7, Some(5), one(16..24)),
            // Rot in the last entry cannot be told from a crash.
            (8, None, vec![]),
            (9, None, vec![]),
        ];
        for (block, begin, old) in cases {
            for at in [0, 20, 53, 2000, 4095] {
                let (store, now, without_last) = logged().await;
                flip(&store, 8192 + block * 4096 + at).await;
                assert_eq!(
                    try_open(&store).await.is_ok(),
                    begin.is_none(),
                    "{block} {at}"
                );
                let (lost, found) = salvaged(&store).await;
                assert_eq!(lost.log_offset, begin.map(|begin| 8192 + begin * 4096));
                assert_eq!(lost.old, old, "{block} {at}");
                assert_eq!(lost.guessed, []);
                let mut expected = match begin {
                    Some(_) => now,
                    None => without_last,
                };
                for sector in [10, 17] {
                    if old.iter().any(|range| range.contains(&sector)) {
                        expected[sector as usize] = None;
                    }
                }
                assert_eq!(found, expected, "{block} {at}");
            }
        }
    });
}

/// As after a power cut while the log was emptied: what is lost of it has come to its place.
#[test]
fn a_page_in_its_place_is_kept_if_it_is_later_than_what_is_left_in_the_log() {
    block_on(async {
        for block in 0..10 {
            let (store, now, _) = logged().await;
            let log = bytes_of(&store).await[..FIRST_PAGE as usize].to_vec();
            let layer = open(&store).await;
            write(&layer, 1, 1).await;
            layer.close().await.unwrap();
            drop(layer);
            put(&store, 0, &log).await;
            flip(&store, 8192 + block * 4096 + 20).await;
            let (lost, found) = salvaged(&store).await;
            assert_eq!((lost.old, lost.guessed), (vec![], vec![]), "{block}");
            assert_eq!(found, now, "{block}");
        }
    });
}

#[test]
fn a_page_that_is_lost_is_what_its_data_looks_like() {
    block_on(async {
        let (store, mut expected, _) = logged().await;
        let layer = open(&store).await;
        // What was given up, and what was zeroed where nothing was.
        for sector in [10, 11] {
            layer.unmap(sector, 1, false, false).await.unwrap();
        }
        layer.close().await.unwrap();
        drop(layer);
        let stripe = FIRST_PAGE + STRIPE_BYTES;
        flip(&store, stripe + 100).await;
        let layer = open(&store).await;
        assert!(matches!(
            try_read(&layer, 9).await,
            Err(DiskError::MediumError(..))
        ));
        drop(layer);
        let (lost, found) = salvaged(&store).await;
        assert_eq!((lost.log_offset, lost.old), (None, vec![]));
        assert_eq!(lost.guessed, one(8..16));
        // Zeros are lost: what had been there is back, or what lies below shows.
        (expected[10], expected[11]) = (Some(3), None);
        assert_eq!(found, expected);
    });
}

#[test]
fn what_the_store_cannot_read_is_lost_and_no_more() {
    block_on(async {
        // An image in the log; a block of it that was not used; a page.
        let cases = [
            (16 + 6 * 8, Some(5), one(8..16), vec![]),
            (16 + 20 * 8, None, vec![], vec![]),
            ((FIRST_PAGE + STRIPE_BYTES) / 512, None, vec![], one(8..16)),
        ];
        for (sector, begin, old, guessed) in cases {
            let (store, now, _) = logged().await;
            if !guessed.is_empty() {
                open(&store).await.close().await.unwrap();
                let layer = open(&store).await;
                write(&layer, 1, 1).await;
                layer.close().await.unwrap();
            }
            let faulty = with_unreadable(&store, sector..sector + 1).await;
            let found = loss(&faulty, watched).await.unwrap();
            let begin = begin.map(|begin: u64| 8192 + begin * 4096);
            assert_eq!(
                (found.log_offset, found.old.clone()),
                (begin, old),
                "{sector}"
            );
            assert_eq!(found.guessed, guessed, "{sector}");
            assert_eq!(salvage(&faulty, watched).await.unwrap(), found);
            // What was written can be read.
            let layer = open(&store).await;
            let mut expected = now;
            if begin.is_some() {
                expected[10] = None;
            }
            assert_eq!(content(&layer).await, expected, "{sector}");
            if sector < FIRST_PAGE / 512 {
                let block = sector / 8 * 8;
                assert_eq!(bytes_at(&store, block * 512, 4096).await, [0; 4096]);
            }
        }
    });
}

#[test]
fn data_that_cannot_be_read_stays_an_error_and_does_not_become_what_lies_below() {
    block_on(async {
        let (store, _, _) = logged().await;
        let layer = open(&store).await;
        write(&layer, 9, 5).await;
        layer.close().await.unwrap();
        drop(layer);
        let stripe = FIRST_PAGE + STRIPE_BYTES;
        flip(&store, stripe + 100).await;
        let lost = stripe / 512 + 8 + 1;
        let faulty = with_unreadable(&store, lost..lost + 1).await;
        salvage(&faulty, watched).await.unwrap();
        let layer = open(&faulty).await;
        assert!(matches!(
            try_read(&layer, 9).await,
            Err(DiskError::MediumError(..))
        ));
        assert_eq!(read(&layer, 10).await, Some(3));
        assert_eq!(read(&layer, 11).await, None);
    });
}

#[test]
fn a_cache_and_what_is_no_layer_are_not_salvaged() {
    block_on(async {
        for role in [Role::ReadCache, Role::WriteThrough] {
            let store = store(1, 512).await;
            let mut options = tight(SECTORS, 512);
            options.role = role;
            format(&store, &options).await.unwrap();
            let refused = salvage(&store, watched).await;
            assert!(matches!(refused, Err(OpenError::NothingToSalvage(_))));
        }
        let refused = salvage(&store(100, 512).await, watched).await;
        assert!(matches!(refused, Err(OpenError::NotALayer)));
    });
}

/// The content after a salvage of an image, which may have to be done again.
fn after(image: Image) -> Vec<Option<u8>> {
    let mut sim = Sim::new(7);
    let store = SimDisk::from_image(image, SimOptions::new(1, 512, 7), sim.clock());
    let store = Disk::new(store).unwrap();
    let found = sim.block_on(async {
        salvage(&store, watched).await.unwrap();
        content(&open(&store).await).await
    });
    found.unwrap()
}

/// Salvages an image, with the power cut after each step; what is there then is this, salvaged again or not.
fn cut_everywhere(original: &[u8], expected: &[Option<u8>]) {
    for seed in 0..4 {
        let mut sim = Sim::new(seed);
        let image = Image::of_disk(original, 512);
        let sim_disk = SimDisk::from_image(image, SimOptions::new(1, 512, seed), sim.clock());
        let store = Disk::new(sim_disk.clone()).unwrap();
        sim.spawn("salvage", async move {
            salvage(&store, watched).await.unwrap();
        });
        while sim.step().unwrap() != Step::Done {
            for image in sim_disk.crash().images(8, seed) {
                assert_eq!(after(image), expected, "seed {seed}");
            }
        }
        for image in sim_disk.crash().images(8, seed) {
            let mut sim = Sim::new(7);
            let store = SimDisk::from_image(image, SimOptions::new(1, 512, 7), sim.clock());
            let store = Disk::new(store).unwrap();
            let found = sim.block_on(async { content(&open(&store).await).await });
            assert_eq!(
                found.unwrap(),
                expected,
                "it is there without being salvaged again"
            );
        }
    }
}

#[test]
fn a_power_cut_while_a_layer_is_salvaged_costs_nothing_more() {
    let (original, expected) = block_on(async {
        let (store, now, _) = logged().await;
        // An image, and a page that is nowhere else.
        flip(&store, 8192 + 6 * 4096 + 50).await;
        let mut expected = now;
        expected[10] = None;
        (bytes_of(&store).await, expected)
    });
    cut_everywhere(&original, &expected);
}

/// The data of the last entry is in the log alone, and two pages are lost.
#[test]
fn a_power_cut_while_a_layer_is_salvaged_costs_no_copy_that_is_needed() {
    let (original, expected) = block_on(async {
        let store = store(1, 512).await;
        let mut options = tight(SECTORS, 512);
        options.log_blocks = Some(LOG_BLOCKS);
        let layer = layer_on(&store, &options, &few_pages()).await;
        write(&layer, 0, 1).await;
        layer.sync_cache().await.unwrap();
        drop(layer);
        put(&store, FIRST_PAGE + 4096, &[0xdd; 512]).await;
        for stripe in 1..3 {
            put(&store, FIRST_PAGE + stripe * STRIPE_BYTES, &[1; 512]).await;
        }
        let mut expected = vec![None; SECTORS as usize];
        expected[0] = Some(1);
        (bytes_of(&store).await, expected)
    });
    cut_everywhere(&original, &expected);
}

/// A layer that verifies its data. `first` is in its place before the log begins, and the header of the entry of `lost` is.
async fn verified_and_lost(first: impl AsyncFn(&DurableLayer), lost: (u64, u8)) -> Disk {
    let store = store(1, 512).await;
    let mut options = tight(SECTORS, 512);
    options.log_blocks = Some(LOG_BLOCKS);
    options.verify = Verify::Data;
    let layer = layer_on(&store, &options, &few_pages()).await;
    first(&layer).await;
    layer.close().await.unwrap();
    for (sector, byte) in [(9, 1), lost, (17, 3)] {
        write(&layer, sector, byte).await;
        layer.sync_cache().await.unwrap();
    }
    assert_eq!(info(&store).await.unwrap().log_blocks_used, 6);
    flip(&store, 8192 + 2 * 4096 + 20).await;
    store
}

/// Its pages may be old, so their checksums are not believed any more; and a page that is torn for that would be lost, with zeros that hid what lies below.
#[test]
fn a_power_cut_while_a_layer_with_checksums_is_salvaged_costs_no_page() {
    let (original, expected) = block_on(async {
        let first = async |layer: &DurableLayer| {
            write(layer, 1, 7).await;
            layer.unmap(2, 3, false, false).await.unwrap();
        };
        let store = verified_and_lost(first, (10, 2)).await;
        let mut expected = vec![None; SECTORS as usize];
        (expected[1], expected[9], expected[17]) = (Some(7), Some(1), Some(3));
        expected[2..5].fill(Some(0));
        (bytes_of(&store).await, expected)
    });
    cut_everywhere(&original, &expected);
}

#[test]
fn what_was_written_over_data_whose_record_is_lost_is_no_rot_after_a_salvage() {
    block_on(async {
        let first = async |layer: &DurableLayer| {
            write(layer, 1, 7).await;
            write(layer, 2, 7).await;
        };
        let store = verified_and_lost(first, (1, 8)).await;
        let lost = salvage(&store, watched).await.unwrap();
        assert_eq!(lost.old, one(0..16));
        for round in 0..3 {
            let found = report(&store).await;
            assert_eq!((found.condition, found.bad_sectors), (Condition::Clean, 0));
            assert_eq!(found.verified_sectors, u64::from(round > 0), "{round}");
            let layer = open(&store).await;
            let now = (read(&layer, 1).await, read(&layer, 2).await);
            assert_eq!(now, (Some(8), Some(7)), "{round}");
            // Superblocks are written, and the page of these is not: it is still the one that may be old.
            write(&layer, 17, 4).await;
            layer.close().await.unwrap();
        }
        repair(store.clone()).await.unwrap();
        let found = report(&store).await;
        assert_eq!((found.verified_sectors, found.unverified_sectors), (4, 0));
        // Verified again, and no checksum of before the loss is.
        let data = FIRST_PAGE + 4096;
        flip(&store, data + 2 * 512).await;
        let layer = open(&store).await;
        let rotten = try_read(&layer, 2).await;
        assert!(matches!(rotten, Err(DiskError::MediumError(..))));
        assert_eq!(read(&layer, 1).await, Some(8));
    });
}

/// Whose images it had is not known, and whether it was whole neither.
#[test]
fn an_unreadable_end_of_a_log_that_has_lost_something_before_may_have_had_every_page() {
    block_on(async {
        let (store, mut expected, _) = logged().await;
        flip(&store, 8192 + 4 * 4096 + 20).await;
        let header = 16 + 8 * 8;
        let faulty = with_unreadable(&store, header..header + 1).await;
        let lost = salvage(&faulty, watched).await.unwrap();
        assert_eq!(lost.log_offset, Some(8192 + 3 * 4096));
        assert_eq!(lost.old, one(0..24));
        expected[3] = None;
        // That of this one was in the lost entry, with a later one of the first stripe, which is lost now.
        expected[2] = None;
        let found = content(&open(&store).await).await;
        assert_eq!(found, expected);
    });
}

/// What each sector has ever been, the last first.
struct Model(Vec<Vec<Option<u8>>>);

impl Model {
    fn set(&mut self, sector: u64, value: Option<u8>) {
        self.0[sector as usize].insert(0, value);
    }
}

/// A layer that is written, zeroed, unmapped and resized, with everything flushed at the end; and what is true of it.
async fn random(store: &Disk, rng: &mut Rng) -> Model {
    let mut options = tight(SECTORS, 512);
    options.log_blocks = Some(LOG_BLOCKS);
    if rng.bool() {
        options.verify = Verify::Data;
    }
    format(store, &options).await.unwrap();
    let layer = open(store).await;
    let mut model = Model(vec![vec![None]; SECTORS as usize]);
    for _ in 0..rng.u32(5..40) {
        let count = layer.sector_count();
        let first = rng.u64(0..count);
        let range = first..(first + rng.u64(1..5)).min(count);
        match rng.u8(0..10) {
            0..5 => {
                let value = rng.u8(1..);
                for sector in range {
                    write(&layer, sector, value).await;
                    model.set(sector, Some(value));
                }
            }
            5 | 6 => {
                let cleared = layer.unmap(range.start, range.end - range.start, false, false);
                cleared.await.unwrap();
                range.for_each(|sector| model.set(sector, Some(0)));
            }
            7 => {
                let count = rng.u64(8..40);
                layer.resize(count).await.unwrap();
                model.0.truncate(count as usize);
                // Also what it had before it was cut off is another sector's by now: it must not come back.
                model.0.resize(count as usize, vec![Some(0)]);
            }
            _ => layer.sync_cache().await.unwrap(),
        }
    }
    layer.sync_cache().await.unwrap();
    if rng.bool() {
        layer.close().await.unwrap();
    }
    model
}

/// Whatever rots: what is not named is as it was, and what is named is something that it was before.
#[test]
fn what_is_not_named_is_as_it_was() {
    let (mut olds, mut guesses) = (0, 0);
    for seed in seeds(400, 40) {
        let mut rng = Rng::with_seed(seed.value());
        block_on(async {
            let store = store(1, 512).await;
            let model = random(&store, &mut rng).await;
            let used = info(&store).await.unwrap().log_blocks_used;
            let resized = model.0.len() as u64 != SECTORS;
            let rotten = match rng.bool() && used > 0 {
                true => 8192 + rng.u64(0..u64::from(used)) * 4096,
                false => {
                    let stripes = (model.0.len() as u64).div_ceil(8);
                    FIRST_PAGE + rng.u64(0..stripes) * STRIPE_BYTES
                }
            };
            flip(&store, rotten + rng.u64(0..4096)).await;
            // The last entry may be what a crash has torn, and nobody knows.
            let is_known = match loss(&store, watched).await {
                Ok(lost) => lost.log_offset.is_some() || rotten >= FIRST_PAGE,
                Err(error) => panic!("seed {}: {error}", seed.value()),
            };
            let lost = salvage(&store, watched).await.unwrap();
            olds += u32::from(!lost.old.is_empty());
            guesses += u32::from(!lost.guessed.is_empty());
            if !is_known {
                return;
            }
            let layer = open(&store).await;
            let found = content(&layer).await;
            if lost.old.is_empty() {
                assert_eq!(found.len(), model.0.len(), "seed {}", seed.value());
            }
            for (sector, (found, been)) in (0..).zip(found.iter().zip(&model.0)) {
                let is_in =
                    |ranges: &[Range<u64>]| ranges.iter().any(|range| range.contains(&sector));
                let may_be = match (is_in(&lost.old), is_in(&lost.guessed)) {
                    (false, false) => *found == been[0],
                    // Where it was cut off and grew, it may be what it was before that.
                    _ if resized => true,
                    (true, _) => been.contains(found),
                    // Zeros look like nothing.
                    (false, true) => been.contains(found) || found.is_none(),
                };
                assert!(
                    may_be,
                    "seed {} sector {sector}: {found:?}, {been:?}",
                    seed.value()
                );
            }
            // Whatever lies beyond its end.
            let end = layer.sector_count();
            layer.resize(end + 40).await.unwrap();
            for sector in end..end + 40 {
                let gained = read(&layer, sector).await;
                assert_eq!(gained, Some(0), "seed {} sector {sector}", seed.value());
            }
        });
    }
    assert!(olds > 0 && guesses > 0, "{olds} {guesses}");
}
