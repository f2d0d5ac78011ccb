//! Positioned file I/O straight from and to the memory of a request.
