//! Whether a client may come in (auth 10 to 13), and what its session logs in to servers with.
//!
//! With `enable_pool_hba` the rule for the client says how it proves itself, before any server is spoken to. Without it
//! that is up to the server of the session's home node: the client is asked what the server asks for.
//!
//! A proof is *complete* when pgpool has checked it against pool_passwd. A password that is in no file can only be checked
//! by a server; it is *typed* until one has done so. Then its verifier stays with that server connection, and is the
//! measure for whoever gets it from the pool next. A session never starts on a proof that nobody has checked.

mod certificate;
mod challenge;
mod dialogue;
mod outside;

use super::Context;
use super::auth_query::Known;
use super::client::Client;
use super::end::End;
use super::gate::Ruling;
use crate::auth::hba::{self, Method};
use crate::auth::passwords::Entry;
use crate::auth::scram::{DEFAULT_ITERATIONS, own_verifier};
use crate::auth::{Credential, Secret};
use crate::backend::{Demand, ServerConnection};
use crate::net::{Deadline, Peer, Stream};
use crate::report::{Report, Severity, SqlState, is_logged};
use dialogue::Dialogue;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;
use std::time::{Duration, Instant};

/// How long a password that only a server can check opens the pooled connection that was made with it. Behind that the
/// server is asked again: it may have another password now, or the role may have expired or be gone.
const TYPED_LIFE: Duration = Duration::from_secs(60);

/// A client that may come in, as far as pgpool can tell.
#[derive(Debug)]
pub(super) struct Admitted {
    /// What logs in to servers.
    pub credential: Credential,
    /// The password that the client has typed and that only a server can check.
    pub typed: Option<Secret>,
}

/// What there is of TLS between client and pgpool.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Channel<'a> {
    /// The handshake is complete.
    pub tls: bool,
    /// Data for channel binding (auth 14.3).
    pub end_point: Option<&'a [u8]>,
}

/// Who wants in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applicant<'a> {
    pub user: &'a [u8],
    pub database: &'a [u8],
    pub channel: Channel<'a>,
}

impl Admitted {
    fn complete(credential: Credential) -> Self {
        Self { credential, typed: None }
    }

    fn typed(password: Secret) -> Self {
        Self { credential: Credential::Password(password.clone()), typed: Some(password) }
    }
}

/// With `enable_pool_hba`: asks the client for what its rule demands. `None` without it.
pub(super) fn by_rules(
    context: &mut Context,
    client: &mut Client,
    applicant: Applicant<'_>,
    deadline: Deadline,
) -> Result<Option<Admitted>, End> {
    if !context.settings.enable_pool_hba {
        return Ok(None);
    }
    let address = match client.stream.peer() {
        Peer::Tcp(address, _) => Some(*address),
        Peer::Local => None,
    };
    let Applicant { user, database, channel } = applicant;
    let Some(ruling) = context.gate.rule(hba::Client { address, tls: channel.tls, user, database }, deadline) else {
        let why = if context.gate.has_rules() { "no rule is for this client" } else { "there are no rules" };
        return Err(no_entry(address, applicant, why).into());
    };
    let known = match &ruling.record.method {
        Method::Password | Method::Md5 | Method::Scram => context.password_of(user, deadline)?,
        // Nobody has to be asked.
        _ => Known { entry: context.gate.passwords.entry(user), source: "pool_passwd" },
    };
    let decided = Decided { by: By::Rule(&ruling), entry: &known.entry, source: known.source };
    let certificate = certificate::check(&client.stream, applicant, ruling.record.client_cert);
    certificate.map_err(|report| report.context(decided.text()))?;
    let admitted = match &ruling.record.method {
        Method::Cert if certificate::is_of_user(&client.stream, applicant) => {
            Admitted::complete(known.entry.credential())
        }
        Method::Cert => {
            let report = decided.failed("CERT authentication failed", "no valid certificate presented");
            return Err(report.code(SqlState::INVALID_AUTHORIZATION).into());
        }
        Method::Trust => Admitted::complete(known.entry.credential()),
        Method::Reject => return Err(no_entry(address, applicant, &decided.text()).into()),
        Method::Password => decided.ask_password(context, client, applicant, deadline)?,
        Method::Md5 => decided.challenge_md5(context, client, applicant, deadline)?,
        Method::Scram => decided.challenge_scram(context, client, applicant, deadline)?,
        Method::Pam(pam) => decided.ask_pam(pam, context, client, applicant, deadline)?,
        Method::Ldap(ldap) => decided.ask_ldap(ldap, context, client, applicant, deadline)?,
    };
    decided.tell(context, applicant);
    Ok(Some(admitted))
}

