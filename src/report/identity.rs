//! Who is speaking: process and session names for the log line prefix (process-model 5, 10.2).
//!
//! One value per process by its nature; written by whoever the process is, read only by the log line. Names come from
//! clients and become part of log lines, so they are kept [`printable`].

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
    IDENTITY.lock().session = Some((printable(user), printable(database)));
}

/// Sets `%a` to the client's application_name.
pub fn set_application_name(name: &str) {
    IDENTITY.lock().application = (!name.is_empty()).then(|| printable(name));
}

/// The session is over: `%a`, `%u` and `%d` are the process's own again.
pub fn clear_session() {
    super::finish();
    let mut identity = IDENTITY.lock();
    identity.session = None;
    identity.application = None;
}

pub(super) fn current() -> Identity {
    IDENTITY.lock().clone()
}

/// `name` with a question mark for every character that could end a line or steer a terminal.
fn printable(name: &str) -> String {
    let steers = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    name.replace(steers, "?")
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn a_name_cannot_begin_a_line_of_its_own() {
        assert_eq!(
            printable("bob\r\n2026-01-01: FATAL:  \u{1b}[31mforged\u{2028}\u{85}"),
            "bob??2026-01-01: FATAL:  ?[31mforged??"
        );
        assert_eq!(printable("J\u{f6}rg's \u{65e5}\u{672c}"), "J\u{f6}rg's \u{65e5}\u{672c}");
    }
}
