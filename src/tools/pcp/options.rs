//! The command line of a PCP client (pcp 9.1-9.4).
//!
//! The table of long options is one for all programs, as scripts abbreviate them by it; so an option of another program is
//! taken without a word if it takes no decision, and refused if it does.

use super::DEFAULT_PORT;
use super::program::{Kind, Program, Subject};
use crate::tools::getopt::{Long, Reader, long};
use crate::wire::pcp::{Scope, StopMode};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// The short options of all programs.
const SHORT: &str = "h:p:U:wWdv";
/// Letters of what has no short option.
const JSON: u8 = b'j';
const STRICT: u8 = b'S';
const TIMEOUT: u8 = b't';

const LONG: &[Long] = &[
    long("debug", false, b'd'),
    long("host", true, b'h'),
    long("port", true, b'p'),
    long("process-id", true, b'P'),
    long("username", true, b'U'),
    long("no-password", false, b'w'),
    long("password", false, b'W'),
    long("mode", true, b'm'),
    long("scope", true, b's'),
    long("gracefully", false, b'g'),
    long("switchover", false, b's'),
    long("verbose", false, b'v'),
    long("all", false, b'a'),
    long("node-id", true, b'n'),
    long("watchdog-id", true, b'n'),
    long("json", false, JSON),
    long("strict", false, STRICT),
    long("timeout", true, TIMEOUT),
];

/// The reply to an ordinary request comes within this time: a node that is looked at may take its `connect_timeout`.
const ORDINARY_LIMIT: Duration = Duration::from_secs(10 * 60);
/// The reply to a request that waits for sessions or for a server to be copied.
const LASTING_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// When to ask for a password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Asking {
    /// If .pcppass has none.
    #[default]
    IfNeeded,
    /// `-W`: before connecting.
    Always,
    /// `-w`.
    Never,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    #[default]
    Plain,
    Verbose,
    Json,
}

/// A command line that can be carried out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Host name, address or directory of the Unix socket; empty if not given.
    pub host: String,
    pub port: u16,
    pub user: Option<Vec<u8>>,
    pub asking: Asking,
    pub debug: bool,
    pub form: Form,
    /// A node, a pgpool or a process: [`Subject`] tells.
    pub id: Option<i32>,
    pub all: bool,
    pub gracefully: bool,
    pub switchover: bool,
    pub mode: StopMode,
    pub scope: Scope,
    pub strict: bool,
    /// How long the reply may take; `None`: for ever.
    pub limit: Option<Duration>,
    /// To be told before anything is done.
    pub warnings: Vec<String>,
}

/// A command line that ends here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slip {
    Help,
    Version,
    Wrong { message: String, status: i32 },
}

/// Reads `arguments`, which begin with the program's name.
pub(super) fn parse(program: &Program, arguments: Vec<OsString>) -> Result<Options, Slip> {
    match arguments.get(1).and_then(|first| first.to_str()) {
        Some("-?" | "--help") => return Err(Slip::Help),
        Some("-V" | "--version") => return Err(Slip::Version),
        _ => {}
    }
    // It counts for slips in front of it, too.
    let strict = arguments.iter().any(|argument| argument == "--strict");
    let short = format!("{SHORT}{}", program.short);
    let mut reader = Reader::new(arguments, &short, LONG);
    let mut options = Options {
        host: String::new(),
        port: DEFAULT_PORT,
        user: None,
        asking: Asking::default(),
        debug: false,
        form: Form::default(),
        id: None,
        all: false,
        gracefully: false,
        switchover: false,
        mode: StopMode::default(),
        scope: Scope::default(),
        strict,
        limit: Some(if program.may_last() { LASTING_LIMIT } else { ORDINARY_LIMIT }),
        warnings: Vec::new(),
    };
    let check = Check { program, strict };
    let try_help = |message: String| check.wrong(format!("{message}{}", check.try_help()));
    while let Some((letter, value)) = reader.next().map_err(try_help)? {
        let text = value.as_ref().map(|value| value.to_string_lossy().into_owned());
        let word = || text.clone().unwrap_or_default();
        match (letter, program.kind) {
            (b'h', _) => options.host = word(),
            (b'p', _) => options.port = check.port(&word())?,
            (b'U', _) => options.user = value.map(OsStringExt::into_vec),
            (b'w', _) => options.asking = Asking::Never,
            (b'W', _) => options.asking = Asking::Always,
            (b'd', _) => options.debug = true,
            (b'v', _) if options.form == Form::Plain => options.form = Form::Verbose,
            (b'v', _) => {}
            (JSON, _) if program.prints_records() => options.form = Form::Json,
            (TIMEOUT, _) => options.limit = check.seconds(&word())?,
            (STRICT, _) => {}
            (b'n' | b'P', _) => options.id = check.id(&word())?,
            (b'a', _) => options.all = true,
            (b'g', _) => options.gracefully = true,
            (b'm', Kind::StopPgpool) => options.mode = check.mode(&word())?,
            (b's', Kind::PromoteNode) if text.is_none() => options.switchover = true,
            (b's', Kind::StopPgpool | Kind::ReloadConfig | Kind::LogRotate) if text.is_some() => {
                options.scope = check.scope(&word())?;
            }
            _ => {
                let what = text.unwrap_or_else(|| if letter == JSON { "--json" } else { "--switchover" }.to_owned());
                return Err(check.wrong(format!("Invalid argument \"{what}\", {}", check.try_help_line())));
            }
        }
    }
    let mut operands = reader.operands.into_iter().map(|operand| operand.to_string_lossy().into_owned());
    if options.id.is_none()
        && program.subject != Subject::None
        && let Some(operand) = operands.next()
    {
        options.id = check.id(&operand)?;
    }
    let ignored = |operand| format!("{}: Warning: extra command-line argument \"{operand}\" ignored\n", program.name);
    options.warnings.extend(operands.map(ignored));
    if program.subject == Subject::Node && options.id.is_none() {
        return Err(check.wrong(format!("{}: missing node-id\n{}", program.name, check.try_help())));
    }
    Ok(options)
}

