//! Typed, opaque descriptions of things, and the resolver that builds them.
