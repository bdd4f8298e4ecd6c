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
    /// CopyDone or CopyFail sent ahead of the server's request for data: nothing by itself, but Syncs in front of it are
    /// ignored by a server in copy mode and those behind it are not.
    CopyEnd,
    /// A message that turned out to be ignored.
    Nothing,
}

impl Awaited {
    fn is_mark(self) -> bool {
        matches!(self, Self::CopyEnd | Self::Nothing)
    }

    fn is_extended(self) -> bool {
        !matches!(self, Self::Query | Self::FunctionCall)
    }

    /// Whether it makes the server send what it has to say.
    fn sends_answers(self) -> bool {
        matches!(self, Self::Query | Self::FunctionCall | Self::Sync)
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
    /// Number of the message that it answers; see [`ReplyQueue::last_number`].
    pub number: u64,
    /// How many messages, from that one on, have failed or will not be done because of it.
    pub failed: u64,
    /// How many of those are Parse.
    pub failed_parses: usize,
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
    /// Number of the first entry.
    first: u64,
    /// A Flush was sent behind the last entry.
    flushed: bool,
    /// Number behind the last entry that a Flush was sent for.
    asked: u64,
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
        self.flushed = false;
        true
    }

    /// A Flush was sent.
    pub fn flush_sent(&mut self) {
        self.flushed = !self.skipping && !self.copying_in;
        if self.flushed {
            self.asked = self.first.wrapping_add(self.entries.len() as u64);
        }
    }

    /// CopyDone or CopyFail was sent: the server reads ordinary messages again.
    pub fn copy_in_ended(&mut self) {
        if self.copying_in {
            self.copying_in = false;
        } else if !self.is_empty() {
            self.entries.push_back(Entry { awaited: Awaited::CopyEnd, deliver: Deliver::Silent });
        }
    }

    /// Messages are numbered as they are sent; this is the number of the last one.
    pub fn last_number(&self) -> u64 {
        self.first.wrapping_add(self.entries.len() as u64).wrapping_sub(1)
    }

    /// Number of the message that is answered first, if one is outstanding.
    pub fn first_number(&self) -> u64 {
        self.first
    }

    /// Whether the server reads copy data.
    pub fn is_copying_in(&self) -> bool {
        self.copying_in
    }

    /// Whether the server ignores everything up to the next Sync.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Number of messages that are not answered yet.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is owed. A server that skips to the next Sync still owes nothing.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether nothing is owed to the client.
    #[inline]
    pub fn owes_client(&self) -> bool {
        self.entries.iter().any(|entry| entry.deliver != Deliver::Silent)
    }

    /// Whether the server has seen everything up to a Sync or a simple query: it is ready for anything new.
    pub fn is_settled(&self) -> bool {
        self.entries.is_empty() && !self.skipping
    }

    /// Whether the server answers without being asked further: otherwise its answers may stay in its buffer until a Sync
    /// or Flush.
    #[inline]
    pub fn will_answer(&self) -> bool {
        match self.entries.iter().rev().find(|entry| !entry.awaited.is_mark()) {
            Some(last) => self.flushed || last.awaited.sends_answers(),
            None => false,
        }
    }

    /// Whether the server is at something whose answer it sends without being asked further, whatever was sent behind that.
    pub fn is_working(&self) -> bool {
        let is_asked = !self.is_empty() && self.asked.wrapping_sub(self.first).cast_signed() > 0;
        is_asked || self.entries.iter().any(|entry| entry.awaited.sends_answers())
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

    /// Whether the client is owed the rest of one batch or simple query, and no more.
    pub fn owes_one_batch(&self) -> bool {
        let ends = |entry: &&Entry| entry.deliver == Deliver::Client && entry.awaited.sends_answers();
        self.entries.iter().filter(ends).count() == 1
    }

    /// Nothing that is outstanding is for anybody any more.
    pub fn hide_all(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.deliver = Deliver::Silent);
    }

    /// A message of type `kind` was received, its first byte that is: rows and copy data may still be on their way.
    /// NoticeResponse, NotificationResponse and ParameterStatus may come at any time and are not for this queue.
    #[inline]
    pub fn received(&mut self, kind: u8) -> Result<Step, Unexpected> {
        let number = self.first;
        let Some(&head) = self.entries.front() else {
            // A fatal error may come unasked; so may the end of a session.
            let step = Step { deliver: true, finished: None, number, failed: 0, failed_parses: 0 };
            return if kind == b'E' { Ok(step) } else { Err(Unexpected { kind, awaited: None }) };
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
            self.begin_copy_in();
        }
        if finished {
            self.drop_first(1);
        }
        let deliver = head.deliver == Deliver::Client;
        Ok(Step { deliver, finished: finished.then_some(head.awaited), number, failed: 0, failed_parses: 0 })
    }

    /// Takes `count` entries off the front, and what stands behind them only as a mark.
    #[inline]
    fn drop_first(&mut self, count: usize) {
        self.entries.drain(..count);
        self.first = self.first.wrapping_add(count as u64);
        while self.head().is_some_and(Awaited::is_mark) {
            self.entries.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// The server asks for copy data. It ignores the Syncs that reach it before the end of the data (clients send one right
    /// behind Execute), so they will not be answered.
    fn begin_copy_in(&mut self) {
        let end = self.entries.iter().position(|entry| entry.awaited == Awaited::CopyEnd);
        self.copying_in = end.is_none();
        self.asked = self.first;
        let ahead = end.map_or(self.entries.len(), |end| end + 1);
        for entry in self.entries.range_mut(1..ahead) {
            if matches!(entry.awaited, Awaited::Sync | Awaited::CopyEnd) {
                *entry = Entry { awaited: Awaited::Nothing, deliver: Deliver::Silent };
            }
        }
    }

    /// The head failed. In the extended protocol the server now ignores everything up to Sync: those answers never come.
    fn failed(&mut self, head: Entry) -> Step {
        let number = self.first;
        self.copying_in = false;
        let deliver = head.deliver != Deliver::Silent;
        if !head.awaited.is_extended() {
            return Step { deliver, finished: None, number, failed: 1, failed_parses: 0 };
        }
        let dropped = self.entries.iter().take_while(|entry| entry.awaited != Awaited::Sync).count();
        let failed_parses = self.entries.range(..dropped).filter(|entry| entry.awaited == Awaited::Parse).count();
        self.drop_first(dropped);
        self.skipping = self.entries.is_empty();
        Step { deliver, finished: None, number, failed: dropped as u64, failed_parses }
    }
}

#[cfg(test)]
mod tests;
