//! Under which key an answer is kept (query-cache 4.1).

use crate::wire::startup::{self, Request};
use openssl::sha::Sha256;

/// Stands for all that decides an answer beside statement and data: database, users, and every setting.
pub type Identity = [u8; 16];

/// What a session's server tells of it. First comes whether it has temporary relations, behind which others may be hidden.
/// All parts have a place of their own, and the settings are all that a user can change, as far as they are not what every
/// server has; only the name of the application and the modes of the transaction decide nothing.
macro_rules! question {
    ($more:literal) => {
        concat!(
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class \
             WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()), \
             current_user, session_user, pg_catalog.current_database(), pg_catalog.current_setting('role'), \
             (SELECT pg_catalog.string_agg(pg_catalog.concat(\
             pg_catalog.length(name), ' ', name, ' ', pg_catalog.length(setting), ' ', setting), ' ' ORDER BY name) \
             FROM pg_catalog.pg_settings WHERE context OPERATOR(pg_catalog.=) ANY ('{user,superuser,backend,superuser-backend}') \
             AND source OPERATOR(pg_catalog.<>) 'default' AND name OPERATOR(pg_catalog.<>) \
             ALL ('{application_name,transaction_isolation,transaction_read_only,transaction_deferrable}'))",
            $more
        )
    };
}

/// The question whose answer makes a session's identity. `shared`: other pgpools use the cache, too, perhaps with other
/// servers; then also which cluster it is counts.
pub fn identity_query(shared: bool) -> &'static str {
    if shared { question!(", (SELECT system_identifier FROM pg_catalog.pg_control_system())") } else { question!("") }
}

/// The identity of a session by what its server has answered to [`identity_query`], and the startup packet, which may hold
/// settings that the server does not list. `None`: what names mean in this session they mean nowhere else.
pub fn identity(answer: &[Option<String>], startup: &[u8]) -> Option<Identity> {
    if answer.first()?.as_deref() != Some("f") {
        return None;
    }
    let parameters = match startup::read(startup) {
        Ok(Request::Startup(startup)) => startup.parameters,
        _ => vec![(startup, &[][..])],
    };
    let mut digest = Sha256::new();
    let mut add = |part: Option<&[u8]>| {
        // The length sets the parts apart, and those that are null.
        digest.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        digest.update(part.unwrap_or_default());
    };
    answer.iter().for_each(|part| add(part.as_deref().map(str::as_bytes)));
    for (name, value) in parameters.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"application_name")) {
        add(Some(name));
        add(Some(value));
    }
    digest.finish().first_chunk().copied()
}

/// Where the text begins in a key. In one of the extended protocol it ends with a zero byte.
pub const TEXT_AT: usize = size_of::<Identity>() + 1;

/// The key of a Query.
pub fn simple_key(identity: &Identity, text: &[u8], key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(identity);
    key.push(b'Q');
    key.extend_from_slice(text);
}

/// The key of an Execute. `parsed`: what Parse says behind the name, the text and the types of its parameters; `bound`: what
/// Bind says behind the names, values and all formats. Each tells itself where it ends.
pub fn extended_key(identity: &Identity, parsed: &[u8], bound: &[u8], key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(identity);
    key.push(b'E');
    key.extend_from_slice(parsed);
    key.extend_from_slice(bound);
}
