//! New certificates for clients while pgpool runs (auth 17.3, 17.4): read, proved and published by the parent.
//!
//! The command for the pass phrase is a child whose end is an event, so nobody waits for it: what was in force stays until
//! then. Files and parameters count as they were when the reload was asked for.

use super::Supervisor;
use super::children::{Dead, Role, ScriptKind};
use crate::net::Deadline;
use crate::net::tls::{Material, PassPhrase};
use crate::report::{Report, Result, Severity};

/// Material whose key waits for its pass phrase.
pub(super) struct Renewal {
    material: Material,
    asked: PassPhrase,
}

impl Supervisor {
    /// SIGHUP. What cannot be used changes nothing.
    pub(super) fn renew_certificates(&mut self) {
        Report::log_line("reload SSL certificates.").log();
        // What is still asked for is for files that do not count any more.
        self.end_renewal();
        if let Err(report) = self.begin_renewal() {
            not_renewed(report);
        }
    }

    fn begin_renewal(&mut self) -> Result<()> {
        let material = Material::read(&self.settings)?;
        if !material.is_locked() {
            return self.front.renew(&material, &self.shared);
        }
        let asked = PassPhrase::ask(&self.settings.ssl_passphrase_command)?;
        self.children.add(asked.pid(), Role::Script(ScriptKind::PassPhrase));
        self.renewal = Some(Renewal { material, asked });
        Ok(())
    }

    /// The command for a pass phrase has ended, perhaps one that nobody waits for any more.
    pub(super) fn pass_phrase_ended(&mut self, dead: &Dead) {
        let Some(renewal) = self.renewal.take_if(|renewal| renewal.asked.pid() == dead.pid) else { return };
        let (how, is_success) = dead.end.told();
        let renewed = if is_success { self.end_with(renewal) } else { Err(PassPhrase::failed(&format!("It {how}."))) };
        if let Err(report) = renewed {
            not_renewed(report);
        }
    }

    fn end_with(&mut self, Renewal { mut material, asked }: Renewal) -> Result<()> {
        material.unlock(&asked.told()?)?;
        self.front.renew(&material, &self.shared)
    }

    pub(super) fn renewal_deadline(&self) -> Deadline {
        self.renewal.as_ref().map_or(Deadline::NEVER, |renewal| renewal.asked.deadline())
    }

    /// Does not wait any longer for a command that takes too long.
    pub(super) fn end_late_renewal(&mut self) {
        if self.renewal_deadline().passed() {
            self.end_renewal();
            not_renewed(PassPhrase::too_late());
        }
    }

    /// Nobody waits for the pass phrase any more.
    pub(super) fn end_renewal(&mut self) {
        if let Some(renewal) = self.renewal.take() {
            renewal.asked.end();
        }
    }
}

fn not_renewed(report: Report) {
    Report { severity: Severity::Warning, ..report }.log();
    Report::warning("SSL certificates were not reloaded; what was in force stays")
        .hint("Correct the files or parameters, and reload again.")
        .log();
}
