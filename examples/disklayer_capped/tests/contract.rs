//! The layer keeps the contract, wherever it stands in a stack.

use disk_contract::{Suite, Violation};
use disklayer_capped::CappedLayer;

#[test]
fn a_capped_layer_keeps_the_contract() -> Result<(), Violation> {
    Suite::new()
        .must_resize()
        .check_layers(async |spec| CappedLayer::new(spec.sector_count, spec.sector_size, 16 << 20))
}
