//! The version, told to people and tools in one shape everywhere (process-model 1.2, show-commands 5.1).

/// The release of Pgpool-II whose interfaces this program has. Tools parse the number.
pub const VERSION: &str = "4.7.2";
/// Code name, as the original has one per release; ours tells which program it is.
pub const CODE_NAME: &str = "ferroboshi";

/// Version and code name: `4.7.2 (ferroboshi)`.
pub fn text() -> String {
    format!("{VERSION} ({CODE_NAME})")
}
