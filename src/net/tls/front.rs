//! TLS towards clients as one process has it.
//!
//! The parent makes it before the first fork; children inherit it. After a reload the parent publishes the material that
//! it has proved to be good, and each worker makes its own of it when the next client asks for TLS. Keys of session
//! tickets are the same in all of them for as long as pgpool runs, so that a client can resume its session with any worker.

use super::{Acceptor, Material, PassPhrase};
use crate::config::Settings;
use crate::report::{Report, Result};
use crate::state::Shared;
use crate::sys::tls::TICKET_KEYS;
use openssl::rand::rand_bytes;
use std::sync::Arc;

/// The acceptor in force.
#[derive(Clone)]
pub struct Front {
    acceptor: Option<Acceptor>,
    tickets: Arc<[u8; TICKET_KEYS]>,
    /// Which of the published materials it is of.
    generation: u64,
}

impl Front {
    /// Without TLS; with new keys for session tickets.
    ///
    /// # Errors
    /// OpenSSL has no random bytes.
    pub fn new() -> Result<Self> {
        let mut tickets = [0; TICKET_KEYS];
        rand_bytes(&mut tickets)
            .map_err(|errors| Report::fatal("OpenSSL has no random bytes").detail(errors.to_string()))?;
        Ok(Self { acceptor: None, tickets: Arc::new(tickets), generation: 0 })
    }

    /// Makes the first acceptor by `settings`, and waits for the pass phrase if it needs one; with `ssl = off` there is none.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin(&mut self, settings: &Settings) -> Result<()> {
        if !settings.ssl {
            return Ok(());
        }
        let mut material = Material::read(settings)?;
        if material.is_locked() {
            material.unlock(&PassPhrase::ask(&settings.ssl_passphrase_command)?.wait()?)?;
        }
        self.acceptor = Some(Acceptor::new(&material, &self.tickets)?);
        Ok(())
    }

    /// Makes the acceptor of new material, whose key is open, and publishes it for the workers. For the parent.
    ///
    /// # Errors
    /// It cannot be used; the one in force stays.
    pub fn renew(&mut self, material: &Material, shared: &Shared) -> Result<()> {
        let acceptor = Acceptor::new(material, &self.tickets)?;
        if !shared.publish_client_tls(&material.to_bytes()) {
            return Err(Report::warning("the files for TLS are too long to be handed to running processes")
                .hint("Look at ssl_ca_cert and ssl_crl_file, or restart pgpool."));
        }
        (self.acceptor, self.generation) = (Some(acceptor), shared.client_tls_generation());
        Ok(())
    }

    /// What accepts TLS now. For workers.
    pub fn acceptor(&mut self, shared: &Shared) -> Option<&Acceptor> {
        if shared.client_tls_generation() != self.generation {
            let (generation, material) = shared.published_client_tls();
            let material = Material::from_bytes(&material);
            match material.map(|material| Acceptor::new(&material, &self.tickets)) {
                Some(Ok(acceptor)) => (self.acceptor, self.generation) = (Some(acceptor), generation),
                // It is tried again with the next client: nothing is wrong with the material itself.
                Some(Err(report)) => report.log(),
                None => Report::warning("what the parent has published for TLS cannot be read").log(),
            }
        }
        self.acceptor.as_ref()
    }
}
