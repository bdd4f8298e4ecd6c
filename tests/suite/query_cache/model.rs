//! Random histories of several sessions, each read compared with what the server says without a cache.
