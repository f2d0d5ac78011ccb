//! The contract of disks and layers as a test kit.
