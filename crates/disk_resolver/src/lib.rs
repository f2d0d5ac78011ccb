//! The catalogue: builds disks from their descriptions.
