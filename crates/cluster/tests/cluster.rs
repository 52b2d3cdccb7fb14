//! The suite against a cluster.
fn main() {}
