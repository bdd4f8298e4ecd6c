//! The reply queue against a small model of a server: whatever a client sends, in whatever order sending, working and
//! receiving take turns, every answer is one that the queue awaits, and in the end nothing is owed.

use pgpool::backend::{Awaited, Deliver, ReplyQueue};
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};

/// What a client sends. A flag says whether the server will find fault with it.
#[derive(Clone, Debug)]
enum Message {
    /// Answered by these kinds, which end in an error if it fails.
    Query {
        kinds: Vec<u8>,
        fails: bool,
        silent: bool,
    },
    /// COPY FROM STDIN as a simple query.
    QueryCopy {
        fails: bool,
    },
    FunctionCall {
        fails: bool,
    },
    /// Parse, Bind, Describe, Execute or Close with the kinds of its answer.
    Extended {
        awaited: Awaited,
        kinds: &'static [u8],
        fails: bool,
    },
    /// Execute of COPY FROM STDIN.
    ExecuteCopy {
        fails: bool,
    },
    Sync,
    CopyData {
        fails: bool,
    },
    CopyDone {
        fails: bool,
    },
    CopyFail,
}

/// The server: works on one message at a time.
#[derive(Default)]
struct Server {
    /// It ignores everything up to Sync.
    skipping: bool,
    /// It reads copy data; whether a simple query asked for it.
    copying: Option<bool>,
}

impl Server {
    /// The kinds of the answer to `message`.
    fn work(&mut self, message: &Message) -> Vec<u8> {
        use Message::{CopyData, CopyDone, CopyFail, ExecuteCopy, Extended, FunctionCall, Query, QueryCopy, Sync};
        if let Some(simple) = self.copying {
            return match message {
                CopyDone { fails: false } => self.end_copy(b"C", simple),
                CopyData { fails: true } | CopyDone { fails: true } | CopyFail => {
                    self.skipping = !simple;
                    self.end_copy(b"E", simple)
                }
                // Also Sync: a server that reads copy data ignores it.
                _ => Vec::new(),
            };
        }
        if self.skipping && !matches!(message, Sync) {
            return Vec::new();
        }
        match message {
            Sync => {
                self.skipping = false;
                b"Z".to_vec()
            }
            Query { kinds, fails, .. } => [kinds.as_slice(), if *fails { &b"EZ"[..] } else { b"Z" }].concat(),
            FunctionCall { fails } => if *fails { b"EZ" } else { b"VZ" }.to_vec(),
            QueryCopy { fails: true } => b"EZ".to_vec(),
            Extended { fails: true, .. } | ExecuteCopy { fails: true } => {
                self.skipping = true;
                b"E".to_vec()
            }
            Extended { kinds, .. } => kinds.to_vec(),
            QueryCopy { .. } | ExecuteCopy { .. } => {
                self.copying = Some(matches!(message, QueryCopy { .. }));
                b"G".to_vec()
            }
            // What is left of a copy that failed.
            CopyData { .. } | CopyDone { .. } | CopyFail => Vec::new(),
        }
    }

    fn end_copy(&mut self, answer: &[u8], simple: bool) -> Vec<u8> {
        self.copying = None;
        if simple { [answer, b"Z"].concat() } else { answer.to_vec() }
    }
}

/// Tells the queue what is sent. `Some`: it is numbered.
fn send(queue: &mut ReplyQueue, message: &Message) -> Option<(u64, Deliver)> {
    let (awaited, deliver) = match message {
        Message::Query { silent: true, .. } => (Awaited::Query, Deliver::Silent),
        Message::Query { .. } | Message::QueryCopy { .. } => (Awaited::Query, Deliver::Client),
        Message::FunctionCall { .. } => (Awaited::FunctionCall, Deliver::Client),
        Message::Extended { awaited, .. } => (*awaited, Deliver::Client),
        Message::ExecuteCopy { .. } => (Awaited::Execute, Deliver::Client),
        Message::Sync => (Awaited::Sync, Deliver::Client),
        Message::CopyData { .. } => return None,
        Message::CopyDone { .. } | Message::CopyFail => {
            queue.copy_in_ended();
            return None;
        }
    };
    queue.sent(awaited, deliver).then(|| (queue.last_number(), deliver))
}

