//! What is run, on which disks.

use crate::arrangement::Arrangement;
use crate::fixed::{self, Resizing};
use crate::handle::Handle;
use crate::recipe::StackRecipe;
use crate::seed::{numbers, replay_line};
use crate::spec::{DiskSpec, LayerSpec};
use crate::subject::{Checked, Subject};
use crate::{
    ComposedLayer, Report, Stores, Violation, World, abandoned, compose, concurrency, ledger,
    random,
};
use disk_backend::{Disk, DiskIo};
use disk_layered::LayerIo;
use fastrand::Rng;
use futures_lite::future::block_on;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

/// How many worlds there are for each fixed seed. One takes a few milliseconds.
const WORLDS_PER_SEED: u64 = 50;

/// The contract as a list of checks: fixed cases, random sequences against an array of bytes, requests that are left alone half
/// way, and threads on the same sectors; for each of some sector sizes and disk sizes.
///
/// A check makes many disks by the factory it is given, and stops at the first [`Violation`]. The seeds of its random numbers
/// are some fixed ones and one that was never used before; all are printed, so the output of a failed test has them even if a
/// disk panics or hangs. [`SEED_VARIABLE`](crate::SEED_VARIABLE) replays one.
#[derive(Debug, Clone)]
pub struct Suite {
    sector_sizes: Vec<u32>,
    sector_counts: Vec<u64>,
    fixed_seed_count: u64,
    only_seed: Option<u64>,
    step_count: u32,
    is_read_only_checked: bool,
    must_resize: bool,
    stall_limit: Duration,
}

impl Default for Suite {
    fn default() -> Self {
        Self {
            sector_sizes: vec![512, 4096],
            sector_counts: vec![1, 7, 70],
            fixed_seed_count: 2,
            only_seed: None,
            step_count: 250,
            is_read_only_checked: true,
            must_resize: false,
            stall_limit: Duration::from_secs(20),
        }
    }
}

impl Suite {
    /// Disks of 1, 7 and 70 sectors of 512 and 4096 bytes; 250 random requests in a sequence.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sector sizes to ask for, in bytes.
    #[must_use]
    pub fn sector_sizes(mut self, sector_sizes: impl IntoIterator<Item = u32>) -> Self {
        self.sector_sizes = sector_sizes.into_iter().collect();
        self
    }

    /// The sizes to ask for, in sectors. The kit holds some copies of the disk in memory.
    #[must_use]
    pub fn sector_counts(mut self, sector_counts: impl IntoIterator<Item = u64>) -> Self {
        self.sector_counts = sector_counts.into_iter().collect();
        self
    }

    /// The length of a random sequence, in requests.
    #[must_use]
    pub fn step_count(mut self, step_count: u32) -> Self {
        self.step_count = step_count;
        self
    }

    /// How many seeds are always used, besides fresh ones.
    #[must_use]
    pub fn fixed_seed_count(mut self, fixed_seed_count: u64) -> Self {
        self.fixed_seed_count = fixed_seed_count;
        self
    }

    /// Runs one seed and no other, like [`SEED_VARIABLE`](crate::SEED_VARIABLE): for a fault that shall not come back.
    #[must_use]
    pub fn only_seed(mut self, seed: u64) -> Self {
        self.only_seed = Some(seed);
        self
    }

    /// For a type of disk that is never read-only: no such disk is asked for.
    #[must_use]
    pub fn without_read_only(mut self) -> Self {
        self.is_read_only_checked = false;
        self
    }

    /// For a type of disk that promises [`resize`](DiskIo::resize): otherwise `Unsupported` is a good answer too.
    #[must_use]
    pub fn must_resize(mut self) -> Self {
        self.must_resize = true;
        self
    }

    /// How long nothing may happen to a request before it counts as stuck (C4, C10): 20 s unless set. Only a hang reaches it.
    #[must_use]
    pub fn stall_limit(mut self, stall_limit: Duration) -> Self {
        self.stall_limit = stall_limit;
        self
    }

