//! What a worker knows of who may come in.

use crate::auth::hba::{Client, Names, Record, Rules, Sources};
use crate::auth::passwords::Passwords;
use crate::config::Settings;
use crate::net::{Deadline, names};
use crate::report::Report;
use crate::state::Shared;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// The rules of pool_hba.conf in force, and the passwords of pool_passwd.
pub(super) struct Gate {
    rules: Option<Arc<Rules>>,
    pub passwords: Passwords,
}

/// What a rule asks for, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Ruling {
    pub record: Record,
    pub file: PathBuf,
}

impl Gate {
    /// With the rules that the parent has read.
    pub fn new(settings: &Settings, rules: Option<Arc<Rules>>) -> Self {
        Self { rules, passwords: Passwords::new(settings) }
    }

    /// Takes the rules that the parent has published since. Those that it could not use it has not published.
    pub fn reload(&mut self, settings: &Settings, shared: &Shared) {
        let Some(sources) = Sources::from_bytes(&shared.published_rules()) else { return };
        let Some(path) = sources.main() else { return };
        match Rules::from_sources(path, settings.ssl, &sources) {
            Ok(rules) => self.rules = Some(Arc::new(rules)),
            Err(slips) => {
                slips.log();
                Report::warning(format!("\"{}\": the old rules stay in force in this process", path.display()))
                    .hint("The lines before tell why. Correct the file, and reload.")
                    .log();
            }
        }
    }

    /// The rule for this client.
    pub fn rule(&self, client: Client<'_>, deadline: Deadline) -> Option<Ruling> {
        let rules = self.rules.as_ref()?;
        let record = rules.find(client, &mut System { deadline })?;
        Some(Ruling { record: record.clone(), file: rules.file.clone() })
    }

    /// Whether there are any rules.
    pub fn has_rules(&self) -> bool {
        self.rules.is_some()
    }
}

/// The names and interfaces of this system.
struct System {
    deadline: Deadline,
}

impl Names for System {
    fn interfaces(&mut self) -> Vec<(IpAddr, Option<IpAddr>)> {
        names::interfaces()
    }

    fn name(&mut self, address: IpAddr) -> Option<String> {
        names::name(address, self.deadline)
    }

    fn addresses(&mut self, name: &str) -> Vec<IpAddr> {
        names::addresses(name, self.deadline)
    }
}
