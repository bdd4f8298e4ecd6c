//! Under which key an answer is kept (query-cache 4.1).

use crate::state::Shared;
use crate::wire::startup::{self, Request};
use openssl::sha::Sha256;

/// Stands for all that decides an answer beside statement and data: database, users, and every setting.
pub type Identity = [u8; 16];

/// As whom a session asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identities {
    /// Shared with all sessions of which the server says the same.
    pub common: Identity,
    /// Its own, if it may have settings that the server does not list.
    pub own: Option<Identity>,
}

impl Identities {
    /// As whom its SELECTs are asked. Settings that servers do not list may decide about any of them: not only functions and
    /// views obey them, operators and casts do, too.
    #[inline]
    pub fn mine(&self) -> Identity {
        self.own.unwrap_or(self.common)
    }

    /// The same for a session that is `number` and has settings which the server does not list.
    pub fn apart(self, shared: &Shared, number: (u32, u128)) -> Self {
        Self { own: Some(shared.relcache().fingerprint(&(self.common, number)).bytes()), ..self }
    }
}

/// What a session's server tells of it. All parts have a place of their own, and the settings are all that a user can
/// change, as far as they are not what every server has; only the name of the application and the modes of the
/// transaction decide nothing. Then comes whether it was given settings that are not listed when it began, and last, whether
/// it has temporary types, of tables or others, behind which others may be hidden.
macro_rules! question {
    ($first:literal) => {
        concat!(
            "SELECT ",
            $first,
            "current_user, session_user, pg_catalog.current_database(), \
    pg_catalog.current_setting('role'), (SELECT pg_catalog.string_agg(pg_catalog.concat(\
    pg_catalog.length(name), ' ', name, ' ', pg_catalog.length(setting), ' ', setting, ' ', source), ' ' ORDER BY name) \
    FROM pg_catalog.pg_settings WHERE context OPERATOR(pg_catalog.=) ANY ('{user,superuser,backend,superuser-backend}') \
    AND source OPERATOR(pg_catalog.<>) 'default' AND \
    name OPERATOR(pg_catalog.<>) ALL ('{application_name,transaction_isolation,transaction_read_only,transaction_deferrable}')), \
    EXISTS (SELECT 1 FROM pg_catalog.pg_db_role_setting, LATERAL pg_catalog.unnest(setconfig) AS given(setting) \
    WHERE setdatabase OPERATOR(pg_catalog.=) ANY (SELECT 0::pg_catalog.oid UNION ALL \
    SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) \
    AND setrole OPERATOR(pg_catalog.=) ANY (SELECT 0::pg_catalog.oid UNION ALL \
    SELECT oid FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) session_user) \
    AND pg_catalog.split_part(given.setting, '=', 1) OPERATOR(pg_catalog.~~) '%.%'), \
    EXISTS (SELECT 1 FROM pg_catalog.pg_type WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())"
        )
    };
}

/// The question whose answer makes a session's identity. `is_shared`: the cache may be that of other pgpools, too, perhaps
/// with other servers; then also which cluster it is counts.
pub fn identity_query(is_shared: bool) -> &'static str {
    if is_shared {
        question!("(SELECT system_identifier FROM pg_catalog.pg_control_system()), ")
    } else {
        question!("")
    }
}

/// The identities of the session `number` by what its server has answered to [`identity_query`], and the startup packet,
/// which may hold settings that the server does not list. `None`: what names mean in this session they mean nowhere else.
pub fn identities(
    shared: &Shared,
    answer: &[Option<String>],
    startup: &[u8],
    number: (u32, u128),
) -> Option<Identities> {
    let [.., was_given_custom, has_temporary] = answer else { return None };
    if has_temporary.as_deref() != Some("f") {
        return None;
    }
    let parameters = match startup::read(startup) {
        Ok(Request::Startup(startup)) => startup.parameters,
        _ => vec![(startup, &[][..])],
    };
    let decide = parameters.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"application_name"));
    let parts = answer.iter().map(|part| part.as_deref().map(str::as_bytes));
    let common = digest(parts.chain(decide.flat_map(|(name, value)| [Some(*name), Some(*value)])));
    let identities = Identities { common, own: None };
    Some(if was_given_custom.as_deref() == Some("f") { identities } else { identities.apart(shared, number) })
}

/// The same for the same parts, whichever pgpool asks.
fn digest<'p>(parts: impl Iterator<Item = Option<&'p [u8]>>) -> Identity {
    let mut digest = Sha256::new();
    for part in parts {
        // The length sets parts apart, and those that are null.
        digest.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        digest.update(part.unwrap_or_default());
    }
    let mut identity = Identity::default();
    identity.copy_from_slice(&digest.finish()[..size_of::<Identity>()]);
    identity
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
