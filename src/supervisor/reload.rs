//! SIGHUP: the files are read once and checked here, with all their problems in the log (config 6). A file with errors
//! changes nothing. What is in force then is published in shared memory for the children, so that an edit in between cannot
//! make them differ.

use super::Supervisor;
use crate::auth::hba::Rules;
use crate::auth::passwords;
use crate::backend;
use crate::config::{self, Problems, Settings};
use crate::net::tls::Connector;
use crate::report::{self, Report, Severity};
use crate::state::Shared;
use crate::sys::signal::Signal;
use std::sync::Arc;

/// Rules to be in force, and what is to be published of them.
type Admission = (Option<Arc<Rules>>, Option<Vec<u8>>);

impl Supervisor {
    pub(super) fn reload(&mut self) {
        Report::log_line("reload config files.").log();
        self.service.tell_reloading();
        // What was changed behind our back counts from now on.
        self.shared.relcache().bump();
        if let Err(problems) = self.take_over_files() {
            problems.log(Severity::Warning);
            Report::warning("the configuration was not reloaded; the old one stays in force")
                .hint("Correct the file, see what \"pgpool check\" says about it, and reload again.")
                .log();
        }
        if self.announced {
            self.service.tell_ready(&self.in_one_line());
        }
    }

    fn take_over_files(&mut self) -> Result<(), Problems> {
        let loaded = config::load(&self.files.config)?;
        let cluster = self.shared.nodes().view();
        let is_down = |id: usize| cluster.nodes.get(id).is_none_or(|node| !node.status.is_attached());
        let reloaded = config::reload::reload(&self.settings, &loaded, is_down)?;
        check_servers_tls(&reloaded.settings)?;
        let (rules, sources) = self.admission(&reloaded.settings)?;
        if !self.shared.publish_settings(&reloaded.settings.to_snapshot()) {
            let mut problems = Problems::default();
            let report = Report::error("the settings are too long to be handed to running processes");
            problems.add(report.hint("Shorten the longest lists, or restart pgpool."), None);
            return Err(problems);
        }
        // The length was looked at before: it cannot fail now.
        let _ = sources.is_none_or(|sources| self.shared.publish_rules(&sources));
        reloaded.log.iter().for_each(Report::log);
        passwords::review(&reloaded.settings).iter().for_each(Report::log);
        self.rules = rules;
        self.settings = Arc::new(reloaded.settings);
        report::configure(self.settings.log_settings());
        self.reload_tls();
        self.failover.reload_nodes();
        self.children.signal_all(Signal::SIGHUP);
        if self.announced {
            self.start_health_checks();
        }
        Ok(())
    }

    /// Takes new certificates for clients and servers that connect from now on; those that are connected keep theirs.
    fn reload_tls(&mut self) {
        Connector::warn(&self.settings);
        // Files that were good a moment ago.
        if let Err(report) = backend::configure_tls(&self.settings) {
            Report::warning(report.to_string()).hint(report.hint.unwrap_or_default()).log();
        }
        if self.settings.ssl {
            self.renew_certificates();
        }
    }

    /// The rules of pool_hba.conf from now on: those of the file if they can be used, else the old ones.
    fn admission(&self, settings: &Settings) -> Result<Admission, Problems> {
        if !settings.enable_pool_hba {
            return Ok((None, None));
        }
        let path = self.files.hba.display();
        let slips = match Rules::load(&self.files.hba, settings.ssl) {
            Ok((rules, remarks, sources)) => {
                let sources = sources.to_bytes();
                if Shared::fits(&sources) {
                    remarks.log();
                    return Ok((Some(Arc::new(rules)), Some(sources)));
                }
                Report::warning(format!("\"{path}\" is too long to be handed to running processes"))
                    .hint("Shorten it by groups of users and databases, or restart pgpool.")
                    .log();
                None
            }
            Err(slips) => Some(slips),
        };
        if let Some(slips) = slips {
            slips.log();
        }
        match &self.rules {
            Some(rules) => {
                Report::warning(format!("\"{path}\" was not reloaded; the old rules stay in force"))
                    .hint("The lines before tell why. Correct the file, and reload.")
                    .log();
                Ok((Some(Arc::clone(rules)), None))
            }
            None => {
                let mut problems = Problems::default();
                let report = Report::error(format!("could not load \"{path}\", which enable_pool_hba asks for"));
                problems.add(report.hint("Correct the file, or set enable_pool_hba = off."), None);
                Err(problems)
            }
        }
    }
}

/// Settings by which no server could be connected to are not taken: what is weaker would go on under their name.
fn check_servers_tls(settings: &Settings) -> Result<(), Problems> {
    let Err(report) = backend::check_tls(settings) else { return Ok(()) };
    let mut problems = Problems::default();
    problems.add(report, None);
    Err(problems)
}
