//! The memory of one request.
