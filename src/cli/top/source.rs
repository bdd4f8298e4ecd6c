//! Where the figures come from: a metrics process, asked by HTTP. Each look is bounded as a whole, in time and bytes, whatever
//! is on the other side; and it can be left at any time.

use super::figures::Figures;
use super::picture::legible;
use super::screen::{Screen, Woken};
use crate::auth::base64;
use crate::cli::options::TopOptions;
use crate::config::{LoadResult, Settings};
use crate::net::Deadline;
use crate::report::Severity;
use crate::tools::prompt;
use nix::poll::{PollFd, PollFlags, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::fmt::{self, Display, Formatter};
use std::io::{self, IsTerminal, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer at most.
const MAX_ANSWER: usize = 64 << 20;
/// Bytes of a password at most.
const MAX_PASSWORD: usize = 1024;
const USUAL_PORT: u16 = 9719;

/// A metrics process.
pub(super) struct Source {
    host: String,
    port: u16,
    /// `user:password`.
    credentials: Option<Vec<u8>>,
}

/// Why there are no figures.
#[derive(Debug)]
pub(super) enum Failure {
    /// This is to be told.
    Told(String),
    /// The user does not wait for them any more.
    Ended(Woken),
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told(message) => f.write_str(message),
            Self::Ended(_) => f.write_str("ended"),
        }
    }
}

impl Source {
    /// The one the options name, else the one of pgpool.conf. Asks for the password of the user who is named.
    ///
    /// # Errors
    /// Neither names one. What is wrong with pgpool.conf is logged.
    pub fn find(options: &TopOptions, loaded: LoadResult) -> Result<Self, String> {
        let configured = match loaded {
            Ok(loaded) => Some(loaded.settings),
            Err(_) if options.host.is_some() => None,
            Err(problems) => {
                problems.log(Severity::Fatal);
                return Err("say with -f which pgpool.conf, or with -h and -p where the figures are".to_owned());
            }
        };
        let host = options.host.clone().or_else(|| configured.as_ref().and_then(first_address)).ok_or(
            "there are no figures: set metrics_listen_addresses = 'localhost' in pgpool.conf and restart pgpool, or say with -h \
             and -p where they are",
        )?;
        let port = configured.and_then(|settings| u16::try_from(settings.metrics_port).ok());
        let port = options.port.or(port).unwrap_or(USUAL_PORT);
        let credentials = options.user.as_ref().map(|user| [user.as_bytes(), b":", &ask_password()].concat());
        Ok(Self { host, port, credentials })
    }

    /// `host:port`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Asks for the figures. `screen`: what else may happen meanwhile.
    pub fn look(&self, screen: Option<&Screen>) -> Result<Figures, Failure> {
        let text = Look { screen, until: Deadline::after(PATIENCE) }.fetch(self)?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        match head.split(' ').nth(1) {
            Some("200") => Ok(Figures::read(Instant::now(), body)),
            Some("401") => Err(Failure::Told("a user of pcp.conf and his password are needed: -U NAME".to_owned())),
            _ => {
                let line = legible(head.lines().next().unwrap_or_default());
                Err(Failure::Told(format!("{} answers: {line}", self.name())))
            }
        }
    }

    fn request(&self) -> Vec<u8> {
        let encoded = self.credentials.as_ref().map(|credentials| base64::encode(credentials));
        let authorization = encoded.map(|encoded| format!("Authorization: Basic {encoded}\r\n")).unwrap_or_default();
        format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n{authorization}\r\n", self.host).into_bytes()
    }
}

/// Where pgpool of this configuration can be asked from here.
fn first_address(settings: &Settings) -> Option<String> {
    let host = settings.metrics_listen_addresses.first()?;
    Some(if ["*", "0.0.0.0", "::"].contains(&host.as_ref()) { "localhost" } else { host }.to_owned())
}

/// Without echo where it can be typed; else a line of stdin.
fn ask_password() -> Vec<u8> {
    if io::stdin().is_terminal() {
        prompt::on_terminal("Password: ", MAX_PASSWORD)
    } else {
        prompt::from_stdin(MAX_PASSWORD)
    }
}

/// One look.
struct Look<'a> {
    screen: Option<&'a Screen>,
    until: Deadline,
}

