//! LDAP: the functions of OpenLDAP's library that binding and searching need.
//!
//! The library reads its own configuration (ldap.conf, `LDAPTLS_...`), resolves names, and waits: only a process that exists
//! for nothing else may call it.

use super::library::{Library, text};
use libc::{c_char, c_int, c_ulong, c_void, timeval};
use std::ffi::{CStr, CString};
use std::fmt;
use std::ptr::{null, null_mut};
use std::time::Duration;

/// The most entries that a search returns; one that would return more fails with [`Error::too_many`].
pub const MAX_ENTRIES: usize = 100;

const SUCCESS: c_int = 0;
const SIZE_LIMIT_EXCEEDED: c_int = 4;
const REFERRALS: c_int = 0x0008;
const PROTOCOL_VERSION: c_int = 0x0011;
const DIAGNOSTIC_MESSAGE: c_int = 0x0032;
const TIMEOUT: c_int = 0x5002;
const NETWORK_TIMEOUT: c_int = 0x5005;

/// How much of the directory below an entry is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The entry itself.
    Base = 0,
    /// The entries right below.
    One = 1,
    /// All of it.
    Subtree = 2,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    code: c_int,
    text: String,
    /// What the server says about it; empty: nothing.
    pub diagnostics: String,
}

impl Error {
    /// The server cannot be spoken to, or is not able to answer: another one may be.
    pub fn is_of_server(&self) -> bool {
        // Server down, timeout, connect error (TLS, too); busy, unavailable.
        matches!(self.code, -1 | -5 | -11 | 51 | 52)
    }

    /// There are more than [`MAX_ENTRIES`].
    pub fn too_many(&self) -> bool {
        self.code == SIZE_LIMIT_EXCEEDED
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// OpenLDAP's library.
pub struct Ldap {
    functions: Functions,
}

/// A connection to one server; closed when dropped.
pub struct Connection<'a> {
    ldap: &'a Ldap,
    handle: *mut Handle,
}

impl Ldap {
    /// Loads it.
    ///
    /// # Errors
    /// The system has none.
    pub fn load() -> Result<Self, String> {
        let names = [c"libldap.so.2", c"libldap-2.5.so.0", c"libldap_r-2.4.so.2", c"libldap-2.4.so.2"];
        Ok(Self { functions: Functions::load(&Library::load(&names)?)? })
    }

    /// Prepares a connection to `uri`, which is made by the first request. Each step of it may take `limit`. Referrals to
    /// other servers are not followed: the library would ask them as nobody and in clear, and take their word.
    ///
    /// # Errors
    /// A malformed `uri`; out of memory.
    pub fn connect(&self, uri: &CStr, limit: Duration) -> Result<Connection<'_>, Error> {
        let mut handle = null_mut();
        // SAFETY: the string lives through the call, and `handle` is ours.
        self.check(unsafe { (self.functions.initialize)(&raw mut handle, uri.as_ptr()) }, null_mut())?;
        let connection = Connection { ldap: self, handle };
        connection.set(PROTOCOL_VERSION, &3_i32)?;
        connection.set_off(REFERRALS)?;
        let limit = timeval {
            tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_usec: limit.subsec_micros().into(),
        };
        connection.set(NETWORK_TIMEOUT, &limit)?;
        connection.set(TIMEOUT, &limit)?;
        Ok(connection)
    }

    /// The domain in the `dc` parts of a name.
    pub fn domain_of(&self, dn: &CStr) -> Option<CString> {
        let mut domain = null_mut();
        // SAFETY: the string lives through the call; the result is a new string of the library's.
        let code = unsafe { (self.functions.dn_to_domain)(dn.as_ptr(), &raw mut domain) };
        self.take(code, domain)
    }

    /// The servers of a domain, by the name service: `host:port`, separated by blanks.
    pub fn servers_of(&self, domain: &CStr) -> Option<CString> {
        let mut hosts = null_mut();
        // SAFETY: as above.
        let code = unsafe { (self.functions.domain_to_hosts)(domain.as_ptr(), &raw mut hosts) };
        self.take(code, hosts)
    }

