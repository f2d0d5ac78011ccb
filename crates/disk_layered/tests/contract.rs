//! Stacks of layers keep the contract: of 1 to 8 layers, of different sizes and kinds, nested, writable and read-only.
//!
//! Each disk is a new random stack. Its content is spread over its layers, with other data below whatever answers.

use disk_backend::Disk;
use disk_contract::{
    DiskSpec, LayerPlan, LayerSpec, Member, ReferenceDisk, ReferenceLayer, StackPlan, Suite,
    Violation,
};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_ram::RamDiskLayer;
use fastrand::Rng;
use std::ops::RangeInclusive;
use std::pin::Pin;

/// How deep disks are nested in the layers of others.
const NESTING_MAX: u32 = 2;

/// A stack of `depth` layers that shows what `spec` asks for. The top layer can always be written.
async fn stack(spec: DiskSpec, depth: usize, nesting: u32) -> LayeredDisk {
    let mut rng = Rng::with_seed(spec.seed);
    let members: Vec<_> = (0..depth)
        .map(|index| member(&mut rng, index, depth, spec.sector_count))
        .collect();
    let plan = StackPlan::new(&spec, &members);
    let mut layers = Vec::new();
    for (index, member) in members.iter().enumerate() {
        let is_written = index == 0 && !spec.is_read_only;
        let layer = match member {
            Member::Layer(_) => filled_layer(&mut rng, plan.layer(index)).await,
            Member::Disk(_) => {
                let is_read_only = !is_written && rng.bool();
                let spec = plan.layer(index).disk_spec(is_read_only);
                DiskLayer::from_disk(filled_disk(&mut rng, spec, nesting).await)
            }
        };
        layers.push(LayerConfiguration::new(layer));
    }
    LayeredDisk::new(spec.is_read_only, layers).await.unwrap()
}

/// Disks stand at the bottom more often than in between, where they hide all that follows.
fn member(rng: &mut Rng, index: usize, depth: usize, sector_count: u64) -> Member {
    let size = match (index, rng.u8(0..4)) {
        (0, _) | (_, 0) => sector_count,
        (_, 1) => sector_count + rng.u64(1..=sector_count),
        _ => rng.u64(1..=sector_count),
    };
    let odds = if index + 1 == depth { 2 } else { 10 };
    match rng.u8(0..odds) {
        0 => Member::Disk(size),
        _ => Member::Layer(size),
    }
}

async fn filled_layer(rng: &mut Rng, plan: &LayerPlan) -> DiskLayer {
    let spec = LayerSpec::new(plan.sector_count(), plan.sector_size());
    if rng.u8(0..4) == 0 {
        let layer = ReferenceLayer::new(spec);
        plan.fill_layer(&layer).await.unwrap();
        return DiskLayer::new(layer);
    }
    let size = spec.sector_count * u64::from(spec.sector_size);
    let layer = RamDiskLayer::new_with_sector_size(size, spec.sector_size).unwrap();
    plan.fill_layer(&layer).await.unwrap();
    DiskLayer::new(layer)
}

/// A plain disk, or a stack of its own. Boxed, because stacks and disks are made of each other.
fn filled_disk<'a>(
    rng: &'a mut Rng,
    spec: DiskSpec,
    nesting: u32,
) -> Pin<Box<dyn Future<Output = Disk> + 'a>> {
    Box::pin(async move {
        if nesting == 0 || rng.bool() {
            return Disk::new(ReferenceDisk::new(spec)).unwrap();
        }
        let depth = rng.usize(1..4);
        Disk::new(stack(spec, depth, nesting - 1).await).unwrap()
    })
}

fn suite() -> Suite {
    let suite = Suite::new().sector_counts([1, 40]).fixed_seed_count(1);
    // Every layer that stands on top here can be resized, and so can the stack.
    suite.must_resize()
}

fn check_depths(depths: RangeInclusive<usize>) {
    for depth in depths {
        suite()
            .check_disks(async |spec| Disk::new(stack(spec, depth, 1).await).unwrap())
            .unwrap_or_else(|violation| panic!("stacks of {depth} layers: {violation}"));
    }
}

#[test]
fn stacks_of_up_to_four_layers_keep_the_contract() {
    check_depths(1..=4);
}

#[test]
fn stacks_of_five_to_eight_layers_keep_the_contract() {
    check_depths(5..=8);
}

#[test]
fn nested_stacks_keep_the_contract() -> Result<(), Violation> {
    suite().check_disks(async |spec| {
        let mut rng = Rng::with_seed(spec.seed);
        let disk = stack(spec, rng.usize(1..4), NESTING_MAX).await;
        Disk::new(disk).unwrap()
    })
}

#[test]
fn a_disk_as_the_only_layer_keeps_the_contract() -> Result<(), Violation> {
    suite().check_disks(async |spec| {
        let is_read_only = spec.is_read_only;
        let disk = Disk::new(ReferenceDisk::new(spec)).unwrap();
        let layers = vec![LayerConfiguration::new(DiskLayer::from_disk(disk))];
        Disk::new(LayeredDisk::new(is_read_only, layers).await.unwrap()).unwrap()
    })
}

/// A layered disk checks requests by itself: it may be used without the handle.
#[test]
fn a_stack_needs_no_handle_to_keep_the_contract() -> Result<(), Violation> {
    suite().check_backends(async |spec| stack(spec, 3, 1).await)
}

#[test]
fn stacks_of_large_sectors_keep_the_contract() -> Result<(), Violation> {
    Suite::new()
        .sector_sizes([65536])
        .sector_counts([9])
        .fixed_seed_count(1)
        .check_disks(async |spec| Disk::new(stack(spec, 3, 1).await).unwrap())
}

/// Long enough that every layer in memory has several chunks of 2 MiB.
#[test]
fn long_stacks_keep_the_contract() -> Result<(), Violation> {
    Suite::new()
        .sector_sizes([4096])
        .sector_counts([1100])
        .fixed_seed_count(1)
        .step_count(100)
        .check_disks(async |spec| Disk::new(stack(spec, 3, 0).await).unwrap())
}