/// Client, server and queue with what is on its way between them.
#[derive(Default)]
struct Run {
    server: Server,
    queue: ReplyQueue,
    requests: VecDeque<Message>,
    answers: VecDeque<u8>,
    /// For whom the answers to numbered messages are.
    sent: HashMap<u64, Deliver>,
}

impl Run {
    fn send(&mut self, message: Message) {
        self.sent.extend(send(&mut self.queue, &message));
        self.requests.push_back(message);
    }

    fn work(&mut self) -> bool {
        let Some(message) = self.requests.pop_front() else { return false };
        self.answers.extend(self.server.work(&message));
        true
    }

    fn receive(&mut self) -> Result<bool, TestCaseError> {
        let Some(kind) = self.answers.pop_front() else { return Ok(false) };
        let step = self.queue.received(kind);
        prop_assert!(step.is_ok(), "{:?} for {}", step, kind as char);
        if let Ok(step) = step {
            let for_client = self.sent.get(&step.number) == Some(&Deliver::Client);
            prop_assert_eq!(step.deliver, for_client, "message {}, {}", step.number, kind as char);
        }
        Ok(true)
    }
}

fn extended() -> impl Strategy<Value = Message> {
    let kinds: Vec<(Awaited, &'static [u8])> = vec![
        (Awaited::Parse, b"1"),
        (Awaited::Bind, b"2"),
        (Awaited::Close, b"3"),
        (Awaited::Describe, b"n"),
        (Awaited::Describe, b"tT"),
        (Awaited::Describe, b"T"),
        (Awaited::Execute, b"DDC"),
        (Awaited::Execute, b"I"),
        (Awaited::Execute, b"Ds"),
        (Awaited::Execute, b"HddcC"),
    ];
    (prop::sample::select(kinds), fails()).prop_map(|((awaited, kinds), fails)| Message::Extended {
        awaited,
        kinds,
        fails,
    })
}

fn fails() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.15)
}

/// A copy is sent as a whole: a client may not send anything else before its end. Syncs directly behind Execute are what
/// libraries send.
fn copy() -> impl Strategy<Value = Vec<Message>> {
    let data = prop::collection::vec(fails().prop_map(|fails| Message::CopyData { fails }), 0..3);
    let end = prop_oneof![
        3 => fails().prop_map(|fails| Message::CopyDone { fails }),
        1 => Just(Message::CopyFail),
    ];
    (any::<bool>(), fails(), 0..3_usize, data, end).prop_map(|(simple, fails, syncs, data, end)| {
        let mut messages = if simple {
            vec![Message::QueryCopy { fails }]
        } else {
            [vec![Message::ExecuteCopy { fails }], vec![Message::Sync; syncs]].concat()
        };
        messages.extend(data);
        messages.push(end);
        messages
    })
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let kinds = prop::sample::select(vec![&b"TDDC"[..], b"C", b"I", b"TDCCTC", b"HdcC", b""]);
    let query = (kinds, fails(), prop::bool::weighted(0.1)).prop_map(|(kinds, fails, silent)| Message::Query {
        kinds: kinds.to_vec(),
        fails,
        silent,
    });
    let call = fails().prop_map(|fails| Message::FunctionCall { fails });
    let one = |message: BoxedStrategy<Message>| message.prop_map(|message| vec![message]).boxed();
    let unit = prop_oneof![
        6 => one(extended().boxed()),
        3 => one(Just(Message::Sync).boxed()),
        2 => one(query.boxed()),
        1 => one(call.boxed()),
        2 => copy().boxed(),
    ];
    prop::collection::vec(unit, 0..25).prop_map(|units| units.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_awaited_and_in_the_end_nothing_is_owed(
        messages in messages(),
        turns in prop::collection::vec(0..3_u8, 0..200),
    ) {
        let mut run = Run::default();
        let mut script = VecDeque::from(messages);
        // A client ends with Sync.
        script.push_back(Message::Sync);
        for turn in turns {
            match turn {
                0 => if let Some(message) = script.pop_front() { run.send(message) },
                1 => _ = run.work(),
                _ => _ = run.receive()?,
            }
        }
        script.into_iter().for_each(|message| run.send(message));
        while run.work() || run.receive()? {}
        prop_assert!(run.queue.is_settled() && run.queue.is_empty(), "{:?}", run.queue);
        prop_assert!(!run.queue.is_copying_in() && !run.queue.will_answer());
    }
}
