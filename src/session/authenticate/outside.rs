//! Clients of whom PAM or a directory decides (auth 20, 21).

use super::super::client::Client;
use super::super::context::Context;
use super::super::end::End;
use super::super::startup::timed_out;
use super::dialogue::Dialogue;
use super::{Admitted, Applicant, Decided, challenge};
use crate::auth::hba::{Ldap, Pam};
use crate::auth::outside::{Errand, Event, Judge, Request};
use crate::auth::{Credential, Secret};
use crate::net::{Deadline, Peer};
use crate::report::{Report, SqlState};
use std::io;
use std::time::{Duration, Instant};

/// How long they may take in all, without the time in which the client types, where authentication_timeout sets no limit.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who is asked, and what becomes of the password.
struct Case<'a> {
    name: &'a str,
    /// What the client hears when it is refused.
    refusal: &'a str,
    /// The password of `ldapbinddn`.
    password: &'a Secret,
    use_for_servers: bool,
}

/// Time that is used up bit by bit: whoever goes on talking gets no more for it.
struct Allowance(Duration);

impl Allowance {
    /// Does `work`, which may take what is left.
    fn spend<R>(&mut self, work: impl FnOnce(Duration) -> R) -> R {
        let since = Instant::now();
        let done = work(self.0);
        self.0 = self.0.saturating_sub(since.elapsed());
        done
    }
}

impl Decided<'_> {
    /// Has PAM decide. The client is asked when a module asks.
    pub(super) fn ask_pam(
        &self,
        pam: &Pam,
        context: &Context,
        client: &mut Client,
        applicant: Applicant<'_>,
        deadline: Deadline,
    ) -> Result<Admitted, End> {
        let address = match client.stream.peer() {
            Peer::Tcp(address, _) => Some(*address),
            Peer::Local => None,
        };
        let case = Case {
            name: "PAM",
            refusal: "failed authentication against PAM",
            password: &Secret::default(),
            use_for_servers: pam.use_for_servers,
        };
        let judge = Judge::Pam { service: pam.service.clone(), address, by_name: pam.use_hostname };
        let is_stopping = || context.is_stopping();
        self.ask_outside(&case, judge, None, &mut Dialogue::new(client, deadline, &is_stopping), applicant)
    }

    /// Has a directory decide. The client is asked first: one that goes away to ask its user has cost nothing.
    pub(super) fn ask_ldap(
        &self,
        ldap: &Ldap,
        context: &Context,
        client: &mut Client,
        applicant: Applicant<'_>,
        deadline: Deadline,
    ) -> Result<Admitted, End> {
        let case = Case {
            name: "LDAP",
            refusal: "client authentication failed",
            password: &ldap.bind_password,
            use_for_servers: ldap.use_for_servers,
        };
        let judge = Judge::Ldap(Box::new(ldap.clone()));
        let is_stopping = || context.is_stopping();
        let mut dialogue = Dialogue::new(client, deadline, &is_stopping);
        let typed = challenge::password(&mut dialogue)?;
        self.ask_outside(&case, judge, Some(typed), &mut dialogue, applicant)
    }

    /// `ready` answers the first question.
    fn ask_outside(
        &self,
        case: &Case<'_>,
        judge: Judge,
        mut ready: Option<Secret>,
        dialogue: &mut Dialogue<'_>,
        applicant: Applicant<'_>,
    ) -> Result<Admitted, End> {
        // So much less than there is that it can tell why it has no answer.
        let within = dialogue.within(PATIENCE).remaining().unwrap_or(PATIENCE) * 9 / 10;
        let refused = |why: &str| self.refused(case, applicant, &format!("{why}{}", self.text()));
        let failed = |error: io::Error| refused(&format!("could not ask {}: {error}; ", case.name));
        let request = Request { user: applicant.user.to_vec(), judge, within };
        let mut errand = Errand::start(&request, case.password).map_err(failed)?;
        // The first answer is the password; others are something else, such as a code that is good for once.
        let mut first: Option<Secret> = None;
        let mut allowance = Allowance(PATIENCE);
        loop {
            match allowance.spend(|left| errand.next(dialogue.within(left))).map_err(failed)? {
                Event::Asked => {
                    let password = ready.take().map_or_else(|| challenge::password(dialogue), Ok)?;
                    errand.answer(&password).map_err(failed)?;
                    first.get_or_insert(password);
                }
                Event::Said(report) => report.context(self.text()).log(),
                Event::Granted => break,
                Event::Refused => return Err(refused("").into()),
                Event::Lost => {
                    let why = format!("the process that asked {} has ended without an answer; ", case.name);
                    return Err(refused(&why).into());
                }
                Event::TooLate => {
                    Report::log_line(format!("{} did not answer in time", case.name)).context(self.text()).log();
                    return Err(timed_out());
                }
                Event::Stopped => return Err(End::shutdown()),
            }
        }
        Ok(Admitted::complete(match (self.entry.credential(), first) {
            (Credential::None, Some(password)) if case.use_for_servers => Credential::Password(password),
            (known, _) => known,
        }))
    }

    /// The client hears the same whatever the reason.
    fn refused(&self, case: &Case<'_>, applicant: Applicant<'_>, why: &str) -> Report {
        let user = String::from_utf8_lossy(applicant.user);
        Report::fatal(case.refusal)
            .detail(format!("{} authentication with pgpool failed for user \"{user}\"", case.name))
            .hint("see pgpool log for details")
            .context(why)
            .code(SqlState::INVALID_AUTHORIZATION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;

    #[test]
    fn an_allowance_is_used_up() {
        let mut allowance = Allowance(Duration::from_millis(30));
        let mut given = Vec::new();
        for _ in 0..3 {
            allowance.spend(|left| {
                given.push(left);
                sleep(Duration::from_millis(20));
            });
        }
        assert!(given[1] <= Duration::from_millis(10) && given[2] == Duration::ZERO, "{given:?}");
    }
}
