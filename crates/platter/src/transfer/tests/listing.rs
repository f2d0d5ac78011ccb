//! Facts about lists of extents.

use super::super::{Extent, Joined};
use super::*;
use disk_backend::BlockState;

fn list(probe: &Probe) -> Vec<Extent> {
    let mut extents = Joined::new(View::new(probe.disk(), Side::First));
    std::iter::from_fn(|| block_on(extents.next()).unwrap()).collect()
}

#[test]
fn neighbours_that_are_alike_are_one_extent_wherever_an_answer_ends() {
    let mut bytes = vec![0; 64 * 1024];
    bytes[4096..20_480].fill(1);
    bytes[40_960..41_472].fill(1);
    for status_sectors_max in [1, 3, 8, 100] {
        let traits = Traits {
            status_sectors_max: Some(status_sectors_max),
            ..Traits::default()
        };
        let found = list(&probe(&bytes, 512, traits));
        let ranges: Vec<_> = found.iter().map(|extent| extent.range.clone()).collect();
        assert_eq!(
            ranges,
            [
                0..4096,
                4096..20_480,
                20_480..40_960,
                40_960..41_472,
                41_472..65_536
            ]
        );
        let is_data = found.iter().map(|extent| extent.state == BlockState::Data);
        assert_eq!(
            is_data.collect::<Vec<_>>(),
            [false, true, false, true, false]
        );
    }
}
