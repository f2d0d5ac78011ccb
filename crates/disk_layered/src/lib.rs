//! Disks composed of layers.
