//! An empty library: the test and the benchmark of this package are files of the parent crate.
