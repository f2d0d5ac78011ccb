//! Durable layers keep the contract of layers, wherever they stand, whatever their layout.

mod common;

use common::{few_pages, layer_on, store, tight};
use disk_contract::{LayerSpec, Suite, Violation};
use disklayer_durable::{DurableLayer, DurableOptions, FormatOptions, Verify};

async fn tight_layer(spec: LayerSpec) -> DurableLayer {
    let store = store(1, spec.sector_size).await;
    let options = tight(spec.sector_count, spec.sector_size);
    layer_on(&store, &options, &few_pages()).await
}

async fn tight_verified_layer(spec: LayerSpec) -> DurableLayer {
    let store = store(1, spec.sector_size).await;
    let mut options = tight(spec.sector_count, spec.sector_size);
    options.verify = Verify::Data;
    let mut open = few_pages();
    open.close_after_flushes = 2;
    layer_on(&store, &options, &open).await
}

#[test]
fn a_durable_layer_keeps_the_contract_wherever_it_stands() -> Result<(), Violation> {
    Suite::new()
        .fixed_seed_count(1)
        .must_resize()
        .check_layers(async |spec| {
            let store = store(1, spec.sector_size).await;
            let options = FormatOptions::new(spec.sector_count);
            layer_on(&store, &options, &DurableOptions::default()).await
        })
}

#[test]
fn a_layer_of_short_stripes_a_short_log_and_few_pages_keeps_the_contract() -> Result<(), Violation>
{
    Suite::new()
        // More stripes than there are pages in memory.
        .sector_counts([1, 150])
        .fixed_seed_count(1)
        .must_resize()
        .check_layers(tight_layer)
}

#[test]
fn a_durable_layer_keeps_the_contract_in_random_stacks() -> Result<(), Violation> {
    Suite::new()
        .sector_sizes([512])
        .sector_counts([7, 70])
        .fixed_seed_count(1)
        .check_stacks(1..=5, tight_layer, |recipe| recipe)
}

#[test]
fn a_layer_that_verifies_its_data_keeps_the_contract_wherever_it_stands() -> Result<(), Violation> {
    Suite::new()
        .fixed_seed_count(1)
        .must_resize()
        .check_layers(async |spec| {
            let store = store(1, spec.sector_size).await;
            let mut options = FormatOptions::new(spec.sector_count);
            options.verify = Verify::Data;
            layer_on(&store, &options, &DurableOptions::default()).await
        })
}

#[test]
fn one_that_verifies_with_short_stripes_a_short_log_and_few_pages_keeps_the_contract()
-> Result<(), Violation> {
    Suite::new()
        // More stripes than there are pages in memory.
        .sector_counts([1, 150])
        .fixed_seed_count(1)
        .must_resize()
        .check_layers(tight_verified_layer)
}

#[test]
fn a_layer_that_verifies_its_data_keeps_the_contract_in_random_stacks() -> Result<(), Violation> {
    Suite::new()
        .sector_sizes([512])
        .sector_counts([7, 70])
        .fixed_seed_count(1)
        .check_stacks(1..=5, tight_verified_layer, |recipe| recipe)
}
