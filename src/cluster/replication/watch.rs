//! Asking all nodes at once: one thread per node, which keeps the connection. A node that does not answer keeps only its
//! own thread waiting, and is asked again when that has given up.

use super::ask::{Server, Told, Trouble};
use crate::cluster::ask::Question;
use crate::net::Deadline;
use crate::report;
use crate::sys::thread::without_signals;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// What a node has said, or why it has said nothing.
pub(super) type Answer = Result<Told, Trouble>;

/// The threads, one per node that was ever asked. They end, with their connections, when this is dropped.
pub(super) struct Watch {
    posts: HashMap<usize, Post>,
    /// Number of the round.
    round: u64,
    answers: Receiver<Answered>,
    sender: Sender<Answered>,
    /// Readable when there are answers.
    bell: Arc<EventFd>,
}

/// The thread of one node.
struct Post {
    questions: Sender<(u64, Question)>,
    /// The round in which it got the question that it has not answered yet.
    busy: Option<u64>,
    /// Readable when the server whose connection it keeps has gone.
    gone: Option<OwnedFd>,
}

struct Answered {
    round: u64,
    node: usize,
    answer: Answer,
    gone: Option<OwnedFd>,
}

impl Watch {
    /// Without any thread yet.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> nix::Result<Self> {
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (sender, answers) = channel();
        Ok(Self { posts: HashMap::new(), round: 0, answers, sender, bell })
    }

    /// Asks all `questions` at the same time and waits for the answers until `deadline`. `None`: `interrupted`, asked
    /// whenever `wake` becomes readable, says that nobody wants to know any more.
    pub fn ask(
        &mut self,
        questions: Vec<Question>,
        deadline: Deadline,
        wake: BorrowedFd<'_>,
        mut interrupted: impl FnMut() -> bool,
    ) -> Option<HashMap<usize, Answer>> {
        self.round += 1;
        self.collect(&mut HashMap::new());
        let mut answers = HashMap::new();
        for question in questions {
            let node = question.node;
            let until_it_answers = match self.send(question) {
                Ok(()) => "no answer in time".to_owned(),
                Err(error) => format!("no thread to ask it: {error}"),
            };
            answers.insert(node, Err(Trouble::Silent(until_it_answers)));
        }
        loop {
            self.collect(&mut answers);
            // Who is still at an older question has had his time.
            if deadline.passed() || !self.posts.values().any(|post| post.busy == Some(self.round)) {
                return Some(answers);
            }
            let mut fds = [PollFd::new(wake, PollFlags::POLLIN), PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, deadline.poll_timeout()) {
                Ok(_) | Err(Errno::EINTR) if interrupted() => return None,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return Some(answers),
            }
        }
    }

    /// A descriptor that is readable as soon as this node goes away, or says something unasked: a reason to ask it.
    pub fn gone(&self, node: usize) -> Option<BorrowedFd<'_>> {
        self.posts.get(&node)?.gone.as_ref().map(AsFd::as_fd)
    }

    /// Ends all threads and their connections, without waiting for them.
    pub fn dismiss(&mut self) {
        self.posts.clear();
    }

    /// Gives the question to the node's thread, unless that is still at an older one.
    fn send(&mut self, question: Question) -> io::Result<()> {
        let node = question.node;
        let post = match self.posts.entry(node) {
            Entry::Occupied(post) => post.into_mut(),
            Entry::Vacant(place) => {
                let (questions, asked) = channel();
                let (sender, bell) = (self.sender.clone(), Arc::clone(&self.bell));
                without_signals(|| {
                    thread::Builder::new().name(format!("node {node}")).spawn(move || stand(&asked, &sender, &bell))
                })?;
                place.insert(Post { questions, busy: None, gone: None })
            }
        };
        if post.busy.is_none() && post.questions.send((self.round, question)).is_ok() {
            post.busy = Some(self.round);
        }
        Ok(())
    }

    /// Takes what has been answered. Answers to an earlier round come too late to be of use.
    fn collect(&mut self, answers: &mut HashMap<usize, Answer>) {
        let _ = self.bell.read();
        for Answered { round, node, answer, gone } in self.answers.try_iter() {
            let Some(post) = self.posts.get_mut(&node) else { continue };
            (post.busy, post.gone) = (None, gone);
            if round == self.round {
                answers.insert(node, answer);
            }
        }
    }
}

