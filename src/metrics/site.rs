//! Which path has which answer, and who gets it.

use super::measure::{Meter, Queue, Snapshot};
use super::request::Request;
use super::response::{Answer, Kind, Status};
use super::{exposition, health, status};
use crate::auth::base64;
use crate::config::Settings;
use crate::net::Peer;
use crate::pcp;
use crate::report::{self, Report};
use crate::state::{Refusal, Shared};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PAGE: &str = include_str!("page.html");
/// What takes a while to be made serves all who ask within this time.
const FRESH: Duration = Duration::from_millis(200);
/// How long the answer takes to a wrong password.
const PENALTY: Duration = Duration::from_secs(1);

/// An answer; whether its body is wanted; and how long it is kept back.
pub(super) enum Outcome {
    Now(Answer, bool),
    Later(Answer, bool, Duration),
}

/// What there is to be had.
pub(super) struct Site {
    settings: Arc<Settings>,
    shared: Shared,
    /// pcp.conf.
    users: PathBuf,
    queues: Vec<Queue>,
    meter: Meter,
    metrics: Option<Made>,
    status: Option<Made>,
}

/// A body, and when it was made.
struct Made(Instant, Rc<[u8]>);

impl Site {
    pub fn new(settings: Arc<Settings>, shared: Shared, users: PathBuf, queues: Vec<Queue>) -> Self {
        Self { settings, shared, users, queues, meter: Meter::default(), metrics: None, status: None }
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
        let wanted = !request.head_only;
        if let Some(probe) = health::Probe::of_path(request.path) {
            let (status, line) = match health::look(probe, &self.settings, &self.shared) {
                Ok(line) => (Status::Ok, line),
                Err(line) => (Status::Unavailable, line),
            };
            return Outcome::Now(Answer::line(status, &line), wanted);
        }
        if self.settings.metrics_require_login
            && let Err(told) = self.admit(request, peer)
        {
            let answer = Answer::line(Status::Unauthorized, "a user of pcp.conf and his password are needed");
            return if told { Outcome::Later(answer, wanted, PENALTY) } else { Outcome::Now(answer, wanted) };
        }
        let answer = match request.path {
            "/" => Answer::new(Status::Ok, Kind::Html, PAGE.as_bytes().into()),
            "/metrics" => Answer::new(Status::Ok, Kind::Metrics, self.metrics()),
            "/status.json" => Answer::new(Status::Ok, Kind::Json, self.status()),
            _ => Answer::line(
                Status::NotFound,
                "there is /, /metrics, /status.json, /health/live, /health/read and /health/write",
            ),
        };
        Outcome::Now(answer, wanted)
    }

    /// `Err`: he may not; whether he has tried.
    fn admit(&self, request: &Request<'_>, peer: &Peer) -> Result<(), bool> {
        // A browser asks without a password first, and gets to know that it needs one.
        let credentials = request.authorization.ok_or(false)?;
        let (user, password) = decode(credentials).ok_or(true)?;
        let outcome = pcp::is_password(&self.users, user.as_bytes(), password.as_bytes());
        if matches!(outcome, Ok(true)) {
            return Ok(());
        }
        self.shared.refusals().count(Refusal::ByMetrics);
        let place = match peer {
            Peer::Tcp(address, port) => format!("HTTP connection from {address}({port})"),
            Peer::Local => "HTTP connection".to_owned(),
        };
        let refusal = Report::error(format!("authentication failed for user \"{user}\""))
            .detail("username and/or password does not match");
        outcome.err().unwrap_or(refusal).context(place).log();
        Err(true)
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
            Outcome::Now(answer, _) => (answer.status, false),
            Outcome::Later(answer, _, _) => (answer.status, true),
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
        assert_eq!(site.shared.refusals().read(Refusal::ByMetrics), 1);
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