/// Checks of values, with the messages of this program.
struct Check<'a> {
    program: &'a Program,
    strict: bool,
}

impl Check<'_> {
    fn wrong(&self, message: String) -> Slip {
        Slip::Wrong { message, status: 1 }
    }

    /// A value out of its range, for which the original's exit status is 0.
    fn out_of_range(&self, message: &str) -> Slip {
        Slip::Wrong { message: format!("{}: {message}\n", self.program.name), status: i32::from(self.strict) }
    }

    fn try_help_line(&self) -> String {
        format!("Try \"{} --help\" for more information.\n", self.program.name)
    }

    fn try_help(&self) -> String {
        self.try_help_line() + "\n"
    }

    fn port(&self, word: &str) -> Result<u16, Slip> {
        let message = || format!("Invalid port number \"{word}\", must be between 1024 and 65535");
        word.parse().ok().filter(|port| *port > 1024).ok_or_else(|| self.out_of_range(&message()))
    }

    /// `None` for the id of an option that this program does not have.
    fn id(&self, word: &str) -> Result<Option<i32>, Slip> {
        let number = word.parse::<i32>().ok();
        let (valid, message) = match self.program.subject {
            Subject::None => return Ok(None),
            Subject::Node | Subject::NodeOrAll => (
                number.filter(|id| (0..=128).contains(id)),
                format!("Invalid node-id \"{word}\", must be between 0 and 128"),
            ),
            Subject::Watchdog => (
                number.filter(|id| *id >= 0),
                format!("Invalid watchdog-id \"{word}\", must be a positive number or zero for a local watchdog node"),
            ),
            Subject::Process => {
                (number.filter(|id| *id > 0), format!("Invalid process-id \"{word}\", must be greater than 0"))
            }
        };
        valid.map(Some).ok_or_else(|| self.out_of_range(&message))
    }

    fn seconds(&self, word: &str) -> Result<Option<Duration>, Slip> {
        let message = || format!("{}: Invalid timeout \"{word}\", must be a number of seconds\n", self.program.name);
        let seconds = word.parse::<u32>().map_err(|_| self.wrong(message()))?;
        Ok((seconds > 0).then(|| Duration::from_secs(seconds.into())))
    }

    fn mode(&self, word: &str) -> Result<StopMode, Slip> {
        match word {
            "s" | "smart" => Ok(StopMode::Smart),
            "f" | "fast" => Ok(StopMode::Fast),
            "i" | "immediate" => Ok(StopMode::Immediate),
            _ => Err(self.wrong(format!(
                "{}: Invalid shutdown mode \"{word}\", must be either \"smart\" \"immediate\" or \"fast\" \n",
                self.program.name
            ))),
        }
    }

    fn scope(&self, word: &str) -> Result<Scope, Slip> {
        match word {
            "c" | "cluster" => Ok(Scope::Cluster),
            "l" | "local" => Ok(Scope::Local),
            _ => Err(self.wrong(format!(
                "{}: Invalid command scope \"{word}\", must be either \"cluster\" or \"local\" \n",
                self.program.name
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Options, Slip> {
        let words = words.split(' ').collect::<Vec<_>>();
        let program = Program::named(words[0]).expect("a program");
        parse(program, words.iter().map(OsString::from).collect())
    }

    fn wrong(words: &str) -> (String, i32) {
        match read(words) {
            Err(Slip::Wrong { message, status }) => (message, status),
            other => panic!("{words}: {other:?}"),
        }
    }

    #[test]
    fn options_stand_anywhere() {
        let options = read("pcp_promote_node 3 -h db -p 9999 -Ujoe -w --grace -s --strict").expect("read");
        assert_eq!((options.host.as_str(), options.port, options.id), ("db", 9999, Some(3)));
        assert_eq!(options.user.as_deref(), Some(&b"joe"[..]));
        assert_eq!(options.asking, Asking::Never);
        assert!(options.gracefully && options.switchover && options.strict);
        assert_eq!(options.limit, Some(LASTING_LIMIT));
        let options = read("pcp_stop_pgpool --mode=fast -sc -a").expect("read");
        assert_eq!(
            (options.mode, options.scope, options.limit),
            (StopMode::Fast, Scope::Cluster, Some(ORDINARY_LIMIT))
        );
        let options = read("pcp_proc_info -P 77 -v --json --timeout 0").expect("read");
        assert_eq!((options.id, options.form, options.limit), (Some(77), Form::Json, None));
        assert_eq!(read("pcp_node_info").expect("read").id, None);
    }

    #[test]
    fn extra_operands_are_told() {
        let warning = |word| format!("pcp_node_info: Warning: extra command-line argument \"{word}\" ignored\n");
        assert_eq!(read("pcp_node_info -n 1 5 6").expect("read").warnings, [warning(5), warning(6)]);
        assert_eq!(read("pcp_node_info 1 6").expect("read").warnings, [warning(6)]);
        assert_eq!(read("pcp_node_count 6").expect("read").warnings.len(), 1);
    }

    #[test]
    fn slips_have_the_texts_and_statuses_of_the_original() {
        for (words, message, status) in [
            ("pcp_node_info -n 129", "pcp_node_info: Invalid node-id \"129\", must be between 0 and 128\n", 0),
            ("pcp_node_info -n x --strict", "pcp_node_info: Invalid node-id \"x\", must be between 0 and 128\n", 1),
            ("pcp_node_info -p 80", "pcp_node_info: Invalid port number \"80\", must be between 1024 and 65535\n", 0),
            ("pcp_proc_info 0", "pcp_proc_info: Invalid process-id \"0\", must be greater than 0\n", 0),
            (
                "pcp_watchdog_info -n -3",
                "pcp_watchdog_info: Invalid watchdog-id \"-3\", must be a positive number or zero for a local watchdog node\n",
                0,
            ),
            (
                "pcp_attach_node",
                "pcp_attach_node: missing node-id\nTry \"pcp_attach_node --help\" for more information.\n\n",
                1,
            ),
            (
                "pcp_attach_node --mode x 1",
                "Invalid argument \"x\", Try \"pcp_attach_node --help\" for more information.\n",
                1,
            ),
            (
                "pcp_attach_node --json 1",
                "Invalid argument \"--json\", Try \"pcp_attach_node --help\" for more information.\n",
                1,
            ),
            (
                "pcp_stop_pgpool -m x",
                "pcp_stop_pgpool: Invalid shutdown mode \"x\", must be either \"smart\" \"immediate\" or \"fast\" \n",
                1,
            ),
            (
                "pcp_reload_config -s y",
                "pcp_reload_config: Invalid command scope \"y\", must be either \"cluster\" or \"local\" \n",
                1,
            ),
            (
                "pcp_node_count -x",
                "pcp_node_count: invalid option -- 'x'\nTry \"pcp_node_count --help\" for more information.\n\n",
                1,
            ),
        ] {
            assert_eq!(wrong(words), (message.to_owned(), status), "{words}");
        }
        assert_eq!(read("pcp_node_count --help"), Err(Slip::Help));
        assert_eq!(read("pcp_node_count -V"), Err(Slip::Version));
        assert_eq!(wrong("pcp_node_count -w -V").1, 1);
    }
}
