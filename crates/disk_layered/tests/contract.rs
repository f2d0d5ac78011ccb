//! Stacks of layers keep the contract: of 1 to 8 layers, of different sizes and kinds, nested, writable and read-only.
//!
//! Each disk is a new random stack. Its content is spread over its layers, with other data below whatever answers.

use disk_backend::Disk;
use disk_contract::{
    DiskSpec, IllegalStack, LayerSpec, ReferenceDisk, StackRecipe, Suite, Violation,
};
use disk_layered::{DiskLayer, LayerConfiguration, LayeredDisk};
use disklayer_ram::RamDiskLayer;
use futures_lite::future::block_on;

async fn ram(spec: LayerSpec) -> RamDiskLayer {
    let size = spec.sector_count * u64::from(spec.sector_size);
    RamDiskLayer::new_with_sector_size(size, spec.sector_size).unwrap()
}

async fn stack(spec: &DiskSpec, layer_count: usize) -> LayeredDisk {
    let recipe = adapt(StackRecipe::legal(
        layer_count,
        spec.sector_count,
        spec.is_read_only,
        spec.seed,
    ));
    let disk = recipe.build(spec, &ram).await;
    disk.unwrap_or_else(|error| panic!("{recipe}: {error:?}"))
}

fn adapt(recipe: StackRecipe) -> StackRecipe {
    recipe
}

fn suite() -> Suite {
    Suite::new().sector_counts([1, 40]).fixed_seed_count(1)
}

#[test]
fn stacks_of_up_to_four_layers_keep_the_contract() -> Result<(), Violation> {
    suite().check_stacks(1..=4, ram, adapt)
}

#[test]
fn stacks_of_five_to_eight_layers_keep_the_contract() -> Result<(), Violation> {
    suite().check_stacks(5..=8, ram, adapt)
}

#[test]
fn a_disk_as_the_only_layer_keeps_the_contract() -> Result<(), Violation> {
    suite().must_resize().check_disks(async |spec| {
        let is_read_only = spec.is_read_only;
        let disk = Disk::new(ReferenceDisk::new(spec)).unwrap();
        let layers = vec![LayerConfiguration::new(DiskLayer::from_disk(disk))];
        Disk::new(LayeredDisk::new(is_read_only, layers).await.unwrap()).unwrap()
    })
}

/// A layered disk checks requests by itself: it may be used without the handle.
#[test]
fn a_stack_needs_no_handle_to_keep_the_contract() -> Result<(), Violation> {
    suite().check_backends(async |spec| stack(&spec, 3).await)
}

#[test]
fn stacks_of_large_sectors_keep_the_contract() -> Result<(), Violation> {
    Suite::new()
        .sector_sizes([65536])
        .sector_counts([9])
        .fixed_seed_count(1)
        .check_stacks(2..=3, ram, adapt)
}

/// Long enough that every layer in memory has several chunks of 2 MiB.
#[test]
fn long_stacks_keep_the_contract() -> Result<(), Violation> {
    Suite::new()
        .sector_sizes([4096])
        .sector_counts([1100])
        .fixed_seed_count(1)
        .step_count(100)
        .check_stacks(3..=3, ram, adapt)
}

#[test]
fn every_illegal_stack_is_refused_for_the_right_reason() {
    for seed in 0..200 {
        for stack in IllegalStack::of_each_fault(seed) {
            let spec = DiskSpec::new(16, 512);
            let built = stack.recipe.build(&spec, &ram);
            if let Err(what) = stack.check(block_on(built)) {
                panic!("seed {seed}: {what}");
            }
        }
    }
}

/// Every interleaving of fills, changes and failures that matters.
#[test]
fn caches_and_copies_keep_the_contract() -> Result<(), Violation> {
    suite().check_composition(async |layers| {
        let layers = layers.into_iter().map(LayerConfiguration::from).collect();
        Disk::new(LayeredDisk::new(false, layers).await.unwrap()).unwrap()
    })
}
