//! Memory shared with a guest, a kernel or other threads.
