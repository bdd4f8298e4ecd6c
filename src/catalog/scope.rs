//! For whom a fact holds.

use crate::backend::Key;
use crate::state::{Fingerprint, Shared};
use crate::wire::startup::{self, Request};

/// Stands for everything but the name that decides what a name means at the beginning of a session: database, user, and
/// what the client has set in its startup packet.
pub type Scope = Fingerprint;

/// Parameters of a startup packet, in lower case and order, that have no part in that.
const INDIFFERENT: [&str; 8] = [
    "application_name",
    "client_encoding",
    "datestyle",
    "extra_float_digits",
    "intervalstyle",
    "lock_timeout",
    "statement_timeout",
    "timezone",
];

/// The scope of sessions with this pool key.
pub fn scope(shared: &Shared, key: &Key) -> Scope {
    let parameters = match startup::read(&key.startup) {
        Ok(Request::Startup(startup)) => startup.parameters,
        _ => vec![(&key.startup[..], &[][..])],
    };
    let decides =
        |name: &[u8]| !INDIFFERENT.iter().any(|indifferent| name.eq_ignore_ascii_case(indifferent.as_bytes()));
    let parameters: Vec<_> = parameters.into_iter().filter(|(name, _)| decides(name)).collect();
    shared.relcache().fingerprint(&(&key.user, &key.database, parameters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Limits;
    use crate::wire::write;

    #[test]
    fn what_a_name_means_does_not_depend_on_the_name_of_the_application() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let of = |user: &str, parameters: &[(&str, &str)]| {
            let mut packet = Vec::new();
            write::startup(&mut packet, &[&[("user", user), ("database", "d")], parameters].concat());
            scope(&shared, &Key { user: user.into(), database: b"d".into(), startup: packet })
        };
        let plain = of("u", &[]);
        assert_eq!(of("u", &[("application_name", "x"), ("TimeZone", "UTC")]), plain);
        for parameter in [("options", "-c search_path=a"), ("search_path", "a"), ("role", "r")] {
            assert_ne!(of("u", &[parameter]), plain, "{parameter:?}");
        }
        assert_ne!(of("v", &[]), plain);
    }
}
