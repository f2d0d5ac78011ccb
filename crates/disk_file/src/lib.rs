//! A disk in a file or on a block device.
