//! Which rule is a client's (auth 3.5 to 3.7, 3.10).

use super::address::{HostName, Names};
use super::record::{Connection, Record, is_group_of_users};
use super::rules::Rules;
use super::token::Token;
use std::net::IpAddr;

/// A client that wants in.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Where it comes from; `None`: a Unix socket.
    pub address: Option<IpAddr>,
    /// Its TLS handshake is complete.
    pub tls: bool,
    /// Who it wants to be.
    pub user: &'a [u8],
    /// The database it wants.
    pub database: &'a [u8],
}

impl Rules {
    /// The first rule that is for this client. `None`: it is not let in.
    pub fn find(&self, client: Client<'_>, names: &mut dyn Names) -> Option<&Record> {
        let mut host = HostName::default();
        self.records.iter().find(|record| record.is_for(client, names, &mut host))
    }
}

impl Record {
    fn is_for(&self, client: Client<'_>, names: &mut dyn Names, host: &mut HostName) -> bool {
        let by_kind = match (self.connection, client.address) {
            (Connection::Local, None) => true,
            (Connection::Host, Some(_)) => true,
            (Connection::HostSsl, Some(_)) => client.tls,
            (Connection::HostNoSsl, Some(_)) => !client.tls,
            _ => false,
        };
        // Names are looked up last: that can take its time.
        by_kind
            && self.is_for_database(client)
            && self.is_for_user(client.user)
            && client.address.is_none_or(|address| self.address.matches(address, names, host))
    }

    /// The first decisive token ends the test.
    fn is_for_database(&self, client: Client<'_>) -> bool {
        let decide = |token: &Token| {
            if token.is("samegroup") || token.is("samerole") {
                return Some(false);
            }
            let same = if token.is("sameuser") {
                client.database == client.user
            } else {
                token.is("all") || token.text == client.database
            };
            same.then_some(true)
        };
        self.databases.iter().find_map(decide).unwrap_or(false)
    }

    fn is_for_user(&self, user: &[u8]) -> bool {
        let decide = |token: &Token| match token {
            token if is_group_of_users(token) => Some(false),
            token => (token.is("all") || token.text == user).then_some(true),
        };
        self.users.iter().find_map(decide).unwrap_or(false)
    }
}