    /// Checks the disks that `make` makes, by their handle. This is the check for a backend.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn check_disks(&self, make: impl AsyncFn(DiskSpec) -> Disk) -> Result<(), Violation> {
        self.check_backends(async |spec| Handle(make(spec).await))
    }

    /// Checks random stacks of `layer_counts` layers ([`StackRecipe::legal`]), in which some layers are made by `make`, after
    /// `adapt` has had a look at each.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn check_stacks<L: LayerIo>(
        &self,
        layer_counts: RangeInclusive<usize>,
        make: impl AsyncFn(LayerSpec) -> L,
        adapt: impl Fn(StackRecipe) -> StackRecipe,
    ) -> Result<(), Violation> {
        for layer_count in layer_counts {
            self.check_described(&async |spec: DiskSpec| {
                let recipe = StackRecipe::legal(
                    layer_count,
                    spec.sector_count,
                    spec.is_read_only,
                    spec.seed,
                );
                let recipe = adapt(recipe);
                let disk = recipe.build(&spec, &make).await;
                let disk = disk.unwrap_or_else(|error| panic!("{recipe} is legal, but {error:?}"));
                let disk = Disk::new(disk).expect("its sector size is that of its layers");
                (Handle(disk), recipe.to_string())
            })?;
        }
        Ok(())
    }

    /// Checks backends without the handle that protects them from requests that are not well formed: for types that check
    /// these by themselves, because they are called without a handle too.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn check_backends<T: DiskIo>(
        &self,
        make: impl AsyncFn(DiskSpec) -> T,
    ) -> Result<(), Violation> {
        self.check_described(&async |spec| (make(spec).await, String::new()))
    }

    /// Checks what makes disks of layers: `make` puts the layers it is given, top first, into a writable disk. They are 8 sectors
    /// of 512 bytes long, whatever the suite says of sizes.
    ///
    /// The kit holds up and fails the layers' requests at chosen points, changes the memory of requests while these run, drops
    /// them half way, and compares what the layers then hold (C3, C9, L2 to L6).
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn check_composition(
        &self,
        make: impl AsyncFn(Vec<ComposedLayer>) -> Disk,
    ) -> Result<(), Violation> {
        let mut seeds = self.seeds().into_iter();
        seeds.try_for_each(|seed| {
            announce(seed);
            compose::check(&make, seed, self.stall_limit)
        })
    }

    /// Runs [`World`]s of the disk that `build` makes of simulated storage: under faults, crashes, resizes, dropped and forgotten
    /// futures. Fifty for each fixed seed, and one for each fresh one; [`FRESH_SEEDS_VARIABLE`](crate::FRESH_SEEDS_VARIABLE) makes
    /// it a long run. The disk must take changes again after a failed flush; for one that does not see
    /// [`check_each_world`](Self::check_each_world) and [`World::that_may_refuse_changes`].
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn check_worlds(
        &self,
        build: impl AsyncFn(&mut Stores) -> Disk,
    ) -> Result<Report, Violation> {
        self.check_each_world(|world| world, build)
    }

    /// As [`check_worlds`](Self::check_worlds), in worlds that `change` has told what is special about the disk.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn check_each_world(
        &self,
        change: impl Fn(World) -> World,
        build: impl AsyncFn(&mut Stores) -> Disk,
    ) -> Result<Report, Violation> {
        let seeds = match self.only_seed {
            Some(seed) => vec![seed],
            None => numbers(self.fixed_seed_count * WORLDS_PER_SEED, 1),
        };
        let mut report = Report::default();
        for seed in seeds {
            announce(seed);
            let world = change(World::new(seed)).run(&build);
            report.add(world.map_err(|violation| violation.replayed_by(replay_line(seed)))?);
        }
        Ok(report)
    }

    fn seeds(&self) -> Vec<u64> {
        match self.only_seed {
            Some(seed) => vec![seed],
            None => numbers(self.fixed_seed_count, 1),
        }
    }

    /// Each disk comes with what is to be said of it.
    fn check_described<T: DiskIo>(
        &self,
        make: &impl AsyncFn(DiskSpec) -> (T, String),
    ) -> Result<(), Violation> {
        for seed in self.seeds() {
            announce(seed);
            for spec in self.specs(seed) {
                block_on(self.check_shape(make, spec, seed))?;
            }
        }
        Ok(())
    }

    /// Checks the layers that `make` makes: alone, above disks and layers that are shorter, as long or longer, and below.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn check_layers<L: LayerIo>(
        &self,
        make: impl AsyncFn(LayerSpec) -> L,
    ) -> Result<(), Violation> {
        for arrangement in Arrangement::ALL {
            self.check_disks(async |spec| arrangement.build(&spec, &make).await)
                .map_err(|violation| violation.within(arrangement.title()))?;
        }
        Ok(())
    }

    /// One disk without content for each size.
    fn specs(&self, seed: u64) -> impl Iterator<Item = DiskSpec> {
        let mut rng = Rng::with_seed(seed);
        let sizes = self.sector_sizes.iter();
        let shapes = sizes.flat_map(|size| self.sector_counts.iter().map(|count| (*size, *count)));
        shapes.map(move |(sector_size, sector_count)| DiskSpec {
            seed: rng.u64(..),
            ..DiskSpec::new(sector_count, sector_size)
        })
    }

    async fn check_shape<T: DiskIo>(
        &self,
        make: &impl AsyncFn(DiskSpec) -> (T, String),
        spec: DiskSpec,
        seed: u64,
    ) -> Checked {
        let mut rng = Rng::with_seed(spec.seed);
        let mut next = |content: fn(&mut DiskSpec)| {
            let mut spec = DiskSpec {
                seed: rng.u64(..),
                ..spec.clone()
            };
            content(&mut spec);
            spec
        };

        let empty = next(|_| ());
        let (disk, title) = make(empty.clone()).await;
        let mut subject = Subject::new(
            &disk,
            empty,
            title,
            "the fixed cases on an empty disk",
            seed,
        );
        let resizing = fixed::writable(&mut subject, self.must_resize, self.stall_limit).await?;
        drop(disk);

        let filled = next(random_content);
        let (disk, title) = make(filled.clone()).await;
        let mut subject = Subject::new(
            &disk,
            filled,
            title,
            "the fixed cases on a filled disk",
            seed,
        );
        fixed::writable(&mut subject, self.must_resize, self.stall_limit).await?;
        drop(disk);

        if self.is_read_only_checked {
            let mut filled = next(random_content);
            filled.is_read_only = true;
            let (disk, title) = make(filled.clone()).await;
            let case = "the fixed cases on a read-only disk";
            fixed::read_only(&mut Subject::new(&disk, filled, title, case, seed)).await?;
        }

        self.check_sequence(make, next(random_content), seed, resizing)
            .await?;

        let stamped = next(ledger::stamp_content);
        let (disk, title) = make(stamped.clone()).await;
        let case = "requests left alone half way";
        let mut subject = Subject::new(&disk, stamped, title, case, seed);
        subject.verify_initial().await?;
        abandoned::check(&mut subject, self.stall_limit)?;
        drop(disk);

        let stamped = next(ledger::stamp_content);
        let (disk, title) = make(stamped.clone()).await;
        let case = "several threads (their order is not replayed)";
        let mut subject = Subject::new(&disk, stamped, title, case, seed);
        subject.verify_initial().await?;
        concurrency::check(&mut subject, self.stall_limit)
    }

    async fn check_sequence<T: DiskIo>(
        &self,
        make: &impl AsyncFn(DiskSpec) -> (T, String),
        spec: DiskSpec,
        seed: u64,
        resizing: Resizing,
    ) -> Checked {
        let (disk, title) = make(spec.clone()).await;
        let mut subject = Subject::new(&disk, spec, title, "a random sequence", seed);
        random::sequence(&mut subject, self.step_count, resizing).await
    }
}

/// Runs of zeros and of random bytes.
fn random_content(spec: &mut DiskSpec) {
    let mut rng = Rng::with_seed(spec.seed);
    let size = spec.sector_size as usize;
    let mut at = 0;
    while at < spec.content.len() {
        let end = spec.content.len().min(at + rng.usize(1..12) * size);
        let run: Range<usize> = at..end;
        if rng.bool() {
            rng.fill(&mut spec.content[run]);
        }
        at = end;
    }
}

#[allow(
    clippy::print_stdout,
    reason = "the runner of tests keeps it for those that fail"
)]
fn announce(seed: u64) {
    println!("disk_contract: {}={seed:#x}", crate::SEED_VARIABLE);
}
