//! The disk: a trait to implement, a handle to hold.
