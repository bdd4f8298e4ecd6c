//! The reply queue of one server connection: what must still come back, in order (design decision 3).
//!
//! Each message sent pushes an [`Awaited`] entry; each message received is matched against the head. Pipelines, errors up
//! to Sync, COPY and suspended portals are ordinary cases of the same rules (protocol 21, routing 13).

use std::collections::VecDeque;

/// What a message sent to a server makes it answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Query: anything, ended by ReadyForQuery.
    Query,
    /// FunctionCall: FunctionCallResponse and ReadyForQuery.
    FunctionCall,
    /// Parse: ParseComplete.
    Parse,
    /// Bind: BindComplete.
    Bind,
    /// Describe of a statement or portal: \[ParameterDescription\] and RowDescription or NoData.
    Describe,
    /// Execute: rows or copy data, ended by CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute,
    /// Close: CloseComplete.
    Close,
    /// Sync: ReadyForQuery.
    Sync,
}

impl Awaited {
    fn is_extended(self) -> bool {
        !matches!(self, Self::Query | Self::FunctionCall)
    }
}

/// Who gets the replies to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deliver {
    /// The client, who sent it.
    Client,
    /// Nobody: we sent it ourselves. Only an error is told to the client, in place of what its own next message would
    /// have met.
    Nobody,
    /// Nobody, errors included.
    Silent,
}

/// What to do with a message just received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whether the client gets it.
    pub deliver: bool,
    /// What it ended, if it was the last answer to a message.
    pub finished: Option<Awaited>,
    /// How many Parse messages will not be done because of it.
    pub failed_parses: usize,
}

impl Step {
    fn next(deliver: bool, finished: Option<Awaited>) -> Self {
        Self { deliver, finished, failed_parses: 0 }
    }
}

/// A message from a server that no rule allows now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unexpected {
    /// Type of the message.
    pub kind: u8,
    /// What was awaited.
    pub awaited: Option<Awaited>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    awaited: Awaited,
    deliver: Deliver,
}

/// The queue.
#[derive(Debug, Default)]
pub struct ReplyQueue {
    entries: VecDeque<Entry>,
    /// The server ignores everything up to the next Sync that is sent.
    skipping: bool,
    /// The server reads copy data: it ignores Sync until the copy ends.
    copying_in: bool,
}

impl ReplyQueue {
    /// A message that makes the server answer as `awaited` is sent. `false`: the server will ignore it, being past an
    /// error or in a copy.
    #[inline]
    pub fn sent(&mut self, awaited: Awaited, deliver: Deliver) -> bool {
        if self.skipping {
            if awaited != Awaited::Sync {
                return false;
            }
            self.skipping = false;
        }
        if self.copying_in && awaited == Awaited::Sync {
            return false;
        }
        self.entries.push_back(Entry { awaited, deliver });
        true
    }

    /// CopyDone or CopyFail was sent: the server reads ordinary messages again.
    pub fn copy_in_ended(&mut self) {
        self.copying_in = false;
    }

    /// Whether the server reads copy data.
    pub fn is_copying_in(&self) -> bool {
        self.copying_in
    }

    /// Whether nothing is owed. A server that skips to the next Sync still owes nothing.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the server has seen everything up to a Sync or a simple query: it is ready for anything new.
    pub fn is_settled(&self) -> bool {
        self.entries.is_empty() && !self.skipping
    }

    /// Whether the last message sent makes the server answer without being asked further: otherwise its answers may stay
    /// in its buffer until a Sync or Flush.
    pub fn will_answer(&self) -> bool {
        self.entries.back().is_some_and(|entry| !entry.awaited.is_extended() || entry.awaited == Awaited::Sync)
    }

    /// What is awaited first.
    pub fn head(&self) -> Option<Awaited> {
        self.entries.front().map(|entry| entry.awaited)
    }

    /// Whether what is awaited first is for the client.
    #[inline]
    pub fn delivers(&self) -> bool {
        self.entries.front().is_none_or(|entry| entry.deliver == Deliver::Client)
    }

    /// A message of type `kind` was received, its first byte that is: rows and copy data may still be on their way.
    /// NoticeResponse, NotificationResponse and ParameterStatus may come at any time and are not for this queue.
    #[inline]
    pub fn received(&mut self, kind: u8) -> Result<Step, Unexpected> {
        let Some(&head) = self.entries.front() else {
            // A fatal error may come unasked; so may the end of a session.
            return if kind == b'E' { Ok(Step::next(true, None)) } else { Err(Unexpected { kind, awaited: None }) };
        };
        if kind == b'E' {
            return Ok(self.failed(head));
        }
        let finished = match (head.awaited, kind) {
            (Awaited::Query | Awaited::FunctionCall | Awaited::Sync, b'Z') => {
                self.copying_in = false;
                true
            }
            (Awaited::Query, b'T' | b'D' | b'C' | b'I' | b'G' | b'H' | b'W' | b'd' | b'c') => false,
            (Awaited::FunctionCall, b'V') => false,
            (Awaited::Parse, b'1') | (Awaited::Bind, b'2') | (Awaited::Close, b'3') => true,
            (Awaited::Describe, b't') => false,
            (Awaited::Describe, b'T' | b'n') => true,
            (Awaited::Execute, b'D' | b'G' | b'H' | b'W' | b'd' | b'c') => false,
            (Awaited::Execute, b'C' | b'I' | b's') => true,
            _ => return Err(Unexpected { kind, awaited: Some(head.awaited) }),
        };
        if kind == b'G' {
            self.begin_copy_in(head.awaited);
        }
        if finished {
            self.entries.pop_front();
        }
        Ok(Step::next(head.deliver == Deliver::Client, finished.then_some(head.awaited)))
    }

