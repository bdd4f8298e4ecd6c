//! `pgpool top`: nodes and load in a terminal, anew every second; plain text where there is no terminal.
//!
//! ```text
//! source --> figures --> picture --> screen    a terminal: fitted to its size, keys, signals
//!  HTTP       samples     lines  --> stdout    else: whole lines
//! ```
//!
//! The figures are those of `/metrics`, so that it sees what Prometheus sees, also of a pgpool on another machine. PCP, which
//! is always there, does not tell how long answers take, nor who waits.

mod figures;
mod picture;
mod screen;
mod source;

use super::EXIT_USAGE;
use super::options::TopOptions;
use crate::config::LoadResult;
use crate::net::Deadline;
use figures::Figures;
use picture::Picture;
use screen::{Screen, Woken};
use source::{Failure, Source};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(1);

/// Shows until it is ended, or once. Returns the exit status.
pub(super) fn run(options: &TopOptions, loaded: LoadResult) -> i32 {
    // The first look is taken before the terminal is touched: if it fails, that stays on the screen.
    let source = Source::find(options, loaded);
    let first = source.and_then(|source| match source.look(None) {
        Ok(figures) => Ok((source, figures)),
        Err(failure) => Err(failure.to_string()),
    });
    let (source, before) = match first {
        Ok(first) => first,
        Err(message) => {
            super::tell(&format!("pgpool: {message}\n"));
            return EXIT_USAGE;
        }
    };
    if options.once || !can_be_drawn_on() {
        return print(&source, before, options.once);
    }
    match Screen::open() {
        Ok(screen) => {
            let woken = draw(&source, before, &screen);
            // Nobody sees the screen any more, or it is given back before a signal ends the process.
            woken.map_or(0, |woken| screen.close(woken))
        }
        Err(error) => {
            super::tell(&format!("pgpool: {error}\n"));
            EXIT_USAGE
        }
    }
}

/// A terminal that knows how to move its cursor.
fn can_be_drawn_on() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|name| !name.is_empty() && name != "dumb")
}

/// Whole lines, once or until nobody reads them.
fn print(source: &Source, mut before: Figures, once: bool) -> i32 {
    let mut out = io::stdout();
    loop {
        std::thread::sleep(INTERVAL);
        let text = match source.look(None) {
            Ok(now) => {
                let text = Picture::new(source.name(), &before, &now).whole();
                before = now;
                text
            }
            Err(failure) if once => {
                super::tell(&format!("pgpool: {failure}\n"));
                return EXIT_USAGE;
            }
            Err(failure) => format!("{failure}\n"),
        };
        let end = if once { "" } else { "\n" };
        if write!(out, "{text}{end}").and_then(|()| out.flush()).is_err() || once {
            return 0;
        }
    }
}

/// Pictures on the screen, until a key or a signal ends it.
fn draw(source: &Source, mut before: Figures, screen: &Screen) -> io::Result<Woken> {
    let mut picture = Picture::message(source.name(), "...");
    loop {
        let next = Deadline::after(INTERVAL);
        loop {
            let (width, height) = screen.size();
            screen.show(&picture.fitted(width, height))?;
            match screen.wait(None, next) {
                Woken::Late => break,
                Woken::Changed => {}
                ended => return Ok(ended),
            }
        }
        picture = match source.look(Some(screen)) {
            Ok(now) => {
                // What happens in a second takes two looks.
                let picture = Picture::new(source.name(), &before, &now);
                before = now;
                picture
            }
            Err(Failure::Ended(woken)) => return Ok(woken),
            Err(failure) => Picture::message(source.name(), &failure.to_string()),
        };
    }
}
