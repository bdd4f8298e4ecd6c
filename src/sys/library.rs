//! Libraries of the system that are loaded when they are needed, so that pgpool is built and runs without them.

use std::ffi::{CStr, c_void};

/// A library that stays loaded until the process ends.
#[derive(Debug)]
pub(super) struct Library(*mut c_void);

impl Library {
    /// Loads the first of these that there is.
    ///
    /// # Errors
    /// None of them can be loaded: what the loader says of the last.
    pub fn load(names: &[&CStr]) -> Result<Self, String> {
        let found = names.iter().find_map(|name| {
            // SAFETY: the name is a C string; what these libraries do when they are loaded is theirs, and they are not
            // loaded by more than one thread.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
            (!handle.is_null()).then_some(Self(handle))
        });
        found.ok_or_else(complaint)
    }

    /// The function of this name.
    ///
    /// # Errors
    /// The library has none.
    ///
    /// # Safety
    /// `F` is the type of a pointer to this very function.
    pub unsafe fn function<F: Copy>(&self, name: &CStr) -> Result<F, String> {
        assert_eq!(size_of::<F>(), size_of::<*mut c_void>(), "F is a pointer");
        // SAFETY: the library is never closed.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        if address.is_null() {
            return Err(complaint());
        }
        // SAFETY: both are pointers, and the caller answers for the type of the function.
        Ok(unsafe { std::mem::transmute_copy(&address) })
    }
}

/// What the loader complained of last.
fn complaint() -> String {
    // SAFETY: the text is the loader's until its next call; it is copied at once.
    unsafe { text(libc::dlerror()) }
}

/// A copy of a C string; empty for a null pointer.
///
/// # Safety
/// `text` is null or a C string.
pub(super) unsafe fn text(text: *const libc::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_library_that_is_there() {
        let library = Library::load(&[c"libnowhere.so.7", c"libc.so.6"]).expect("the C library");
        // SAFETY: that is the type of abs(3).
        let abs = unsafe { library.function::<extern "C" fn(libc::c_int) -> libc::c_int>(c"abs") };
        assert_eq!(abs.expect("abs")(-7), 7);
        // SAFETY: it does not exist.
        let missing = unsafe { library.function::<extern "C" fn()>(c"no_such_function") };
        assert!(missing.is_err_and(|error| error.contains("no_such_function")));
        assert!(Library::load(&[c"libnowhere.so.7"]).is_err_and(|error| error.contains("libnowhere.so.7")));
    }
}
