//! The commands that look at disks and move their content: `info`, `map`, `copy`, `compare`, and `layer` with its own.
//!
//! A disk is named by a configuration, a layer spec, a path or a URI ([`endpoint`]); [`open`] makes a disk of it, and refuses what
//! would be copied onto itself; the work is done by [`transfer`](crate::transfer).

pub(crate) mod compare;
pub(crate) mod copy;
mod endpoint;
pub(crate) mod info;
pub(crate) mod layer;
mod layers;
pub(crate) mod map;
mod open;
mod places;
mod watching;

pub(crate) use endpoint::Endpoint;
pub(crate) use watching::EffortArgs;
