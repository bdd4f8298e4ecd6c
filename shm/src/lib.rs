//! Memory shared between the processes of pgpool.
