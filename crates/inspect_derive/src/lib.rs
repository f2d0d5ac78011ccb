//! The derive macro of the inspect crate.
