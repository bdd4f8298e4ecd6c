//! Where in the source a report was made: the LOCATION line of `log_error_verbosity = verbose` (process-model 10.3).

use std::fmt;
use std::panic::Location;

/// A place in the source. Reports that say the same are equal wherever they were made.
#[derive(Clone, Copy, Debug)]
pub struct Origin(&'static Location<'static>);

impl Origin {
    /// Whoever calls the function that is marked `#[track_caller]` and calls this.
    #[track_caller]
    pub(super) fn here() -> Self {
        Self(Location::caller())
    }
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.file(), self.0.line())
    }
}
