//! From a recipe to a disk.

use super::{Breakage, LayerKind, StackRecipe};
use crate::scripted::ScriptedLayer;
use crate::spec::{DiskSpec, LayerSpec};
use crate::stack_plan::{LayerPlan, Member, StackPlan};
use crate::{PlainDisk, PlainLayer, ReferenceDisk, ReferenceLayer, ScriptedDisk};
use disk_backend::{Disk, UnmapBehavior};
use disk_layered::{
    DiskLayer, DiskLayerMetadata, InvalidLayeredDisk, LayerAttach, LayerConfiguration, LayerIo,
    LayeredDisk,
};
use std::pin::Pin;

type Building<'a> = Pin<Box<dyn Future<Output = Result<LayeredDisk, InvalidLayeredDisk>> + 'a>>;

impl StackRecipe {
    /// Builds the stack, so that it shows what `spec` asks for; [`LayerKind::Own`] is made by `make`.
    ///
    /// The content is dealt out over the layers, with other data wherever it must not show; but layers that write through hold
    /// nothing that the one written through to does not show.
    ///
    /// # Errors
    /// What [`LayeredDisk::new`] has against it.
    ///
    /// # Panics
    /// If a fresh layer cannot be filled, or the top layer has not the size that `spec` asks for.
    pub async fn build<L: LayerIo>(
        &self,
        spec: &DiskSpec,
        make: &impl AsyncFn(LayerSpec) -> L,
    ) -> Result<LayeredDisk, InvalidLayeredDisk> {
        self.build_boxed(spec, make, self.stutter).await
    }

    /// None if there are no layers.
    fn plan(&self, spec: &DiskSpec) -> Option<StackPlan> {
        let members: Vec<_> = self.layers.iter().map(member).collect();
        let through_count = self.through_count();
        let written = members.get(..=through_count);
        let is_long = |member: &Member| member.sector_count() >= spec.sector_count;
        // What a stack would show that is refused does not matter.
        match written.is_some_and(|written| written.iter().all(is_long)) {
            true => Some(StackPlan::write_through(spec, &members, through_count)),
            false => (!members.is_empty()).then(|| StackPlan::new(spec, &members)),
        }
    }

    /// Boxed, because stacks may be layers of stacks.
    fn build_boxed<'a, L: LayerIo>(
        &'a self,
        spec: &'a DiskSpec,
        make: &'a impl AsyncFn(LayerSpec) -> L,
        stutter: u32,
    ) -> Building<'a> {
        Box::pin(async move {
            let plan = self.plan(spec);
            let mut layers = Vec::new();
            for (index, recipe) in self.layers.iter().enumerate() {
                let plan = plan.as_ref().expect("there are layers").layer(index);
                layers.push(LayerConfiguration {
                    layer: build_layer(&recipe.kind, plan, make, stutter).await,
                    write_through: recipe.write_through,
                    read_cache: recipe.read_cache,
                });
            }
            LayeredDisk::new(self.is_read_only, layers).await
        })
    }
}

fn member(recipe: &super::LayerRecipe) -> Member {
    match recipe.kind.is_disk() {
        true => Member::Disk(recipe.sector_count),
        false => Member::Layer(recipe.sector_count),
    }
}

async fn build_layer<L: LayerIo>(
    kind: &LayerKind,
    plan: &LayerPlan,
    make: &impl AsyncFn(LayerSpec) -> L,
    stutter: u32,
) -> DiskLayer {
    let spec = LayerSpec::new(plan.sector_count(), plan.sector_size());
    let reference =
        |behavior: &UnmapBehavior| ReferenceLayer::new(spec).with_unmap_behavior(*behavior);
    match kind {
        LayerKind::Own => filled(make(spec).await, plan, stutter).await,
        LayerKind::Reference(behavior) => filled(reference(behavior), plan, stutter).await,
        LayerKind::Plain(behavior) => {
            let layer = PlainLayer::new(reference(behavior));
            filled(layer, plan, stutter).await
        }
        LayerKind::Disk {
            unmap_behavior,
            is_plain,
            is_read_only,
        } => {
            let disk = ReferenceDisk::new(plan.disk_spec(*is_read_only))
                .with_unmap_behavior(*unmap_behavior);
            match is_plain {
                true => disk_layer(PlainDisk::new(disk), stutter),
                false => disk_layer(disk, stutter),
            }
        }
        LayerKind::Nested(stack) => {
            let spec = plan.disk_spec(stack.is_read_only);
            let disk = stack.build_boxed(&spec, make, stutter).await;
            let disk = disk.expect("a stack in a legal stack is legal");
            DiskLayer::from_disk(Disk::new(disk).expect("its sector size is that of its layers"))
        }
        LayerKind::Broken(Breakage::SectorSize(sector_size)) => {
            DiskLayer::new(ReferenceLayer::new(LayerSpec {
                sector_size: *sector_size,
                ..spec
            }))
        }
        LayerKind::Broken(Breakage::LogicallyReadOnly) => {
            DiskLayer::new(ReferenceLayer::new(spec).logically_read_only())
        }
        LayerKind::Broken(Breakage::DoesNotAttach) => DiskLayer::new(Unattachable),
    }
}

async fn filled<L: LayerIo>(layer: L, plan: &LayerPlan, stutter: u32) -> DiskLayer {
    plan.fill_layer(&layer)
        .await
        .expect("a fresh layer can be filled");
    if stutter == 0 {
        return DiskLayer::new(layer);
    }
    let layer = ScriptedLayer::new(layer);
    layer.script().stutter(stutter);
    DiskLayer::new(layer)
}

fn disk_layer(disk: impl disk_backend::DiskIo, stutter: u32) -> DiskLayer {
    let disk = ScriptedDisk::new(disk);
    disk.script().stutter(stutter);
    DiskLayer::from_disk(Disk::new(disk).expect("its sector size is that asked for"))
}

/// Never becomes a layer.
struct Unattachable;

impl LayerAttach for Unattachable {
    type Error = String;
    type Layer = ReferenceLayer;

    async fn attach(self, _: Option<DiskLayerMetadata>) -> Result<ReferenceLayer, String> {
        Err("it never does".to_owned())
    }
}
