//! What the power cut leaves behind.

use crate::image::{Image, Piece};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};

/// With up to so many writes that are not durable, every outcome is drawn.
pub const EXHAUSTIVE_MAX: usize = 8;

/// A store at the instant of a crash: what is durable for certain, and the steps of which any may have come to the medium.
#[derive(Debug, Clone)]
pub struct Crash {
    durable: Image,
    /// In their order, each with the number of its request.
    steps: Vec<(u64, Piece)>,
}

impl Crash {
    pub(crate) fn new(durable: Image, steps: Vec<(u64, Piece)>) -> Self {
        Self { durable, steps }
    }

    /// How many steps may have come to the medium, or not: the parts of unflushed writes that are never torn, resizes, and what was
    /// under way.
    pub fn step_count(&self) -> usize {
        self.steps.len()
    }

    /// How many requests these steps are of.
    pub fn request_count(&self) -> usize {
        let requests: BTreeSet<u64> = self.steps.iter().map(|(request, _)| *request).collect();
        requests.len()
    }

    /// What may be left, at most `limit` images, as [`images_of`] draws them.
    pub fn images(&self, limit: usize, seed: u64) -> Vec<Image> {
        let images = images_of(std::slice::from_ref(self), limit, seed);
        images.into_iter().flatten().collect()
    }

    /// One of the images, drawn at random; nearly nothing, nearly all, and what lies between are equally likely.
    pub fn sample(&self, rng: &mut Rng) -> Image {
        let percent = rng.u8(0..=100);
        self.image(|_| rng.u8(0..100) < percent)
    }

    /// The image with those steps that `reached` the medium.
    fn image(&self, mut reached: impl FnMut(usize) -> bool) -> Image {
        let mut image = self.durable.clone();
        for (step, (_, piece)) in self.steps.iter().enumerate() {
            if reached(step) {
                image.apply(piece);
            }
        }
        image
    }
}

/// What may be left of stores whose power is cut at the same instant, at most `limit` times an image of each. All that can be are
/// among them if there are up to eight steps, and the limit allows it. With up to eight requests all are there that leave each of
/// them whole or undone, and the rest are drawn with the dice of `seed`, torn. With more, all are drawn.
pub fn images_of(crashes: &[Crash], limit: usize, seed: u64) -> Vec<Vec<Image>> {
    let steps = numbers(crashes, |store, step, _| (store, step as u64));
    if let Some(images) = every_subset(crashes, &steps, limit) {
        return images;
    }
    let requests = numbers(crashes, |store, _, request| (store, request));
    let mut images = every_subset(crashes, &requests, limit).unwrap_or_default();
    let mut rng = Rng::with_seed(seed);
    while images.len() < limit {
        let sample = crashes.iter().map(|crash| crash.sample(&mut rng));
        images.push(sample.collect());
    }
    images
}

/// Numbers what the steps are parts of, by store and step.
fn numbers(
    crashes: &[Crash],
    whole_of: impl Fn(usize, usize, u64) -> (usize, u64),
) -> Vec<Vec<usize>> {
    let mut known = BTreeMap::new();
    let mut number = |whole| {
        let next = known.len();
        *known.entry(whole).or_insert(next)
    };
    let of_store = |(store, crash): (usize, &Crash)| {
        let steps = crash.steps.iter().enumerate();
        let numbers = steps.map(|(step, (request, _))| number(whole_of(store, step, *request)));
        numbers.collect()
    };
    crashes.iter().enumerate().map(of_store).collect()
}

/// One image for each choice of what came to the medium, if there are so few: `numbers` tells which steps came together.
fn every_subset(
    crashes: &[Crash],
    numbers: &[Vec<usize>],
    limit: usize,
) -> Option<Vec<Vec<Image>>> {
    let count = numbers.iter().flatten().max().map_or(0, |last| last + 1);
    if count > EXHAUSTIVE_MAX || 1 << count > limit {
        return None;
    }
    let image_of_each = |chosen: usize| {
        let stores = crashes.iter().zip(numbers);
        let images = stores.map(|(crash, of)| crash.image(|step| chosen >> of[step] & 1 == 1));
        images.collect()
    };
    Some((0..1 << count).map(image_of_each).collect())
}
