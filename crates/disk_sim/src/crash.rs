//! What the power cut leaves behind.

use crate::image::{Image, Piece};
use fastrand::Rng;
use std::collections::BTreeSet;

/// With up to so many writes that are not durable, every outcome is drawn.
const EXHAUSTIVE_MAX: usize = 8;

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

    /// What may be left, at most `limit` images. All that can be are among them if there are up to eight steps, and the limit
    /// allows it. With up to eight requests all are there that leave each of them whole or undone, and the rest are drawn with the
    /// dice of `seed`, torn. With more, all are drawn.
    pub fn images(&self, limit: usize, seed: u64) -> Vec<Image> {
        let mut rng = Rng::with_seed(seed);
        let count = self.steps.len();
        if count <= EXHAUSTIVE_MAX && 1 << count <= limit {
            return (0..1_usize << count)
                .map(|chosen| self.image(|index, _| chosen >> index & 1 == 1))
                .collect();
        }
        let mut requests: Vec<u64> = self.steps.iter().map(|(request, _)| *request).collect();
        requests.sort_unstable();
        requests.dedup();
        let mut images = Vec::new();
        if requests.len() <= EXHAUSTIVE_MAX && 1 << requests.len() <= limit {
            for chosen in 0..1_usize << requests.len() {
                let bit_of = |request| requests.binary_search(&request).expect("one of them");
                images.push(self.image(|_, request| chosen >> bit_of(request) & 1 == 1));
            }
        }
        while images.len() < limit {
            images.push(self.sample(&mut rng));
        }
        images
    }

    /// One of the images, drawn at random; nearly nothing, nearly all, and what lies between are equally likely.
    pub fn sample(&self, rng: &mut Rng) -> Image {
        let percent = rng.u8(0..=100);
        self.image(|_, _| rng.u8(0..100) < percent)
    }

    /// The image with those steps that `reached` the medium, by their index and request.
    fn image(&self, mut reached: impl FnMut(usize, u64) -> bool) -> Image {
        let mut image = self.durable.clone();
        for (index, (request, piece)) in self.steps.iter().enumerate() {
            if reached(index, *request) {
                image.apply(piece);
            }
        }
        image
    }
}
