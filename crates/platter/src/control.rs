//! The control socket: looking into a running daemon and changing what it serves, one JSON request and one JSON reply per line.
//!
//! The protocol is described for its users in `docs/control.md`, and defined in `protocol`.

mod client;
mod commands;
pub(crate) mod descriptors;
mod operations;
mod protocol;
mod server;

pub(crate) use client::Connection;
pub(crate) use commands::{export, inspect, resize, set};
pub(crate) use protocol::Refusal;
pub(crate) use server::{bind, serve, serve_client};
