//! The stacks in which a layer is tested.

use crate::reference::{ReferenceDisk, ReferenceLayer};
use crate::spec::{DiskSpec, LayerSpec};
use crate::stack_plan::{Member, StackPlan};
use disk_backend::Disk;
use disk_layered::{DiskLayer, LayerConfiguration, LayerIo, LayeredDisk};

/// Where the layer under test stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arrangement {
    Alone,
    OverShorterDisk,
    OverEqualDisk,
    OverLongerDisk,
    OverShorterLayerAndDisk,
    UnderLongerLayer,
    UnderShorterLayer,
}

/// A layer of a stack: the one under test, or one of the kit's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    UnderTest,
    Layer,
    Disk,
}

impl Arrangement {
    pub(crate) const ALL: [Self; 7] = [
        Self::Alone,
        Self::OverShorterDisk,
        Self::OverEqualDisk,
        Self::OverLongerDisk,
        Self::OverShorterLayerAndDisk,
        Self::UnderLongerLayer,
        Self::UnderShorterLayer,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Alone => "the layer alone",
            Self::OverShorterDisk => "the layer over a shorter disk",
            Self::OverEqualDisk => "the layer over a disk of its size",
            Self::OverLongerDisk => "the layer over a longer disk",
            Self::OverShorterLayerAndDisk => "the layer over a shorter layer over a longer disk",
            Self::UnderLongerLayer => "the layer under a longer one and over a disk",
            Self::UnderShorterLayer => "the layer under a shorter one",
        }
    }

    /// The layers, top first, with their sizes in sectors.
    fn layers(self, sector_count: u64) -> Vec<(Role, u64)> {
        let shorter = sector_count.div_ceil(2);
        let longer = sector_count + 5;
        match self {
            Self::Alone => vec![(Role::UnderTest, sector_count)],
            Self::OverShorterDisk => vec![(Role::UnderTest, sector_count), (Role::Disk, shorter)],
            Self::OverEqualDisk => {
                vec![(Role::UnderTest, sector_count), (Role::Disk, sector_count)]
            }
            Self::OverLongerDisk => vec![(Role::UnderTest, sector_count), (Role::Disk, longer)],
            Self::OverShorterLayerAndDisk => vec![
                (Role::UnderTest, sector_count),
                (Role::Layer, shorter),
                (Role::Disk, longer),
            ],
            Self::UnderLongerLayer => vec![
                (Role::Layer, sector_count),
                (Role::UnderTest, shorter),
                (Role::Disk, shorter),
            ],
            Self::UnderShorterLayer => vec![(Role::Layer, sector_count), (Role::UnderTest, longer)],
        }
    }

    /// The disk that `spec` asks for, with one layer from `make` in it.
    ///
    /// # Panics
    /// If a fresh layer cannot be filled or stacked: there is nothing to test then.
    pub(crate) async fn build<L: LayerIo>(
        self,
        spec: &DiskSpec,
        make: &impl AsyncFn(LayerSpec) -> L,
    ) -> Disk {
        let layers = self.layers(spec.sector_count);
        let members: Vec<_> = layers
            .iter()
            .map(|(role, sector_count)| match role {
                Role::Disk => Member::Disk(*sector_count),
                Role::UnderTest | Role::Layer => Member::Layer(*sector_count),
            })
            .collect();
        let plan = StackPlan::new(spec, &members);
        let mut stack = Vec::new();
        for (index, (role, sector_count)) in layers.into_iter().enumerate() {
            let plan = plan.layer(index);
            let layer_spec = LayerSpec::new(sector_count, spec.sector_size);
            let layer = match role {
                Role::UnderTest => {
                    let layer = make(layer_spec).await;
                    plan.fill_layer(&layer)
                        .await
                        .expect("a fresh layer can be filled");
                    DiskLayer::new(layer)
                }
                Role::Layer => {
                    let layer = ReferenceLayer::new(layer_spec);
                    plan.fill_layer(&layer)
                        .await
                        .expect("a fresh layer can be filled");
                    DiskLayer::new(layer)
                }
                Role::Disk => {
                    let disk = ReferenceDisk::new(plan.disk_spec(true));
                    DiskLayer::from_disk(
                        Disk::new(disk).expect("its sector size is that asked for"),
                    )
                }
            };
            stack.push(LayerConfiguration::new(layer));
        }
        let disk = LayeredDisk::new(spec.is_read_only, stack)
            .await
            .expect("layers of one sector size are a legal stack");
        Disk::new(disk).expect("its sector size is that of its layers")
    }
}
