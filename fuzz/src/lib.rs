//! Hostile input for Platter: what each fuzz target does with its bytes, and what must hold afterwards.
//!
//! Row 10: a tool, in a workspace of its own because everything in it is built with counters for libFuzzer. A target in `fuzz_targets/`
//! is one line; the work is a module here, so that all of them share one build.
//!
//! - `nbd_handshake`, `nbd_transmission`: bytes to a live server, its replies taken apart, data compared with a byte array.
//! - `config_json`, `layer_spec`: texts through the resolver.
//! - `request_buffers`, `stack_operations`: operations chosen by the bytes, each compared with a byte array.
//! - `inspect_tree`, `control_socket`: paths, updates and requests to a live tree, and to the daemon's control socket.
//!
//! ```
//! fuzz::layer_spec::run(b"ram:1G,read_cache");
//! ```
//!
//! **Guarantees.** The same bytes do the same: a target makes all that it changes anew. Nothing outside of a temporary folder is
//! opened, and no connection leaves this process. Each target watches itself through [`leaks`]: descriptors, threads and memory that
//! stay behind fail it as a panic does.
//!
//! **What it does not do.** Time: `cargo xtask fuzz` bounds the runs, libFuzzer what one of them may take.
//!
//! **Failure** is a panic or an abort; libFuzzer then keeps the bytes.

use cap::Cap;
use std::alloc::System;

pub mod config_json;
pub mod control_socket;
pub mod inspect_tree;
pub mod layer_spec;
pub mod leaks;
pub mod nbd_handshake;
pub mod nbd_transmission;
pub mod request_buffers;
pub mod stack_operations;

mod policy;
mod server;
mod wrapped;

/// Counts what is allocated, and refuses what is beyond a target's bound.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 512 << 20);
