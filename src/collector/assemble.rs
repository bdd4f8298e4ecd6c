//! What arrives in the pipe, put together to whole messages.
//!
//! Frames of many processes come in any order; between them there may be text that is no frame: of scripts, of programs
//! that libraries run, of a process that crashes. Memory is bounded: when unfinished messages take too much, the oldest is
//! given out as far as it has come.

use crate::report::frame::{HEADER, Header};
use std::time::{Duration, Instant};

/// Bytes of all unfinished messages together, at most.
const LIMIT: usize = 8 << 20;
/// Unfinished messages at most.
const MESSAGES: usize = 1024;
/// Bytes of a line of text that is no frame; a longer one is given out in pieces.
const LINE: usize = 64 * 1024;
/// The end of a message is not waited for any longer: its process has died.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whole messages, each ending in a newline.
#[derive(Debug, Default)]
pub struct Assembler {
    /// Read, and not yet a whole frame.
    rest: Vec<u8>,
    /// Begun, oldest first.
    unfinished: Vec<Unfinished>,
    /// A line that is no frame.
    line: Vec<u8>,
    line_since: Option<Instant>,
}

#[derive(Debug)]
struct Unfinished {
    pid: u32,
    text: Vec<u8>,
    since: Instant,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A message of ours.
    Message(Vec<u8>),
    /// A line of somebody else, without its newline.
    Foreign(Vec<u8>),
}

impl Assembler {
    /// Takes `bytes` of the pipe, and appends to `out` what is complete with them.
    pub fn take(&mut self, bytes: &[u8], out: &mut Vec<Piece>) {
        self.rest.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.rest);
        let mut left = all.as_slice();
        while !left.is_empty() {
            // A zero byte may be the first of a frame whose header is still to come.
            if left[0] == 0 && left.len() < HEADER && left[1..].first().is_none_or(|next| *next == 0) {
                break;
            }
            if let Some(header) = Header::read(left) {
                let Some(payload) = left.get(HEADER..HEADER + header.length) else { break };
                self.end_line(out);
                self.frame(header, payload, out);
                left = &left[HEADER + header.length..];
            } else {
                let length = text_length(left);
                self.text(&left[..length], out);
                left = &left[length..];
            }
        }
        self.rest = left.to_vec();
        self.keep_bounds(out);
    }

    /// Whether something waits for its end.
    pub fn waits(&self) -> bool {
        !self.unfinished.is_empty() || self.line_since.is_some()
    }

    /// Gives up what waits for its end for too long.
    pub fn give_up_old(&mut self, out: &mut Vec<Piece>) {
        let is_old = |since: Instant| since.elapsed() >= PATIENCE;
        let old = self.unfinished.extract_if(.., |message| is_old(message.since));
        out.extend(old.map(|message| Piece::Message(ended(message.text))));
        if self.line_since.is_some_and(is_old) {
            self.end_line(out);
        }
    }

    /// Nothing comes any more: gives out everything as far as it has come.
    pub fn finish(&mut self, out: &mut Vec<Piece>) {
        let rest = std::mem::take(&mut self.rest);
        self.text(&rest, out);
        self.end_line(out);
        out.extend(self.unfinished.drain(..).map(|message| Piece::Message(ended(message.text))));
    }

    fn frame(&mut self, header: Header, payload: &[u8], out: &mut Vec<Piece>) {
        let known = self.unfinished.iter().position(|message| message.pid == header.pid);
        let mut message = match known.map(|at| self.unfinished.remove(at)) {
            // Its process has given up the last message, or it is another process of that id.
            Some(message) if header.first => {
                out.push(Piece::Message(ended(message.text)));
                None
            }
            message => message,
        }
        .unwrap_or_else(|| Unfinished { pid: header.pid, text: Vec::new(), since: Instant::now() });
        message.text.extend_from_slice(payload);
        if header.last {
            out.push(Piece::Message(ended(message.text)));
        } else {
            message.since = Instant::now();
            self.unfinished.push(message);
        }
    }

    fn text(&mut self, text: &[u8], out: &mut Vec<Piece>) {
        for byte in text {
            if *byte == b'\n' || self.line.len() >= LINE {
                self.end_line(out);
            }
            if *byte != b'\n' {
                self.line_since.get_or_insert_with(Instant::now);
                self.line.push(*byte);
            }
        }
    }

    fn end_line(&mut self, out: &mut Vec<Piece>) {
        self.line_since = None;
        if !self.line.is_empty() {
            out.push(Piece::Foreign(std::mem::take(&mut self.line)));
        }
    }

    fn keep_bounds(&mut self, out: &mut Vec<Piece>) {
        let mut total: usize = self.unfinished.iter().map(|message| message.text.len()).sum();
        while total > LIMIT || self.unfinished.len() > MESSAGES {
            let oldest = self.unfinished.remove(0);
            total -= oldest.text.len();
            out.push(Piece::Message(ended(oldest.text)));
        }
    }
}

