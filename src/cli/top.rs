//! `pgpool top`: nodes and load in a terminal, anew every second; plain text where there is no terminal.
//!
//! The figures are those of `/metrics`, so that it sees what Prometheus sees, also of a pgpool on another machine. PCP, which
//! is always there, does not tell how long answers take, nor who waits.

use super::EXIT_USAGE;
use super::options::TopOptions;
use crate::auth::base64;
use crate::config::LoadResult;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use std::io::{self, IsTerminal, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer at most.
const MAX_ANSWER: u64 = 64 << 20;
/// Moves to the upper left corner and clears the screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows until it is ended, or once. Returns the exit status.
pub(super) fn run(options: &TopOptions, loaded: LoadResult) -> i32 {
    let place = match Place::find(options, loaded) {
        Ok(place) => place,
        Err(message) => {
            eprintln!("pgpool: {message}");
            return EXIT_USAGE;
        }
    };
    let mut out = io::stdout();
    let is_terminal = out.is_terminal() && !options.once;
    let mut before = None;
    loop {
        let text = match place.look() {
            Ok(now) => {
                // What happens in a second takes two looks.
                let text = before.as_ref().map(|before| picture(&place, before, &now));
                before = Some(now);
                text
            }
            Err(message) if options.once || before.is_none() => {
                eprintln!("pgpool: {message}");
                return EXIT_USAGE;
            }
            Err(message) => Some(format!("{message}\n")),
        };
        if let Some(text) = text {
            let clear = if is_terminal { CLEAR } else { "" };
            let end = if is_terminal || options.once { "" } else { "\n" };
            // Nobody reads any more.
            if write!(out, "{clear}{text}{end}").and_then(|()| out.flush()).is_err() || options.once {
                return 0;
            }
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Where the figures are.
struct Place {
    host: String,
    port: u16,
    /// `user:password`.
    credentials: Option<String>,
}

impl Place {
    fn find(options: &TopOptions, loaded: LoadResult) -> Result<Self, String> {
        let configured = loaded.ok().map(|loaded| loaded.settings);
        let first = configured.as_ref().and_then(|settings| settings.metrics_listen_addresses.first());
        let first = first.map(|host| if ["*", "0.0.0.0", "::"].contains(&host.as_ref()) { "localhost" } else { host });
        let host = options.host.clone().or_else(|| first.map(str::to_owned)).ok_or(
            "there are no figures: set metrics_listen_addresses = 'localhost' in pgpool.conf and restart pgpool, or say with -h \
             and -p where they are",
        )?;
        let port = configured.and_then(|settings| u16::try_from(settings.metrics_port).ok());
        let port = options.port.or(port).unwrap_or(9719);
        let credentials = match &options.user {
            Some(user) => Some(format!("{user}:{}", ask_password().map_err(|error| error.to_string())?)),
            None => None,
        };
        Ok(Self { host, port, credentials })
    }

    fn look(&self) -> Result<Figures, String> {
        let text = self.fetch().map_err(|error| format!("no figures from {}:{}: {error}", self.host, self.port))?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        match head.split(' ').nth(1) {
            Some("200") => Ok(Figures { at: Instant::now(), samples: body.lines().filter_map(sample).collect() }),
            Some("401") => Err("a user of pcp.conf and his password are needed: -U NAME".to_owned()),
            _ => Err(format!("{}:{} answers: {}", self.host, self.port, head.lines().next().unwrap_or_default())),
        }
    }

    fn fetch(&self) -> io::Result<String> {
        let mut failure = io::Error::other("no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return self.ask(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn ask(&self, mut stream: TcpStream) -> io::Result<String> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let encoded = self.credentials.as_ref().map(|credentials| base64::encode(credentials.as_bytes()));
        let authorization = encoded.map(|encoded| format!("Authorization: Basic {encoded}\r\n")).unwrap_or_default();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {}\r\n{authorization}\r\n", self.host)?;
        let mut bytes = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A line from stdin; a terminal does not show it.
fn ask_password() -> io::Result<String> {
    let stdin = io::stdin();
    let shown = if stdin.is_terminal() { tcgetattr(&stdin).ok() } else { None };
    if let Some(shown) = &shown {
        eprint!("Password: ");
        let mut hidden = shown.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&stdin, SetArg::TCSANOW, &hidden)?;
    }
    let mut line = String::new();
    let outcome = stdin.read_line(&mut line);
    if let Some(shown) = &shown {
        eprintln!();
        tcsetattr(&stdin, SetArg::TCSANOW, shown)?;
    }
    outcome.map(|_| line.trim_end_matches(['\r', '\n']).to_owned())
}

/// What was told at one moment.
struct Figures {
    at: Instant,
    samples: Vec<Sample>,
}

#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    figure: f64,
}

/// A line of the text format, `name{label="value",...} figure`.
fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Vec::new();
    while let Some(label) = rest.strip_prefix(['{', ',']) {
        let (label, quoted) = label.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((label.to_owned(), value));
        rest = &quoted[end..];
    }
    let figure = rest.strip_prefix('}').unwrap_or(rest).trim().parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, figure })
}

impl Sample {
    fn has(&self, wanted: &[(&str, &str)]) -> bool {
        wanted.iter().all(|(name, value)| self.label(name) == Some(value))
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

impl Figures {
    fn of<'a>(&'a self, name: &'a str, wanted: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name && sample.has(wanted))
    }

    fn sum(&self, name: &str, wanted: &[(&str, &str)]) -> f64 {
        // The sum of nothing would be -0.
        self.of(name, wanted).fold(0.0, |sum, sample| sum + sample.figure)
    }
}

/// The screen.
fn picture(place: &Place, before: &Figures, now: &Figures) -> String {
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
    let rate =
        |name: &str, wanted: &[(&str, &str)]| ((now.sum(name, wanted) - before.sum(name, wanted)) / seconds).max(0.0);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let up = (clock - now.sum("pgpool_start_time_seconds", &[])).max(0.0);
    let state = |state| now.sum("pgpool_sessions", &[("state", state)]);
    let workers = |state| now.sum("pgpool_workers", &[("state", state)]);
    let slots = |state| now.sum("pgpool_pool_slots", &[("state", state)]);
    let failovers = now.sum("pgpool_failovers_total", &[]);
    let progress = match now.sum("pgpool_failover_in_progress", &[]) as u8 {
        0 => "",
        1 => ", one is under way",
        _ => ", the primary is being replaced",
    };
    let mut lines = vec![
        format!("pgpool at {}:{}, up {}", place.host, place.port, span(up)),
        format!(
            "sessions   {} of {} processes busy: {} active, {} idle, {} idle in transaction; {} waiting; {:.1} end/s",
            workers("busy"),
            workers("busy") + workers("free") + workers("missing") + workers("unneeded"),
            state("active"),
            state("idle"),
            state("idle_in_transaction"),
            now.sum("pgpool_waiting_connections", &[]),
            rate("pgpool_sessions_total", &[]),
        ),
        format!(
            "load       {:.0} statements/s, {:.2} processors; pool: {} in use, {} pooled, {} free",
            rate("pgpool_statements_total", &[]),
            rate("pgpool_worker_cpu_seconds_total", &[]),
            slots("used"),
            slots("pooled"),
            slots("free"),
        ),
        format!("failovers  {failovers}{progress}"),
        String::new(),
    ];
    let mut rows = vec![
        [
            "node",
            "server",
            "status",
            "role",
            "reads/s",
            "others/s",
            "errors/s",
            "answer ms",
            "at work",
            "conns",
            "behind",
        ]
        .map(str::to_owned),
    ];
    for info in now.of("pgpool_node_info", &[]) {
        let id = info.label("node").unwrap_or_default();
        let node = [("node", id)];
        let reads = rate("pgpool_statements_total", &[("node", id), ("class", "select")]);
        let answers = rate("pgpool_answer_seconds_count", &node);
        let answer = if answers > 0.0 { rate("pgpool_answer_seconds_sum", &node) / answers * 1000.0 } else { 0.0 };
        let failing = now.sum("pgpool_health_check_failing", &node) > 0.0;
        let status = info.label("status").unwrap_or_default();
        let status = if failing && status == "up" { "failing" } else { status };
        rows.push([
            id.to_owned(),
            info.label("server").unwrap_or_default().to_owned(),
            status.to_owned(),
            info.label("role").unwrap_or_default().to_owned(),
            format!("{reads:.0}"),
            format!("{:.0}", rate("pgpool_statements_total", &node) - reads),
            format!("{:.0}", rate("pgpool_errors_total", &node)),
            format!("{answer:.2}"),
            now.sum("pgpool_node_sessions", &node).to_string(),
            now.sum("pgpool_node_connections", &node).to_string(),
            behind(now, &node),
        ]);
    }
    lines.extend(align(&rows));
    lines.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Words to the left, figures to the right.
fn align<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..N).map(width).collect();
    let cell = |(column, text): (usize, &String)| match column {
        0..4 => format!("{text:<width$}", width = widths[column]),
        _ => format!("{text:>width$}", width = widths[column]),
    };
    rows.iter().map(|row| row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ")).collect()
}

fn behind(now: &Figures, node: &[(&str, &str)]) -> String {
    let seconds = now.of("pgpool_node_replication_delay_seconds", node).next().map(|it| format!("{:.3} s", it.figure));
    let bytes = || now.of("pgpool_node_replication_delay_bytes", node).next().map(|it| format!("{} B", it.figure));
    seconds.or_else(bytes).unwrap_or_default()
}

fn span(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        let expected =
            |name: &str, pairs, figure| Some(Sample { name: name.to_owned(), labels: labels(pairs), figure });
        assert_eq!(sample("a_total 12"), expected("a_total", &[], 12.0));
        assert_eq!(
            sample("a{b=\"c\",d=\"e\\\"\\\\\\n,}\"} 0.5"),
            expected("a", &[("b", "c"), ("d", "e\"\\\n,}")], 0.5)
        );
        for none in ["", "# HELP a b", "a", "a{b=\"c} 1", "a{b} 1", "a{b=\"c\"} x"] {
            assert_eq!(sample(none), None, "{none}");
        }
    }

    #[test]
    fn two_looks_make_a_picture() {
        let place = Place { host: "h".to_owned(), port: 1, credentials: None };
        let look = |at, selects: u32| Figures {
            at,
            samples: format!(
                "pgpool_node_info{{node=\"0\",server=\"db:5432\",status=\"up\",role=\"primary\"}} 1\n\
                 pgpool_statements_total{{node=\"0\",server=\"db:5432\",class=\"select\"}} {selects}\n\
                 pgpool_statements_total{{node=\"0\",server=\"db:5432\",class=\"insert\"}} {}\n\
                 pgpool_node_replication_delay_bytes{{node=\"0\"}} 4096\npgpool_workers{{state=\"busy\"}} 3\n\
                 pgpool_workers{{state=\"free\"}} 1\n",
                selects / 2
            )
            .lines()
            .filter_map(sample)
            .collect(),
        };
        let began = Instant::now();
        let text = picture(&place, &look(began, 100), &look(began + Duration::from_secs(2), 300));
        assert!(text.contains("3 of 4 processes busy") && text.contains("150 statements/s"), "{text}");
        let row = text.lines().last().expect("a row");
        let words: Vec<_> = row.split_whitespace().collect();
        assert_eq!(words, ["0", "db:5432", "up", "primary", "100", "50", "0", "0.00", "0", "0", "4096", "B"]);
        assert!(!text.contains('\x1b'));
    }
}
