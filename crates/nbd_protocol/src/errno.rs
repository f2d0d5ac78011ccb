//! The errors that the protocol knows.

/// Why a request failed. The numbers are those of Linux, on every platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Errno {
    /// The export, or a reservation, forbids it.
    Perm = 1,
    /// The store failed.
    Io = 5,
    /// There is no memory for it.
    NoMemory = 12,
    /// The request makes no sense, or reads beyond the end.
    Invalid = 22,
    /// There is no room, which includes all that lies beyond the end.
    NoSpace = 28,
    /// Too large to be sent in one piece.
    Overflow = 75,
    /// Zeros cannot be written faster than data.
    NotSupported = 95,
    /// The server is about to stop.
    Shutdown = 108,
}

impl Errno {
    /// The number on the wire.
    pub fn code(self) -> u32 {
        self as u32
    }

    /// What a number other than 0 means. Those that the protocol does not know are to be taken for `EINVAL`.
    pub fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Perm,
            5 => Self::Io,
            12 => Self::NoMemory,
            28 => Self::NoSpace,
            75 => Self::Overflow,
            95 => Self::NotSupported,
            108 => Self::Shutdown,
            _ => Self::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_has_its_number() {
        for code in [1, 5, 12, 22, 28, 75, 95, 108] {
            assert_eq!(Errno::from_code(code).code(), code);
        }
        assert_eq!(Errno::from_code(2), Errno::Invalid);
    }
}
