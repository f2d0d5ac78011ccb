//! How requests and replies are framed, which the handshake settles.

/// The kind of headers that a connection uses in its transmission phase. Each is better than the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Framing {
    /// Compact requests, and an errno as a reply, then for a successful read the data.
    #[default]
    Simple,
    /// Compact requests, and replies in chunks with a type and a length each: `STRUCTURED_REPLY`.
    Structured,
    /// Requests and chunks with lengths of 64 bits: `EXTENDED_HEADERS`.
    Extended,
}

impl Framing {
    /// The length of a request without its payload, in bytes: 28, or 32 with extended headers.
    pub fn request_len(self) -> usize {
        match self {
            Self::Simple | Self::Structured => crate::request::COMPACT_LEN,
            Self::Extended => crate::request::EXTENDED_LEN,
        }
    }

    /// Whether replies come in chunks.
    pub fn has_chunks(self) -> bool {
        self >= Self::Structured
    }
}
