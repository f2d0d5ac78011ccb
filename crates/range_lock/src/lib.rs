//! An asynchronous reader-writer lock over ranges of numbers.