    /// The server asks for copy data. It ignores the Syncs that reached it before the data (clients send one right
    /// behind Execute), so they will not be answered.
    fn begin_copy_in(&mut self, head: Awaited) {
        self.copying_in = true;
        if head == Awaited::Execute {
            while self.entries.get(1).is_some_and(|entry| entry.awaited == Awaited::Sync) {
                self.entries.remove(1);
            }
        }
    }

    /// The head failed. In the extended protocol the server now ignores everything up to Sync: those answers never come.
    fn failed(&mut self, head: Entry) -> Step {
        self.copying_in = false;
        let deliver = head.deliver != Deliver::Silent;
        if head.awaited.is_extended() {
            let dropped = self.entries.iter().take_while(|entry| entry.awaited != Awaited::Sync).count();
            let failed_parses = self.entries.drain(..dropped).filter(|entry| entry.awaited == Awaited::Parse).count();
            self.skipping = self.entries.is_empty();
            return Step { deliver, finished: None, failed_parses };
        }
        Step::next(deliver, None)
    }
}

#[cfg(test)]
mod tests {
    use super::Awaited::*;
    use super::*;

    fn queue(sent: &[Awaited]) -> ReplyQueue {
        let mut queue = ReplyQueue::default();
        sent.iter().for_each(|awaited| assert!(queue.sent(*awaited, Deliver::Client)));
        queue
    }

    fn feed(queue: &mut ReplyQueue, kinds: &[u8]) {
        for kind in kinds {
            assert!(queue.received(*kind).is_ok_and(|step| step.deliver), "{:?}", *kind as char);
        }
    }

    #[test]
    fn a_pipeline_is_answered_in_order() {
        let mut queue = queue(&[Parse, Bind, Describe, Execute, Close, Sync, Query]);
        feed(&mut queue, b"12TDDC3ZTDCZ");
        assert!(queue.is_settled());
    }

    #[test]
    fn an_error_drops_the_answers_up_to_sync() {
        let mut queue = queue(&[Parse, Bind, Execute, Parse, Execute, Sync, Parse, Sync]);
        feed(&mut queue, b"12EZ1Z");
        assert!(queue.is_settled());
    }

    #[test]
    fn after_an_error_nothing_counts_until_sync_is_sent() {
        let mut queue = queue(&[Parse]);
        feed(&mut queue, b"E");
        assert!(queue.is_empty() && !queue.is_settled());
        queue.sent(Bind, Deliver::Client);
        queue.sent(Query, Deliver::Client);
        assert!(queue.is_empty());
        queue.sent(Sync, Deliver::Client);
        feed(&mut queue, b"Z");
        assert!(queue.is_settled());
    }

    #[test]
    fn syncs_sent_before_and_during_copy_in_are_not_answered() {
        let mut queue = queue(&[Bind, Execute, Sync]);
        feed(&mut queue, b"2G");
        queue.sent(Sync, Deliver::Client);
        queue.copy_in_ended();
        queue.sent(Sync, Deliver::Client);
        feed(&mut queue, b"CZ");
        assert!(queue.is_settled());
    }

    #[test]
    fn a_failing_copy_in_skips_to_the_sync_behind_it() {
        let mut queue = queue(&[Execute]);
        feed(&mut queue, b"GE");
        queue.copy_in_ended();
        queue.sent(Sync, Deliver::Client);
        feed(&mut queue, b"Z");
        assert!(queue.is_settled());
    }

    #[test]
    fn our_own_messages_stay_hidden_except_for_their_errors() {
        let mut queue = ReplyQueue::default();
        queue.sent(Parse, Deliver::Nobody);
        queue.sent(Bind, Deliver::Client);
        assert_eq!(queue.received(b'1'), Ok(Step::next(false, Some(Parse))));
        feed(&mut queue, b"2");
        queue.sent(Query, Deliver::Silent);
        assert_eq!(queue.received(b'E'), Ok(Step::next(false, None)));
        assert_eq!(queue.received(b'Z'), Ok(Step::next(false, Some(Query))));
    }

    #[test]
    fn what_no_rule_allows_is_an_error() {
        assert_eq!(queue(&[Query]).received(b'1'), Err(Unexpected { kind: b'1', awaited: Some(Query) }));
        assert_eq!(queue(&[]).received(b'Z'), Err(Unexpected { kind: b'Z', awaited: None }));
        assert_eq!(queue(&[]).received(b'E'), Ok(Step::next(true, None)));
        assert_eq!(queue(&[Parse]).received(b'Z'), Err(Unexpected { kind: b'Z', awaited: Some(Parse) }));
    }
}
