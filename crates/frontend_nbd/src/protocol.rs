//! The numbers and messages of the NBD protocol, apart from whoever sends or receives them. All integers are big-endian.

pub(crate) mod errno;
pub(crate) mod options;
pub(crate) mod replies;
pub(crate) mod request;

/// The longest string of the protocol, in bytes: export names, descriptions, queries.
pub(crate) const STRING_LEN_MAX: usize = 4096;

/// The most bytes that one request may read or write, as advertised.
pub(crate) const REQUEST_BYTES_MAX: u32 = 32 << 20;

/// The one metadata context there is.
pub(crate) const ALLOCATION_CONTEXT: &str = "base:allocation";

/// What the server sends first.
pub(crate) mod greeting {
    /// `NBDMAGIC`.
    pub(crate) const MAGIC: u64 = 0x4e42_444d_4147_4943;
    /// `IHAVEOPT`; begins each option of the client, too.
    pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
    /// Set by either side.
    pub(crate) const FIXED_NEWSTYLE: u16 = 1 << 0;
    /// Set by either side: no padding after the answer to `EXPORT_NAME`.
    pub(crate) const NO_ZEROES: u16 = 1 << 1;
    /// The padding that a client gets which does not say `NO_ZEROES`.
    pub(crate) const PADDING_LEN: usize = 124;
}

/// What an export can do.
pub(crate) mod transmission_flag {
    pub(crate) const HAS_FLAGS: u16 = 1 << 0;
    pub(crate) const READ_ONLY: u16 = 1 << 1;
    pub(crate) const SEND_FLUSH: u16 = 1 << 2;
    pub(crate) const SEND_FUA: u16 = 1 << 3;
    pub(crate) const SEND_TRIM: u16 = 1 << 5;
    pub(crate) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub(crate) const SEND_DF: u16 = 1 << 7;
    pub(crate) const CAN_MULTI_CONN: u16 = 1 << 8;
    pub(crate) const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// What a client may ask for with a command.
pub(crate) mod command_flag {
    pub(crate) const FUA: u16 = 1 << 0;
    pub(crate) const NO_HOLE: u16 = 1 << 1;
    pub(crate) const DF: u16 = 1 << 2;
    pub(crate) const REQ_ONE: u16 = 1 << 3;
    pub(crate) const FAST_ZERO: u16 = 1 << 4;
}

/// What `base:allocation` says of an extent.
pub(crate) mod extent_flag {
    pub(crate) const HOLE: u32 = 1 << 0;
    pub(crate) const ZERO: u32 = 1 << 1;
}
