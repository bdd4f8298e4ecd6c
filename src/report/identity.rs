//! Who is speaking: process and session names for the log line prefix (process-model 5, 10.2).
//!
//! One value per process by its nature; written by whoever the process is, read only by the log line. A client chooses
//! its names: control characters in them could forge a line, and are shown as `?`.

use parking_lot::Mutex;

#[derive(Clone, Debug, Default)]
pub(super) struct Identity {
    /// `%a` of the process itself, e.g. `main`, `child`.
    pub process: &'static str,
    /// `%P`, e.g. `MAIN`, `CHILD`.
    pub label: &'static str,
    /// `%a` while a session has an application name.
    pub application: Option<String>,
    /// `%u` and `%d` while there is a session.
    pub session: Option<(String, String)>,
}

static IDENTITY: Mutex<Identity> =
    Mutex::new(Identity { process: "main", label: "MAIN", application: None, session: None });

/// Names this process: `%a` and `%P` of (process-model 5).
pub fn set_process(process: &'static str, label: &'static str) {
    *IDENTITY.lock() = Identity { process, label, application: None, session: None };
}

/// Names the session this process serves: user and database.
pub fn set_session(user: &str, database: &str) {
    IDENTITY.lock().session = Some((shown(user), shown(database)));
}

/// Sets `%a` to the client's application_name.
pub fn set_application_name(name: &str) {
    IDENTITY.lock().application = (!name.is_empty()).then(|| shown(name));
}

/// The session is over: `%a`, `%u` and `%d` are the process's own again.
pub fn clear_session() {
    let mut identity = IDENTITY.lock();
    identity.session = None;
    identity.application = None;
}

pub(super) fn current() -> Identity {
    IDENTITY.lock().clone()
}

fn shown(name: &str) -> String {
    name.replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn names_cannot_break_a_line() {
        assert_eq!(shown("a\nLOG:  \u{e9}\x1b"), "a?LOG:  \u{e9}?");
    }
}
