//! Reading and changing single parameters by name: PGPOOL SHOW, SET and RESET (config 7.3, 7.6, 8).

use super::apply::Positions;
use super::catalogue::{self, Context, Found, LookupError, Target};
use super::cross_check;
use super::problem::Problems;
use super::settings::Settings;
use super::value;
use crate::report::{Report, Result};

/// What PGPOOL SHOW prints instead of a secret.
pub const HIDDEN: &str = "*****";

impl Target {
    /// The value as PGPOOL SHOW prints it: secrets are hidden.
    pub fn show(&self, settings: &Settings) -> String {
        if self.parameter.hidden_value { HIDDEN.to_owned() } else { self.text(settings) }
    }

    /// The value as a file can say it.
    pub fn text(&self, settings: &Settings) -> String {
        self.parameter.value(settings, self.index).text(&self.parameter.kind)
    }
}

impl Settings {
    /// The value of `name`, with the index behind it if it is numbered, as PGPOOL SHOW prints it. A slot that is not
    /// in use has default values.
    pub fn get(&self, name: &str) -> Result<String> {
        match find(name) {
            Ok(target) => Ok(target.show(self)),
            Err(LookupError::Unknown) => Err(Report::error(format!("config variable \"{name}\" not found"))),
            Err(LookupError::OutOfRange { index, last }) => {
                Err(Report::error(format!("invalid index {index} for configuration parameter \"{name}\""))
                    .detail(format!("allowed index is between 0 and {last}")))
            }
            Err(error) => Err(error.report(name)),
        }
    }

    /// Gives `name` the value that `text` says, whatever it takes to change it at run time; gives back remarks.
    /// On an error nothing has changed.
    pub fn assign(&mut self, name: &str, text: &str) -> Result<Vec<Report>> {
        let target = find(name).map_err(|error| error.report(name))?;
        let mut remarks = Vec::new();
        let value = value::parse(name, &target.parameter.kind, text, &mut remarks)?;
        target.parameter.store(self, target.index, value);
        Ok(remarks)
    }

    /// PGPOOL SET: a copy in which a session-level parameter has another value, checked as a whole (config 8.2).
    pub fn set_in_session(&self, name: &str, text: &str) -> Result<(Self, Vec<Report>)> {
        session_level(name)?;
        let mut changed = self.clone();
        let remarks = changed.assign(name, text)?;
        let mut problems = Problems::default();
        cross_check::check(&changed, None, &Positions::default(), &mut problems);
        match problems.iter().find(|problem| problem.is_error()) {
            Some(problem) => Err(problem.report.clone()),
            None => Ok((changed, remarks)),
        }
    }

    /// PGPOOL RESET: a copy in which a session-level parameter has its value in `of_file` again (config 8.4).
    pub fn reset_in_session(&self, name: &str, of_file: &Self) -> Result<Self> {
        let target = session_level(name)?;
        let mut changed = self.clone();
        target.parameter.store(&mut changed, target.index, target.parameter.value(of_file, target.index));
        Ok(changed)
    }

    /// A copy of these settings of a file in which the session-level parameters that differ between `session` and
    /// `of_file` have the session's values.
    #[must_use]
    pub fn with_session_changes(&self, session: &Self, of_file: &Self) -> Self {
        let mut changed = self.clone();
        for parameter in catalogue::PARAMETERS.iter().filter(|parameter| parameter.context == Context::Session) {
            let value = parameter.value(session, None);
            if value != parameter.value(of_file, None) {
                parameter.store(&mut changed, None, value);
            }
        }
        changed
    }
}

/// Resolves a name; a former name means its successor.
fn find(name: &str) -> std::result::Result<Target, LookupError> {
    match catalogue::find(name, 0)? {
        Found::Current(target) | Found::Alias(target, _) => Ok(target),
        Found::Old(..) => Err(LookupError::Unknown),
    }
}

/// The parameter, if a session may change it (config 5.1).
fn session_level(name: &str) -> Result<Target> {
    let target = find(name).map_err(|error| error.report(name))?;
    if target.parameter.context == Context::Session {
        return Ok(target);
    }
    Err(Report::error(format!("invalid Context, value for parameter \"{name}\" cannot be changed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_files_say_them() {
        let mut settings = Settings::default();
        let cases = [
            ("backend_weight0", "1.5", "1.5"),
            ("backend_hostname0", "db1", "db1"),
            ("backend_flag0", "ALWAYS_PRIMARY", "ALLOW_TO_FAILOVER|ALWAYS_PRIMARY"),
            ("log_file_mode", "0640", "0640"),
            ("unix_socket_permissions", "0700", "0700"),
            ("health_check_period", "120", "2min"),
            ("log_rotation_size", "10240", "10MB"),
            ("log_min_messages", "DEBUG", "debug2"),
            ("reset_query_list", " ABORT ;DISCARD ALL", " ABORT ;DISCARD ALL"),
            ("SR_check_password", "secret", HIDDEN),
            ("delegate_IP", "10.0.0.1", "10.0.0.1"),
        ];
        for (name, text, shown) in cases {
            settings.assign(name, text).unwrap();
            assert_eq!(settings.get(name).unwrap(), shown, "{name}");
        }
        assert_eq!(settings.health_check_period, 120);
        assert_eq!(settings.nodes[0].weight, 1.5);
        assert_eq!(settings.get("delegate_ip").unwrap(), "10.0.0.1");
        assert_eq!(settings.get("backend_port77").unwrap(), "0");
        assert_eq!(settings.get("nonsense").unwrap_err().message, "config variable \"nonsense\" not found");
        let error = settings.get("backend_port128").unwrap_err();
        assert_eq!(error.message, "invalid index 128 for configuration parameter \"backend_port128\"");
        assert_eq!(error.detail.as_deref(), Some("allowed index is between 0 and 127"));
    }

    #[test]
    fn a_session_changes_session_level_parameters_only() {
        let file = Settings { client_idle_limit: 60, ..Settings::default() };
        let (changed, _) = file.set_in_session("client_idle_limit", "20min").unwrap();
        assert_eq!((file.client_idle_limit, changed.client_idle_limit), (60, 1200));
        assert_eq!(changed.reset_in_session("client_idle_limit", &file).unwrap().client_idle_limit, 60);
        let reloaded = Settings { client_idle_limit: 90, log_statement: true, ..Settings::default() };
        let kept = reloaded.with_session_changes(&changed, &file);
        assert_eq!((kept.client_idle_limit, kept.log_statement), (1200, true));
        let error = file.set_in_session("port", "9998").unwrap_err();
        assert_eq!(error.message, "invalid Context, value for parameter \"port\" cannot be changed");
        let error = file.set_in_session("nonsense", "1").unwrap_err();
        assert_eq!(error.message, "unrecognized configuration parameter \"nonsense\"");
    }
}