/// The life of a node's thread.
fn stand(questions: &Receiver<(u64, Question)>, answers: &Sender<Answered>, bell: &EventFd) {
    let mut server = Server::default();
    while let Ok((round, question)) = questions.recv() {
        let answer = report::guarded(|| server.ask(&question)).unwrap_or_else(|report| {
            server = Server::default();
            Err(Trouble::Failed(report.to_string()))
        });
        if answers.send(Answered { round, node: question.node, answer, gone: server.bell() }).is_err() {
            break;
        }
        let _ = bell.write(1);
    }
    server.close();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::state::Node;
    use crate::wire::{TransactionStatus, write};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    fn question(node: usize, port: u16) -> Question {
        let server = Node { hostname: "127.0.0.1".to_owned(), port, ..Node::default() };
        let settings = Settings { connect_timeout: 5000, ..Settings::default() };
        Question::new(&settings, node, &server)
    }

    /// A server that is at 0/2A for everybody, and counts the connections made to it.
    fn server() -> (u16, Arc<AtomicUsize>) {
        crate::backend::configure_tls(&Settings::default()).expect("no TLS");
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let port = listener.local_addr().expect("address").port();
        let logins = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&logins);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || serve(stream));
            }
        });
        (port, logins)
    }

    fn serve(mut stream: TcpStream) {
        let mut out = Vec::new();
        write::authentication_ok(&mut out);
        write::ready_for_query(&mut out, TransactionStatus::Idle);
        loop {
            // The startup packet, then one query after the other; Terminate is five bytes.
            if stream.read(&mut [0; 4096]).unwrap_or(0) <= 5 || stream.write_all(&out).is_err() {
                return;
            }
            out.clear();
            write::row_description(&mut out, &["in_recovery", "position"]);
            write::data_row(&mut out, &["t", "0/2A"]);
            write::command_complete(&mut out, "SELECT 1");
            write::ready_for_query(&mut out, TransactionStatus::Idle);
        }
    }

    fn silent() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").expect("listener")
    }

    fn never() -> (OwnedFd, OwnedFd) {
        nix::unistd::pipe().expect("pipe")
    }

    #[test]
    fn connections_are_kept_from_round_to_round() {
        let ((port, logins), (never, _writer)) = (server(), never());
        let mut watch = Watch::new().expect("watch");
        for _ in 0..3 {
            let deadline = Deadline::after(Duration::from_secs(5));
            let answers = watch.ask(vec![question(4, port)], deadline, never.as_fd(), || false).expect("answers");
            assert_eq!(answers[&4].as_ref().map(|told| told.position), Ok("0/2A".parse().expect("position")));
        }
        assert_eq!(logins.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_silent_node_does_not_keep_the_others_waiting() {
        let ((port, _), silent, (never, _writer)) = (server(), silent(), never());
        let mut watch = Watch::new().expect("watch");
        let began = Instant::now();
        for _ in 0..3 {
            let deadline = Deadline::after(Duration::from_millis(300));
            let questions = vec![question(0, silent.local_addr().expect("address").port()), question(1, port)];
            let answers = watch.ask(questions, deadline, never.as_fd(), || false).expect("answers");
            assert!(matches!(answers[&0], Err(Trouble::Silent(_))), "{answers:?}");
            assert!(answers[&1].is_ok(), "{answers:?}");
        }
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }

    #[test]
    fn nobody_waits_when_told_to_leave() {
        let (silent, (wake, writer)) = (silent(), never());
        nix::unistd::write(&writer, b"1").expect("write");
        let began = Instant::now();
        let questions = vec![question(0, silent.local_addr().expect("address").port())];
        let told = Watch::new().expect("watch").ask(questions, Deadline::NEVER, wake.as_fd(), || true);
        assert!(told.is_none() && began.elapsed() < Duration::from_secs(4));
    }
}