    /// Copies a string that the library has made, and frees it.
    fn take(&self, code: c_int, made: *mut c_char) -> Option<CString> {
        if made.is_null() {
            return None;
        }
        // SAFETY: a C string of the library's own, which is not used after it was freed.
        let copy = unsafe {
            let copy = CStr::from_ptr(made).to_owned();
            (self.functions.free_memory)(made.cast());
            copy
        };
        (code == SUCCESS && !copy.is_empty()).then_some(copy)
    }

    fn check(&self, code: c_int, handle: *mut Handle) -> Result<(), Error> {
        if code == SUCCESS {
            return Ok(());
        }
        let mut said: *mut c_char = null_mut();
        if !handle.is_null() {
            // SAFETY: an open handle; this option is a string that the caller frees.
            unsafe { (self.functions.get_option)(handle, DIAGNOSTIC_MESSAGE, (&raw mut said).cast()) };
        }
        let diagnostics = self.take(SUCCESS, said).map(|said| said.to_string_lossy().into_owned()).unwrap_or_default();
        // SAFETY: the text is a constant of the library's.
        Err(Error { code, text: unsafe { text((self.functions.error_text)(code)) }, diagnostics })
    }
}

impl Connection<'_> {
    /// Goes on by TLS; what is checked of the server's certificate is up to ldap.conf.
    ///
    /// # Errors
    /// The server cannot be reached, has no TLS, or its certificate is not trusted.
    pub fn start_tls(&self) -> Result<(), Error> {
        // SAFETY: an open handle; no controls.
        self.check(unsafe { (self.ldap.functions.start_tls)(self.handle, null_mut(), null_mut()) })
    }

    /// Becomes `dn` by a simple bind. With both empty: anybody.
    ///
    /// # Errors
    /// The server cannot be reached, or the password is wrong.
    pub fn bind(&self, dn: &CStr, password: &[u8]) -> Result<(), Error> {
        let mut credentials =
            Value { length: password.len() as c_ulong, bytes: password.as_ptr().cast_mut().cast::<c_char>() };
        // SAFETY: an open handle; name and password live through the call and are only read; a null mechanism is a simple
        // bind; neither controls nor an answer.
        self.check(unsafe {
            (self.ldap.functions.bind)(
                self.handle,
                dn.as_ptr(),
                null(),
                &raw mut credentials,
                null_mut(),
                null_mut(),
                null_mut(),
            )
        })
    }

    /// The names of the entries below `base` that match `filter`.
    ///
    /// # Errors
    /// The server cannot be reached, or does not take the search.
    pub fn search(&self, base: &CStr, scope: Scope, filter: &CStr) -> Result<Vec<CString>, Error> {
        let functions = &self.ldap.functions;
        // No attributes.
        let mut attributes = [c"1.1".as_ptr().cast_mut(), null_mut()];
        let mut result = null_mut();
        // SAFETY: an open handle; strings and list live through the call and are only read; the time limit is the
        // connection's; `result` is ours.
        let code = unsafe {
            (functions.search)(
                self.handle,
                base.as_ptr(),
                scope as c_int,
                filter.as_ptr(),
                attributes.as_mut_ptr(),
                0,
                null_mut(),
                null_mut(),
                null_mut(),
                MAX_ENTRIES as c_int,
                &raw mut result,
            )
        };
        let mut names = Vec::new();
        // SAFETY: the result is the library's, entries live as long as it does, and each name is the library's to free.
        unsafe {
            let mut entry = if result.is_null() { null_mut() } else { (functions.first_entry)(self.handle, result) };
            while !entry.is_null() {
                names.push(self.ldap.take(SUCCESS, (functions.name_of)(self.handle, entry)).unwrap_or_default());
                entry = (functions.next_entry)(self.handle, entry);
            }
            if !result.is_null() {
                (functions.free_message)(result);
            }
        }
        self.check(code).map(|()| names)
    }

    /// `T` is the type of this option.
    fn set<T>(&self, option: c_int, value: &T) -> Result<(), Error> {
        // SAFETY: an open handle; the library copies the value, and the callers here give each option its type.
        match unsafe { (self.ldap.functions.set_option)(self.handle, option, (&raw const *value).cast()) } {
            SUCCESS => Ok(()),
            code => self.check(code),
        }
    }

    /// Turns off a switch.
    fn set_off(&self, option: c_int) -> Result<(), Error> {
        // SAFETY: an open handle; the value of a switch is a pointer that is compared, never followed: null is off.
        self.check(unsafe { (self.ldap.functions.set_option)(self.handle, option, null()) })
    }

    fn check(&self, code: c_int) -> Result<(), Error> {
        self.ldap.check(code, self.handle)
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        // SAFETY: an open handle that is not used any more.
        unsafe { (self.ldap.functions.unbind)(self.handle, null_mut(), null_mut()) };
    }
}

