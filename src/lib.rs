//! pgpool.
