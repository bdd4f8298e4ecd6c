//! Which path has which answer, and who gets it.

use super::measure::{Meter, Queue, Snapshot};
use super::penalties::{PENALTY, Penalties};
use super::request::Request;
use super::response::{Answer, Kind, Status};
use super::{exposition, health, status};
use crate::auth::base64;
use crate::config::Settings;
use crate::net::{Deadline, Peer};
use crate::pcp;
use crate::report::{self, Report};
use crate::state::{Refusal, Shared};
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PAGE: &str = include_str!("page.html");
/// What takes a while to be made serves all who ask within this time.
const FRESH: Duration = Duration::from_millis(200);
/// So many characters of a name are logged.
const SHOWN_NAME: usize = 64;

/// What a visitor gets.
pub(super) enum Outcome {
    /// This, at once.
    Now(Answer),
    /// This, at that moment.
    At(Deadline, Answer),
}

/// Why somebody is not admitted.
enum Refused {
    /// He has named no password. A browser asks so first, and gets to know that it needs one.
    Unasked,
    /// From his address come so many wrong ones that his was not looked at.
    TooOften,
    /// It is wrong; he is to hear of it at that moment.
    Wrong(Deadline),
}

/// What there is to be had.
pub(super) struct Site {
    settings: Arc<Settings>,
    shared: Shared,
    /// pcp.conf.
    users: PathBuf,
    queues: Vec<Queue>,
    penalties: Penalties,
    meter: Meter,
    metrics: Option<Made>,
    status: Option<Made>,
}

/// A body, and when it was made.
struct Made(Instant, Rc<[u8]>);

impl Site {
    pub fn new(settings: Arc<Settings>, shared: Shared, users: PathBuf, queues: Vec<Queue>) -> Self {
        let (penalties, meter) = (Penalties::of(PENALTY), Meter::default());
        Self { settings, shared, users, queues, penalties, meter, metrics: None, status: None }
    }

    /// Takes over the parameters of a reload.
    pub fn reload(&mut self) {
        if let Some(settings) = Settings::from_snapshot(&self.shared.published_settings()) {
            self.settings = Arc::new(settings);
            report::configure(self.settings.log_settings());
        }
    }

    /// The answer to a request.
    pub fn answer(&mut self, request: &Request<'_>, peer: &Peer) -> Outcome {
        let outcome = self.outcome(request, peer);
        match outcome {
            Outcome::Now(answer) if request.head_only => Outcome::Now(answer.head_only()),
            Outcome::At(until, answer) if request.head_only => Outcome::At(until, answer.head_only()),
            outcome => outcome,
        }
    }

    fn outcome(&mut self, request: &Request<'_>, peer: &Peer) -> Outcome {
        if let Some(probe) = health::Probe::of_path(request.path) {
            let (status, line) = match health::look(probe, &self.settings, &self.shared) {
                Ok(line) => (Status::Ok, line),
                Err(line) => (Status::Unavailable, line),
            };
            return Outcome::Now(Answer::line(status, &line));
        }
        if self.settings.metrics_require_login
            && let Err(refused) = self.admit(request, peer)
        {
            let answer = Answer::line(Status::Unauthorized, "a user of pcp.conf and his password are needed");
            let often = || Answer::line(Status::TooManyRequests, "too many wrong passwords come from your address");
            return match refused {
                Refused::Unasked => Outcome::Now(answer),
                Refused::TooOften => Outcome::Now(often()),
                Refused::Wrong(until) => Outcome::At(until, answer),
            };
        }
        Outcome::Now(match request.path {
            "/" => Answer::new(Status::Ok, Kind::Html, PAGE.as_bytes().into()),
            "/metrics" => Answer::new(Status::Ok, Kind::Metrics, self.metrics()),
            "/status.json" => Answer::new(Status::Ok, Kind::Json, self.status()),
            _ => Answer::line(
                Status::NotFound,
                "there is /, /metrics, /status.json, /health/live, /health/read and /health/write",
            ),
        })
    }

