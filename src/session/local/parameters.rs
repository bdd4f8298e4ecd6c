//! PGPOOL SET and RESET: parameters of one session (config 8).
//!
//! The session's settings are a changed copy of the file's. A reload changes the file's; what the session has changed
//! itself stays, and RESET gives it the file's value of that moment. All of it ends with the session.

use super::{Outcome, Session};
use crate::config::Settings;
use crate::report::{self, Result};
use crate::session::Context;
use crate::session::message_log::MessageLog;
use std::sync::Arc;

impl Session<'_> {
    /// PGPOOL SET; no `value`: DEFAULT.
    pub(super) fn set_parameter(&mut self, name: &str, value: Option<&str>) -> Result<Outcome> {
        let (settings, remarks) = match value {
            Some(value) => self.context.settings.set_in_session(name, value)?,
            None => (self.file_value(name)?, Vec::new()),
        };
        self.put_in_force(settings);
        remarks.iter().for_each(|remark| self.note(remark));
        Ok(Outcome::Done("SET"))
    }

    /// PGPOOL RESET of one parameter, or of `all`.
    pub(super) fn reset_parameter(&mut self, name: &str) -> Result<Outcome> {
        if name == "all" {
            self.put_in_force(Settings::clone(&self.context.file_settings));
            return Ok(Outcome::Done("RESET"));
        }
        let settings = self.file_value(name)?;
        self.put_in_force(settings);
        Ok(Outcome::Done("SET"))
    }

    fn file_value(&self, name: &str) -> Result<Settings> {
        self.context.settings.reset_in_session(name, &self.context.file_settings)
    }

    fn put_in_force(&mut self, settings: Settings) {
        self.context.put_in_force(Arc::new(settings));
        self.message_log.finish();
        self.message_log = MessageLog::new(&self.context.settings);
    }
}

impl Context {
    fn put_in_force(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
        report::configure(self.settings.log_settings());
    }

    /// The session has ended: the next one begins with the file's values.
    pub(in crate::session) fn forget_session_parameters(&mut self) {
        if !Arc::ptr_eq(&self.settings, &self.file_settings) {
            self.put_in_force(Arc::clone(&self.file_settings));
        }
    }

    /// The file has changed; what the session has changed stays as it is.
    pub(in crate::session) fn take_file_settings(&mut self, file: Settings) {
        let file = Arc::new(file);
        let changed = !Arc::ptr_eq(&self.settings, &self.file_settings);
        let settings = match changed.then(|| file.with_session_changes(&self.settings, &self.file_settings)) {
            Some(settings) => Arc::new(settings),
            None => Arc::clone(&file),
        };
        self.file_settings = file;
        self.put_in_force(settings);
    }
}
