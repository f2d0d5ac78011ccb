//! Disks over the Network Block Device protocol.