/// Without pool_hba.conf: asks the client for what the server at `home` asks pgpool for (auth 12.3).
pub(super) fn by_demand(
    context: &mut Context,
    client: &mut Client,
    applicant: Applicant<'_>,
    demand: Demand,
    deadline: Deadline,
) -> Result<Admitted, End> {
    let known = match demand {
        Demand::Nothing | Demand::Certificate | Demand::OsUser => {
            Known { entry: context.gate.passwords.entry(applicant.user), source: "pool_passwd" }
        }
        _ => context.password_of(applicant.user, deadline)?,
    };
    let decided = Decided { by: By::Server(demand), entry: &known.entry, source: known.source };
    let may_type = context.settings.allow_clear_text_frontend_auth && !known.entry.is_there();
    let admitted = match demand {
        Demand::Nothing => Admitted::complete(known.entry.credential()),
        Demand::OsUser if is_own_user(&client.stream) => Admitted::complete(known.entry.credential()),
        Demand::Certificate | Demand::OsUser => return Err(unproved(demand, decided.text()).into()),
        Demand::Md5 | Demand::Scram if may_type => {
            Report::log_line("using clear text authentication with frontend")
                .detail(match demand {
                    Demand::Md5 => "backend will still use md5 auth",
                    _ => "backend will still use SCRAM auth",
                })
                .hint("you can disable this behavior by setting allow_clear_text_frontend_auth to off")
                .log();
            decided.ask_password(context, client, applicant, deadline)?
        }
        Demand::Password => decided.ask_password(context, client, applicant, deadline)?,
        Demand::Md5 => decided.challenge_md5(context, client, applicant, deadline)?,
        Demand::Scram => decided.challenge_scram(context, client, applicant, deadline)?,
    };
    decided.tell(context, applicant);
    Ok(admitted)
}

/// Whether a client with this proof may use a server connection from the pool. `false`: it is to log in anew.
pub(super) fn may_reuse(server: &ServerConnection, admitted: &Admitted) -> bool {
    let Some(typed) = &admitted.typed else { return true };
    is_fresh(server.created, Instant::now()) && server.typed.as_ref().is_some_and(|known| known.is_of(typed.bytes()))
}

/// Whether a connection that was made then can still tell whether a typed password is right.
fn is_fresh(made: Instant, now: Instant) -> bool {
    now.duration_since(made) < TYPED_LIFE
}

/// A server has let in a session with this proof: the proof is now checked, or was so before.
pub(super) fn confirm(server: &mut ServerConnection, admitted: &Admitted, applicant: Applicant<'_>) -> Result<(), End> {
    let Some(typed) = &admitted.typed else { return Ok(()) };
    if matches!(server.demand, Demand::Nothing | Demand::Certificate | Demand::OsUser) {
        return Err(Report::fatal("clear text authentication failed")
            .detail("password does not match")
            .context(format!(
                "DB node id: {} lets in everybody, and pool_passwd has no entry: nobody can check the password",
                server.node
            ))
            .code(SqlState::INVALID_PASSWORD)
            .into());
    }
    server.typed = Some(Box::new(own_verifier(applicant.user, Some(typed.bytes()), DEFAULT_ITERATIONS)));
    Ok(())
}

/// What has decided how the client proves itself, and the entry that knows its password.
struct Decided<'a> {
    by: By<'a>,
    entry: &'a Entry,
    /// Who knows the entry.
    source: &'static str,
}

enum By<'a> {
    Rule(&'a Ruling),
    Server(Demand),
}

