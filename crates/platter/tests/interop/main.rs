//! The interop ring: the daemon as its users start it, judged by programs of other people and by a client of
//! our own that is ruder than any of theirs.
//!
//! A test whose program is missing says so and does not run; with `CI=true` it fails.
#![allow(
    clippy::print_stdout,
    reason = "what a failed test printed is shown by its runner"
)]

mod command_line;
mod configs;
mod control;
mod cost;
mod fat;
mod filesystem;
mod hostile;
mod layers;
mod layers_damage;
mod layers_full;
mod libnbd;
mod life;
mod load;
mod many;
mod metrics;
mod nbd_disk;
mod pages;
mod qemu;
mod restart;
mod sandbox;
mod service;
mod support;
mod tls;
mod tools;
mod tools_nbd;
