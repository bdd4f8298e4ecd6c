//! Panics as reports: a fault of ours must reach the log whole, and must not unwind into what a process was forked from.

use super::{Report, Result};
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

static HOOK: Once = Once::new();

thread_local! {
    /// The last panic of guarded work on this thread; `None` while nothing is guarded.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`. A panic inside becomes an ERROR with its text and place, and prints nothing by itself; so does not one
/// that `work` catches on its own.
///
/// # Errors
/// `work` has panicked.
pub fn guarded<R>(work: impl FnOnce() -> R) -> Result<R> {
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !remember(info) {
                others(info);
            }
        }));
    });
    let outer = LAST.replace(Some(String::new()));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    let last = LAST.replace(outer).unwrap_or_default();
    outcome.map_err(|_| {
        Report::error("internal error: this process ends and is replaced")
            .detail(last)
            .hint("This is a fault in pgpool. Please report it with these lines.")
    })
}

/// Keeps the panic's text if it happened in guarded work.
fn remember(info: &PanicHookInfo<'_>) -> bool {
    LAST.with_borrow_mut(|last| match last {
        Some(text) => {
            *text = info.to_string();
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_names_its_place() {
        assert_eq!(guarded(|| 1), Ok(1));
        let report = guarded(|| panic!("no {}", "luck")).unwrap_err();
        let detail = report.detail.unwrap();
        assert!(detail.contains("no luck") && detail.contains(file!()), "{detail}");
    }
}