impl Decided<'_> {
    fn ask_password(
        &self,
        context: &Context,
        client: &mut Client,
        applicant: Applicant<'_>,
        deadline: Deadline,
    ) -> Result<Admitted, End> {
        let is_stopping = || context.is_stopping();
        let password = challenge::password(&mut Dialogue::new(client, deadline, &is_stopping))?;
        match self.entry.is_of(password.bytes(), applicant.user) {
            Some(true) => Ok(Admitted::complete(match self.entry {
                // A verifier alone logs in nowhere; the password that satisfies it does.
                Entry::Verifier(_) => Credential::Password(password),
                entry => entry.credential(),
            })),
            None if !self.entry.is_there() => Ok(Admitted::typed(password)),
            Some(false) | None => {
                Err(self.failed("clear text authentication failed", "password does not match").into())
            }
        }
    }

    fn challenge_md5(
        &self,
        context: &Context,
        client: &mut Client,
        applicant: Applicant<'_>,
        deadline: Deadline,
    ) -> Result<Admitted, End> {
        let is_stopping = || context.is_stopping();
        let hash = self.entry.md5(applicant.user);
        match challenge::md5(&mut Dialogue::new(client, deadline, &is_stopping), hash.as_ref())? {
            true => Ok(Admitted::complete(self.entry.credential())),
            false => Err(self.failed("md5 authentication failed", "password does not match").into()),
        }
    }

    fn challenge_scram(
        &self,
        context: &Context,
        client: &mut Client,
        applicant: Applicant<'_>,
        deadline: Deadline,
    ) -> Result<Admitted, End> {
        let is_stopping = || context.is_stopping();
        let mut dialogue = Dialogue::new(client, deadline, &is_stopping);
        let iterations = context.usual_iterations();
        match challenge::scram(&mut dialogue, applicant.user, (self.entry, iterations), applicant.channel) {
            Ok(Some(credential)) => Ok(Admitted::complete(credential)),
            Ok(None) => {
                let user = String::from_utf8_lossy(applicant.user);
                let detail = format!("username \"{user}\" or password does not exist in backend");
                Err(self.failed("authentication failed", &detail).into())
            }
            // Slips of the client, which must be told apart from wrong passwords.
            Err(End::Failed(report)) => Err(report.context(self.text()).into()),
            Err(end) => Err(end),
        }
    }

    /// The client hears the same whatever is wrong; the log tells what it was.
    fn failed(&self, message: &str, detail: &str) -> Report {
        Report::fatal(message).detail(detail).context(self.text()).code(SqlState::INVALID_PASSWORD)
    }

    /// Tells the log who was let in why (`log_connections`).
    fn tell(&self, context: &Context, applicant: Applicant<'_>) {
        let severity = if context.settings.log_connections { Severity::Log } else { Severity::Debug1 };
        if is_logged(severity) {
            let user = String::from_utf8_lossy(applicant.user);
            Report::new(severity, format!("connection authenticated: user \"{user}\"")).detail(self.text()).log();
        }
    }

    /// In words: rule or server, and the kind of entry. No secret is in it.
    fn text(&self) -> String {
        let by = match &self.by {
            By::Rule(Ruling { record, file }) => {
                format!("method {} by line {} of \"{}\"", record.method.name(), record.line, file.display())
            }
            By::Server(demand) => format!("method {} as the server asks for", demand.name()),
        };
        format!("{by}; {}: {} for the user", self.source, self.entry.name())
    }
}

/// Whether the client is a process of pgpool's operating system user: what a server concludes from that user (`peer`) then
/// holds for the client, too.
fn is_own_user(stream: &Stream) -> bool {
    let peer = getsockopt(stream, PeerCredentials);
    *stream.peer() == Peer::Local && peer.is_ok_and(|peer| peer.uid() == geteuid().as_raw())
}

/// The server has asked for nothing, but may have taken something of pgpool's own for a proof: that is none of the client's.
fn unproved(demand: Demand, context: String) -> Report {
    let detail = match demand {
        Demand::OsUser => {
            "the server is asked by a Unix socket, where it may have taken pgpool's operating system user for a proof \
             (peer), and nothing tells who the client is"
        }
        _ => "pgpool has a certificate for the server (backend_sslcert), and nothing tells who the client is",
    };
    Report::fatal("client authentication failed")
        .detail(detail)
        .hint("set enable_pool_hba = on, and tell in pool_hba.conf how clients prove themselves")
        .context(context)
        .code(SqlState::INVALID_AUTHORIZATION)
}

/// No rule lets the client in (auth 3.10).
fn no_entry(address: Option<std::net::IpAddr>, applicant: Applicant<'_>, why: &str) -> Report {
    let host = address.map_or_else(|| "[local]".to_owned(), |address| address.to_string());
    let [user, database] = [applicant.user, applicant.database].map(String::from_utf8_lossy);
    let ssl = if applicant.channel.tls { "on" } else { "off" };
    Report::fatal("client authentication failed")
        .detail(format!(
            "no pool_hba.conf entry for host \"{host}\", user \"{user}\", database \"{database}\", SSL {ssl}"
        ))
        .hint("see pgpool log for details")
        .context(why)
        .code(SqlState::INVALID_AUTHORIZATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_typed_password_has_opened_stays_open_for_a_bounded_time() {
        let made = Instant::now();
        assert!(is_fresh(made, made) && is_fresh(made, made + TYPED_LIFE - Duration::from_millis(1)));
        assert!(!is_fresh(made, made + TYPED_LIFE));
    }
}
