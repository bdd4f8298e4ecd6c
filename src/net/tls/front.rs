//! TLS towards clients as one process has it.
//!
//! The parent makes it before the first fork; children inherit it. After a reload each worker makes its own when the next
//! client asks for TLS, if the parent has found the files to be good. Keys of session tickets are the same in all of them
//! for as long as pgpool runs, so that a client can resume its session with any worker.

use super::Acceptor;
use crate::config::Settings;
use crate::report::Report;
use crate::sys::tls::TICKET_KEYS;
use openssl::rand::rand_bytes;
use std::sync::Arc;
use std::time::Duration;

/// How long `ssl_passphrase_command` may take at start: somebody may have to be asked.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// The same where clients, and failover, wait for it.
const RELOAD_PATIENCE: Duration = Duration::from_secs(3);

/// The acceptor in force, and what makes the next one.
#[derive(Clone)]
pub struct Front {
    acceptor: Option<Acceptor>,
    tickets: Arc<[u8; TICKET_KEYS]>,
    /// The set of files that it is of, as the parent counts them.
    generation: u64,
    is_due: bool,
}

impl Front {
    /// Without TLS; with new keys for session tickets.
    ///
    /// # Errors
    /// OpenSSL has no random bytes.
    pub fn new() -> Result<Self, Report> {
        let mut tickets = [0; TICKET_KEYS];
        rand_bytes(&mut tickets)
            .map_err(|errors| Report::fatal("OpenSSL has no random bytes").detail(errors.to_string()))?;
        Ok(Self { acceptor: None, tickets: Arc::new(tickets), generation: 0, is_due: false })
    }

    /// Makes the acceptor of `settings`; with `ssl = off` there is none.
    ///
    /// # Errors
    /// It cannot be made; the one in force stays.
    pub fn renew(&mut self, settings: &Settings) -> Result<(), Report> {
        let patience = if self.acceptor.is_some() { RELOAD_PATIENCE } else { START_PATIENCE };
        self.acceptor = settings.ssl.then(|| Acceptor::new(settings, &self.tickets, patience)).transpose()?;
        Ok(())
    }

    /// The acceptor is of this set of files: those who inherit it need not look. For the parent.
    pub fn is_of(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// The parent has found this set of files to be good: the next client gets it.
    pub fn expect(&mut self, generation: u64) {
        self.is_due |= self.generation != generation;
        self.generation = generation;
    }

    /// What accepts TLS now, by `settings` if new files are due. What is wrong with them is logged, and the old ones stay
    /// until the next client: whoever replaces files may not have come to all of them yet.
    pub fn acceptor(&mut self, settings: &Settings) -> Option<&Acceptor> {
        if self.is_due {
            match self.renew(settings) {
                Ok(()) => self.is_due = false,
                Err(report) => Report::warning(report.to_string()).log(),
            }
        }
        self.acceptor.as_ref()
    }
}
