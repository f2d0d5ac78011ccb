//! What of the protocol is ours to choose; the rest is in `nbd_protocol`.

pub(crate) mod contexts;
pub(crate) mod errno;

/// The most bytes that one request may read or write, as advertised.
pub(crate) const REQUEST_BYTES_MAX: u32 = 32 << 20;