impl Look<'_> {
    fn fetch(&self, source: &Source) -> Result<String, Failure> {
        let told = |error: io::Error| Failure::Told(format!("no figures from {}: {error}", source.name()));
        let mut failure = Failure::Told(format!("no figures from {}: no address", source.name()));
        for address in (source.host.as_str(), source.port).to_socket_addrs().map_err(told)? {
            failure = match self.ask(address, &source.request()) {
                Ok(text) => return Ok(text),
                Err(Cut::Failed(error)) => told(error),
                Err(Cut::Late) => told(io::Error::other(format!("no answer within {} s", PATIENCE.as_secs()))),
                Err(Cut::Ended(woken)) => return Err(Failure::Ended(woken)),
            };
        }
        Err(failure)
    }

    fn ask(&self, address: SocketAddr, request: &[u8]) -> Result<String, Cut> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&SockAddr::from(address)) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                self.wait(&socket, PollFlags::POLLOUT)?;
                socket.take_error()?.map_or(Ok(()), Err)?;
            }
            outcome => outcome?,
        }
        let mut sent = 0;
        while sent < request.len() {
            sent += self.persist(&socket, PollFlags::POLLOUT, || (&socket).write(&request[sent..]))?;
        }
        let (mut answer, mut piece) = (Vec::new(), [0; 16 * 1024]);
        while answer.len() < MAX_ANSWER {
            match self.persist(&socket, PollFlags::POLLIN, || (&socket).read(&mut piece))? {
                0 => break,
                count => answer.extend_from_slice(&piece[..count]),
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Does that as soon as it can be done.
    fn persist(
        &self,
        socket: &Socket,
        flags: PollFlags,
        mut step: impl FnMut() -> io::Result<usize>,
    ) -> Result<usize, Cut> {
        loop {
            match step() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(socket, flags)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Who sends without an end is late, too.
                Ok(_) if self.until.passed() => return Err(Cut::Late),
                outcome => return Ok(outcome?),
            }
        }
    }

    fn wait(&self, socket: &Socket, flags: PollFlags) -> Result<(), Cut> {
        loop {
            let awaited = PollFd::new(socket.as_fd(), flags);
            let woken = match self.screen {
                Some(screen) => screen.wait(Some(awaited), self.until),
                None => match poll(&mut [awaited], self.until.poll_timeout()) {
                    Ok(1..) => Woken::Ready,
                    _ => Woken::Changed,
                },
            };
            match woken {
                Woken::Ready => return Ok(()),
                Woken::Late => return Err(Cut::Late),
                // The next picture is due soon.
                Woken::Changed if self.until.passed() => return Err(Cut::Late),
                Woken::Changed => {}
                ended => return Err(Cut::Ended(ended)),
            }
        }
    }
}

/// What cuts a look short.
enum Cut {
    Failed(io::Error),
    Late,
    Ended(Woken),
}

impl From<io::Error> for Cut {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    /// Serves one visitor like this, and tells where.
    fn listen(serve: impl FnOnce(TcpStream) + Send + 'static) -> Source {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let port = listener.local_addr().expect("address").port();
        std::thread::spawn(move || serve(listener.accept().expect("a visitor").0));
        Source { host: "127.0.0.1".to_owned(), port, credentials: None }
    }

    #[test]
    fn a_look_ends_however_slowly_the_answer_comes() {
        let source = listen(|mut stream| {
            while stream.write_all(b"#").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let (begun, patience) = (Instant::now(), Duration::from_millis(300));
        let outcome = Look { screen: None, until: Deadline::after(patience) }.fetch(&source);
        assert!(matches!(outcome, Err(Failure::Told(text)) if text.ends_with("no answer within 5 s")));
        assert!(begun.elapsed() >= patience);
    }

    #[test]
    fn what_is_no_answer_is_told_without_what_a_terminal_obeys() {
        let source = listen(|mut stream| {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"220 \x1b]0;owned\x07\r\n");
        });
        let outcome = source.look(None);
        let expected = format!("{} answers: 220 ?]0;owned?", source.name());
        assert!(matches!(outcome, Err(Failure::Told(text)) if text == expected));
    }
}
