//! The grammar of pgpool.conf (config 2): files to settings with their places.
//!
//! All statements of all files are collected before any is applied, and every syntax error is reported, not only the
//! first: after one the parser goes on with the next line. Nothing here knows what a setting means; the only thing
//! asked of the catalogue is whether a word is a parameter's name, to tell prose from settings.
//!
//! Bounds: regular files only, their size, the depth of includes, the number of files. So no input can make this wait
//! or grow without end.

mod reader;
mod slip;
mod statement;
mod token;

pub use reader::{Setting, Statements, commented_out, read, read_text};
