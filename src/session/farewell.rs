//! Turning a client away for whom no worker is free. It is told so when it has said who it is and how it wants to be told;
//! what can be done without a worker, a cancel request, is done.
//!
//! Nothing here waits: whoever turns many away at the same time goes on with each as far as it has come.

use super::end::End;
use super::startup::{self, MAX_REQUESTS};
use super::{Context, finish, refusal, secure};
use crate::net::tls::Handshake;
use crate::net::{InBuffer, Received, Stream};
use crate::report::{Report, SqlState};
use crate::state::Refusal;
use crate::wire::startup::{self as packets, Request};
use nix::poll::PollFlags;

/// One client that is turned away.
pub struct Farewell {
    /// Above the stream, whose descriptor it uses.
    handshake: Option<Handshake>,
    stream: Stream,
    /// Why.
    detail: String,
    input: InBuffer,
    /// It has begun the handshake without asking for it.
    is_direct: bool,
    /// It has TLS, or was told that there is none.
    is_settled: bool,
    /// Packets before the startup packet.
    requests: usize,
}

impl Farewell {
    /// Nothing was received of it. It will be told `detail`.
    pub fn new(stream: Stream, detail: String) -> Self {
        let input = InBuffer::with_capacity(1024);
        Self { handshake: None, stream, detail, input, is_direct: false, is_settled: false, requests: 0 }
    }

    /// Its connection.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Goes on as far as it goes at once. `Some`: what to wait for; `None`: it is over.
    pub fn go_on(&mut self, context: &mut Context) -> Option<PollFlags> {
        match self.advance(context) {
            Ok(awaited) => return awaited,
            // Whatever else may be wrong with it, that is the reason.
            Err(End::Failed(_)) => self.tell(context),
            Err(_) => context.shared.refusals().count(Refusal::TooManyClients),
        }
        None
    }

    /// Its time is over. In the middle of a handshake it would not understand a word.
    pub fn cut_off(&mut self, context: &Context) {
        if self.handshake.is_none() {
            self.tell(context);
        } else {
            context.shared.refusals().count(Refusal::TooManyClients);
        }
    }

    fn tell(&mut self, context: &Context) {
        context.shared.refusals().count(Refusal::TooManyClients);
        let (report, mut message) = (too_many().detail(std::mem::take(&mut self.detail)), Vec::new());
        finish::log_end(&report, &refusal::place(self.stream.peer()));
        report.encode(&mut message);
        let _ = self.stream.send(&message);
        self.stream.shutdown_sending();
    }

    /// `Ok(None)`: it has left without a word, or has got what it wanted.
    fn advance(&mut self, context: &mut Context) -> Result<Option<PollFlags>, End> {
        loop {
            if let Some(awaited) = self.shake_hands()? {
                return Ok(Some(awaited));
            }
            if self.input.bytes().first() == Some(&packets::TLS_HANDSHAKE) && !self.is_settled && self.requests == 0 {
                (self.is_settled, self.is_direct) = (true, true);
                self.handshake = Some(secure::begin_at_once(&self.stream, &mut self.input, context)?);
                continue;
            }
            if let Some(length) = packets::length(self.input.bytes()).map_err(|error| startup::refuse(&error))? {
                if self.input.len() >= length {
                    if self.is_done(length, context)? {
                        return Ok(None);
                    }
                    continue;
                }
                self.input.make_room(length);
            }
            match self.input.receive(&self.stream, false).map_err(End::client_lost)? {
                Received::Bytes(_) => {}
                Received::Nothing | Received::Interrupted => return Ok(Some(PollFlags::POLLIN)),
                Received::Closed if self.input.is_empty() => return Ok(None),
                Received::Closed => return Err(End::ClientGone),
            }
        }
    }

    fn shake_hands(&mut self) -> Result<Option<PollFlags>, End> {
        if self.handshake.is_none() {
            return Ok(None);
        }
        let awaited = self.stream.go_on_tls(&mut self.handshake).map_err(secure::failed)?;
        if awaited.is_none() {
            secure::check(&self.stream, self.is_direct)?;
        }
        Ok(awaited)
    }

    /// Heeds a packet. Whether that was all it wanted.
    ///
    /// # Errors
    /// It wants a session, or what it says makes no sense: in any case it is to be told why it gets none.
    fn is_done(&mut self, length: usize, context: &mut Context) -> Result<bool, End> {
        self.requests += 1;
        match packets::read(&self.input.bytes()[..length]).map_err(|error| startup::refuse(&error))? {
            Request::Cancel { pid, key } => {
                startup::serve_cancel(context, pid, key, &self.input.bytes()[..length]);
                Ok(true)
            }
            Request::Startup(_) => Err(too_many().into()),
            _ if self.requests > MAX_REQUESTS => Err(startup::too_many_requests()),
            Request::Tls if self.is_settled => Err(secure::asked_again()),
            Request::Tls => {
                self.is_settled = true;
                self.handshake = secure::begin_as_asked(&self.stream, &mut self.input, length, context)?;
                Ok(false)
            }
            Request::GssEnc => startup::refuse_gss(&self.stream, &mut self.input, length).map(|()| false),
        }
    }
}

/// No worker is free for a client.
pub(super) fn too_many() -> Report {
    Report::fatal("Sorry, too many clients already").code(SqlState::TOO_MANY_CONNECTIONS)
}