    fn admit(&mut self, request: &Request<'_>, peer: &Peer) -> Result<(), Refused> {
        let credentials = request.authorization.ok_or(Refused::Unasked)?;
        let (address, place) = match peer {
            Peer::Tcp(address, port) => (Some(*address), format!("HTTP connection from {address}({port})")),
            Peer::Local => (None, "HTTP connection".to_owned()),
        };
        if self.penalties.is_full(address) {
            return Err(Refused::TooOften);
        }
        let Some((user, password)) = decode(credentials) else { return Err(self.wrong(address)) };
        let outcome = pcp::is_password(&self.users, user.as_bytes(), password.as_bytes());
        if matches!(outcome, Ok(true)) {
            return Ok(());
        }
        let user: String = user.chars().take(SHOWN_NAME).collect();
        let refusal = Report::error(format!("authentication failed for user \"{user}\""))
            .detail("username and/or password does not match");
        outcome.err().unwrap_or(refusal).context(place).log();
        Err(self.wrong(address))
    }

    fn wrong(&mut self, address: Option<IpAddr>) -> Refused {
        self.shared.refusals().count(Refusal::ByMetrics);
        Refused::Wrong(self.penalties.add(address))
    }

    fn metrics(&mut self) -> Rc<[u8]> {
        if let Some(fresh) = fresh(&self.metrics) {
            return fresh;
        }
        let snapshot = self.look();
        let body: Rc<[u8]> = exposition::text(&snapshot).into_bytes().into();
        self.metrics = Some(Made(Instant::now(), Rc::clone(&body)));
        body
    }

    fn status(&mut self) -> Rc<[u8]> {
        if let Some(fresh) = fresh(&self.status) {
            return fresh;
        }
        let snapshot = self.look();
        let body: Rc<[u8]> = status::text(&snapshot, &self.settings, &self.shared).into_bytes().into();
        self.status = Some(Made(Instant::now(), Rc::clone(&body)));
        body
    }

    /// The same with penalties of that length.
    #[cfg(test)]
    pub fn punishing(self, time: Duration) -> Self {
        Self { penalties: Penalties::of(time), ..self }
    }

    /// How many passwords were wrong.
    #[cfg(test)]
    pub fn guesses(&self) -> u64 {
        self.shared.refusals().read(Refusal::ByMetrics)
    }

    fn look(&mut self) -> Snapshot {
        Snapshot::take(&self.settings, &self.shared, &self.queues, &mut self.meter)
    }
}

fn fresh(made: &Option<Made>) -> Option<Rc<[u8]>> {
    made.as_ref().filter(|made| made.0.elapsed() < FRESH).map(|made| Rc::clone(&made.1))
}

/// User and password of a header `Basic ...`.
fn decode(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64::decode(encoded.trim().as_bytes())?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Limits;

    fn site(require_password: bool) -> Site {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let settings = Settings { metrics_require_login: require_password, ..Settings::default() };
        Site::new(Arc::new(settings), shared, PathBuf::from("/nowhere/pcp.conf"), Vec::new())
    }

    fn ask(site: &mut Site, path: &str, authorization: Option<&str>) -> (Status, bool) {
        let request = Request { head_only: false, path, authorization };
        match site.answer(&request, &Peer::Local) {
            Outcome::Now(answer) => (answer.status, false),
            Outcome::At(_, answer) => (answer.status, true),
        }
    }

    #[test]
    fn paths_have_answers() {
        let mut site = site(false);
        for path in ["/", "/metrics", "/status.json", "/health/live"] {
            assert_eq!(ask(&mut site, path, None), (Status::Ok, false), "{path}");
        }
        assert_eq!(ask(&mut site, "/metrics/", None), (Status::NotFound, false));
        assert_eq!(ask(&mut site, "/health/write", None), (Status::Unavailable, false));
    }

    #[test]
    fn guesses_are_slow_and_counted() {
        let mut site = site(true);
        assert_eq!(ask(&mut site, "/metrics", None), (Status::Unauthorized, false));
        assert_eq!(ask(&mut site, "/", Some("Basic YW5uOng=")), (Status::Unauthorized, true));
        assert_eq!(ask(&mut site, "/nowhere", Some("Bearer x")), (Status::Unauthorized, true));
        assert_eq!(ask(&mut site, "/health/live", None), (Status::Ok, false));
        assert_eq!(site.guesses(), 2);
    }

    #[test]
    fn credentials_are_decoded() {
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(decode("Basic YW5uOnNlOmNyZXQ="), pair("ann", "se:cret"));
        assert_eq!(decode("basic YW5uOg=="), pair("ann", ""));
        for bad in ["", "Basic", "Basic !", "Basic YW5u", "Digest YW5uOg==", "Basic /////w=="] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
