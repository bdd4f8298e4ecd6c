//! pgpool.
fn main() {}
