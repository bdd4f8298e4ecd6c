//! The log: reports through crate `log`, written by `env_logger` in the original's line format (process-model 10.3) or as
//! JSON; and to syslog.
//!
//! One write per message, so that lines of different processes are not mixed ([`Sink`]). The log must never stop the
//! service. What clients and servers say cannot pass for a line of its own, nor play tricks on the reader's terminal
//! ([`inert`]).

use super::sink::Sink;
use super::{LinePrefix, Report, Severity, Syslog, fold, identity, json};
use parking_lot::RwLock;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// Target of our own records; records of libraries carry their module path and are left out.
const TARGET: &str = "pgpool";

/// What the configuration says about the log.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// `log_line_prefix`.
    pub prefix: LinePrefix,
    /// `log_min_messages`.
    pub min_messages: Severity,
    /// `log_error_verbosity`.
    pub verbosity: Verbosity,
    /// `log_format`.
    pub format: Format,
    /// `log_fold_repeated`.
    pub folds: bool,
    /// Whether `log_destination` names stderr.
    pub stderr: bool,
    /// Syslog, if `log_destination` names it.
    pub syslog: Option<Syslog>,
}

impl Default for LogSettings {
    /// Messages without a prefix on stderr.
    fn default() -> Self {
        Self {
            prefix: LinePrefix::default(),
            min_messages: Severity::Warning,
            verbosity: Verbosity::Default,
            format: Format::Text,
            folds: false,
            stderr: true,
            syslog: None,
        }
    }
}

/// `log_format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines with a prefix, as the original's.
    Text,
    /// One JSON object a line.
    Json,
}

/// `log_error_verbosity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Only the message line.
    Terse,
    /// With DETAIL, HINT and CONTEXT lines.
    Default,
    /// With a LOCATION line, too: where in the source the message was made.
    Verbose,
}

static SETTINGS: RwLock<Option<LogSettings>> = RwLock::new(None);
static MIN_MESSAGES: AtomicU8 = AtomicU8::new(Severity::Warning as u8);
/// The service runs; before that everything is for the terminal.
static SERVES: AtomicBool = AtomicBool::new(false);
static LINES: AtomicU64 = AtomicU64::new(0);

/// Sets up the log on stderr. Called once, by the program's entry point; a second call changes nothing.
pub fn init() {
    let _ = env_logger::Builder::new()
        .filter_module(TARGET, log::LevelFilter::Trace)
        .write_style(env_logger::WriteStyle::Never)
        .target(env_logger::Target::Pipe(Box::new(Sink::default())))
        .format(|out, record| write!(out, "{}", record.args()))
        .try_init();
}

/// Takes over what the configuration says; also after a reload, and in a session after PGPOOL SET.
pub fn configure(settings: LogSettings) {
    MIN_MESSAGES.store(settings.min_messages.number(), Ordering::Relaxed);
    *SETTINGS.write() = Some(settings);
}

/// Whether a report of `severity` would be written: ask before building an expensive one.
pub fn is_logged(severity: Severity) -> bool {
    let threshold = Severity::from_number(MIN_MESSAGES.load(Ordering::Relaxed)).unwrap_or(Severity::Warning);
    severity.reaches_log(threshold)
}

/// From here on the log goes where `log_destination` says. What was said before is for whoever starts pgpool.
pub fn serve() {
    SERVES.store(true, Ordering::Relaxed);
}

/// The session or the process ends: what is known of repetitions is told.
pub fn finish() {
    if let Some(summary) = fold::finish() {
        put(&summary);
    }
}

/// A line that somebody else has written to stderr, as the log has it. That may be a pgpool which is to replace this one.
pub fn foreign_line(text: &[u8]) -> Vec<u8> {
    match SETTINGS.read().as_ref().map(|settings| settings.format) {
        Some(Format::Json) if !json::is_line(text) => {
            json::foreign(&String::from_utf8_lossy(text), std::process::id()).into_bytes()
        }
        _ => [text, b"\n"].concat(),
    }
}

pub(super) fn write(report: &Report) {
    if !is_logged(report.severity) {
        return;
    }
    let folds = SETTINGS.read().as_ref().is_some_and(|settings| settings.folds);
    let (summary, is_new) = if folds { fold::fold(report) } else { (None, true) };
    if let Some(summary) = summary {
        put(&summary);
    }
    if is_new {
        put(report);
    }
}

/// Writes `report` to the destinations. What syslog does not take goes to stderr.
fn put(report: &Report) {
    let (stderr, syslog) = match SETTINGS.read().as_ref() {
        Some(settings) if SERVES.load(Ordering::Relaxed) => (settings.stderr, settings.syslog.clone()),
        _ => (true, None),
    };
    let is_told = syslog.is_some_and(|syslog| syslog.send(report.severity, &text(report)));
    if stderr || !is_told {
        log::log!(target: TARGET, level(report.severity), "{}", render(report));
    }
}

fn level(severity: Severity) -> log::Level {
    match severity {
        Severity::Error | Severity::Fatal | Severity::Panic => log::Level::Error,
        Severity::Warning => log::Level::Warn,
        Severity::Log | Severity::Info | Severity::Notice => log::Level::Info,
        _ => log::Level::Debug,
    }
}

/// `report` in the format of the log.
pub fn render(report: &Report) -> String {
    // The lock is not held any more when it is taken again.
    let json = SETTINGS.read().as_ref().filter(|settings| settings.format == Format::Json).map(|json| json.verbosity);
    let Some(verbosity) = json else { return text(report) };
    let number = LINES.fetch_add(1, Ordering::Relaxed) + 1;
    json::line(report, &identity::current(), chrono::Local::now(), number, verbosity)
}

/// `report` as lines of text.
fn text(report: &Report) -> String {
    let settings = SETTINGS.read();
    let identity = identity::current();
    let now = chrono::Local::now();
    let mut out = String::with_capacity(160);
    let mut line = |label: &str, text: &str| {
        if let Some(settings) = settings.as_ref() {
            settings.prefix.expand(&identity, now, LINES.fetch_add(1, Ordering::Relaxed) + 1, &mut out);
        }
        let _ = writeln!(out, "{label}:  {}", inert(text.trim_end_matches('\n')));
    };
    line(report.severity.word(), &report.message);
    if settings.as_ref().is_some_and(|settings| settings.verbosity == Verbosity::Terse) {
        return out;
    }
    for (label, text) in [("DETAIL", &report.detail), ("HINT", &report.hint), ("CONTEXT", &report.context)] {
        if let Some(text) = text {
            line(label, text);
        }
    }
    if settings.as_ref().is_some_and(|settings| settings.verbosity == Verbosity::Verbose) {
        line("LOCATION", &report.origin.to_string());
    }
    out
}

/// `text` with its further lines indented, so that every line of the log has an owner, and control characters in words:
/// `\x1b`. Tabs stay, and so do line ends of Windows.
fn inert(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => out.push_str("\n\t"),
            '\t' => out.push(c),
            '\r' if chars.peek() == Some(&'\n') => out.push(c),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_carry_label_and_continuation_tabs() {
        let report = Report::warning("two\nlines").detail("why").hint("what");
        assert_eq!(render(&report), "WARNING:  two\n\tlines\nDETAIL:  why\nHINT:  what\n");
    }

    #[test]
    fn control_characters_are_written_in_words() {
        assert_eq!(inert("plain\ttext \u{e9}"), "plain\ttext \u{e9}");
        assert_eq!(inert("a\r\nb\rc\0d\x1b[1m\u{9b}"), "a\r\n\tb\\x0dc\\x00d\\x1b[1m\\x9b");
    }
}
