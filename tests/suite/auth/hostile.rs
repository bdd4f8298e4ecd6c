//! Clients that do not keep to the protocol (auth 23).