/// `LDAP`, `LDAPMessage`, `LDAPControl`
enum Handle {}
enum Message {}
enum Control {}

/// `struct berval`
#[repr(C)]
struct Value {
    length: c_ulong,
    bytes: *mut c_char,
}

type Controls = *mut *mut Control;

struct Functions {
    initialize: unsafe extern "C" fn(*mut *mut Handle, *const c_char) -> c_int,
    set_option: unsafe extern "C" fn(*mut Handle, c_int, *const c_void) -> c_int,
    get_option: unsafe extern "C" fn(*mut Handle, c_int, *mut c_void) -> c_int,
    start_tls: unsafe extern "C" fn(*mut Handle, Controls, Controls) -> c_int,
    bind: unsafe extern "C" fn(
        *mut Handle,
        *const c_char,
        *const c_char,
        *mut Value,
        Controls,
        Controls,
        *mut *mut Value,
    ) -> c_int,
    search: unsafe extern "C" fn(
        *mut Handle,
        *const c_char,
        c_int,
        *const c_char,
        *mut *mut c_char,
        c_int,
        Controls,
        Controls,
        *mut timeval,
        c_int,
        *mut *mut Message,
    ) -> c_int,
    first_entry: unsafe extern "C" fn(*mut Handle, *mut Message) -> *mut Message,
    next_entry: unsafe extern "C" fn(*mut Handle, *mut Message) -> *mut Message,
    name_of: unsafe extern "C" fn(*mut Handle, *mut Message) -> *mut c_char,
    free_message: unsafe extern "C" fn(*mut Message) -> c_int,
    free_memory: unsafe extern "C" fn(*mut c_void),
    unbind: unsafe extern "C" fn(*mut Handle, Controls, Controls) -> c_int,
    error_text: unsafe extern "C" fn(c_int) -> *const c_char,
    dn_to_domain: unsafe extern "C" fn(*const c_char, *mut *mut c_char) -> c_int,
    domain_to_hosts: unsafe extern "C" fn(*const c_char, *mut *mut c_char) -> c_int,
}

impl Functions {
    fn load(library: &Library) -> Result<Self, String> {
        // SAFETY: the types are those of <ldap.h>.
        unsafe {
            Ok(Self {
                initialize: library.function(c"ldap_initialize")?,
                set_option: library.function(c"ldap_set_option")?,
                get_option: library.function(c"ldap_get_option")?,
                start_tls: library.function(c"ldap_start_tls_s")?,
                bind: library.function(c"ldap_sasl_bind_s")?,
                search: library.function(c"ldap_search_ext_s")?,
                first_entry: library.function(c"ldap_first_entry")?,
                next_entry: library.function(c"ldap_next_entry")?,
                name_of: library.function(c"ldap_get_dn")?,
                free_message: library.function(c"ldap_msgfree")?,
                free_memory: library.function(c"ldap_memfree")?,
                unbind: library.function(c"ldap_unbind_ext_s")?,
                error_text: library.function(c"ldap_err2string")?,
                dn_to_domain: library.function(c"ldap_dn2domain")?,
                domain_to_hosts: library.function(c"ldap_domain2hostlist")?,
            })
        }
    }
}
