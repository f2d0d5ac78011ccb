//! Look into a running object as a tree, and change chosen values of it.