/// How many bytes at the front of `bytes` are certainly text: up to where a frame may begin.
fn text_length(bytes: &[u8]) -> usize {
    memchr::memchr(0, &bytes[1..]).map_or(bytes.len(), |at| at + 1)
}

fn ended(mut text: Vec<u8>) -> Vec<u8> {
    if text.last() != Some(&b'\n') {
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::frame::{PAYLOAD, frames};

    fn message(text: &[u8]) -> Piece {
        Piece::Message(text.to_vec())
    }

    fn foreign(text: &str) -> Piece {
        Piece::Foreign(text.as_bytes().to_vec())
    }

    fn take(assembler: &mut Assembler, bytes: &[u8]) -> Vec<Piece> {
        let mut out = Vec::new();
        assembler.take(bytes, &mut out);
        out
    }

    #[test]
    fn messages_of_many_processes_come_out_whole_wherever_reads_end() {
        let long = |letter: u8| [vec![letter; 3 * PAYLOAD], vec![b'\n']].concat();
        let (one, other) = (long(b'a'), long(b'b'));
        let mixed: Vec<u8> = frames(&one, 1).zip(frames(&other, 2)).flat_map(|(a, b)| [a, b].concat()).collect();
        for step in [1, 7, 4096, mixed.len()] {
            let mut assembler = Assembler::default();
            let mut out = Vec::new();
            mixed.chunks(step).for_each(|bytes| assembler.take(bytes, &mut out));
            assert!(out == [message(&one), message(&other)], "reads of {step} bytes");
            assert!(!assembler.waits() && assembler.rest.is_empty());
        }
    }

    #[test]
    fn text_between_frames_is_a_line_of_its_own() {
        let mut assembler = Assembler::default();
        let frame: Vec<u8> = frames(b"LOG:  ours\n", 7).flatten().collect();
        assert_eq!(take(&mut assembler, b"Segmen"), []);
        assert_eq!(
            take(&mut assembler, &[b"tation fault".as_slice(), &frame].concat()),
            [foreign("Segmentation fault"), message(b"LOG:  ours\n")]
        );
        assert_eq!(take(&mut assembler, b"\none\n\ntwo\n"), [foreign("one"), foreign("two")]);
        assert_eq!(
            take(&mut assembler, b"a\0b\n\0\0\0\0\0\0\0\0\0no frame\n"),
            [foreign("a\0b"), foreign("\0\0\0\0\0\0\0\0\0no frame")]
        );
    }

    #[test]
    fn a_message_without_end_is_given_out_when_its_process_begins_another() {
        let mut assembler = Assembler::default();
        let begun = frames(&[b'x'; PAYLOAD + 1], 7).next().expect("a frame");
        let next: Vec<u8> = frames(b"next\n", 7).flatten().collect();
        assert_eq!(take(&mut assembler, &begun), []);
        assert_eq!(take(&mut assembler, &next), [message(&[&[b'x'; PAYLOAD][..], b"\n"].concat()), message(b"next\n")]);
        let mut out = Vec::new();
        assert_eq!(take(&mut assembler, &begun), []);
        assembler.finish(&mut out);
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut assembler = Assembler::default();
        let mut out = Vec::new();
        let held = |assembler: &Assembler| assembler.unfinished.iter().map(|one| one.text.len()).sum::<usize>();
        for pid in 0..5 {
            let endless = frames(&[b'x'; LIMIT], pid).next().expect("a frame");
            let body = frames(&[b'x'; 3 * PAYLOAD], pid).nth(1).expect("a frame");
            assembler.take(&endless, &mut out);
            (0..LIMIT / PAYLOAD / 2).for_each(|_| assembler.take(&body, &mut out));
            assert!(held(&assembler) <= LIMIT);
        }
        assert!(!out.is_empty());
        let line = vec![b'x'; 3 * LINE];
        let pieces = take(&mut Assembler::default(), &line);
        assert_eq!(pieces.len(), 2);
    }
}
