//! The manual pages: what the programs' help texts say, and around it what `docs/man/pages.toml` says.

use crate::help::{self, Help};
use crate::roff::{self, Page};
use serde::Deserialize;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

const ORIGIN: &str =
    "Written by UPDATE=1 cargo test --test generated_documents from help texts and docs/man/pages.toml.";

/// `docs/man/pages.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pages {
    page: Vec<Extra>,
    /// Behind each page of a PCP program.
    pcp: Vec<Part>,
}

/// What the help text of a program does not say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Extra {
    name: String,
    #[serde(default = "user_command")]
    section: u8,
    /// If the help text has none.
    purpose: Option<String>,
    description: String,
    #[serde(default)]
    part: Vec<Part>,
    see_also: Vec<String>,
}

/// A section with its title.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    title: String,
    text: String,
}

fn user_command() -> u8 {
    1
}

fn pages() -> Pages {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man/pages.toml");
    toml::from_str(&std::fs::read_to_string(path).expect("pages.toml")).unwrap_or_else(|error| panic!("{error}"))
}

/// The help text of the program of this name.
fn help_of(name: &str) -> String {
    let program = match name {
        "pgpool" => env!("CARGO_BIN_EXE_pgpool"),
        "pg_md5" => env!("CARGO_BIN_EXE_pg_md5"),
        "pg_enc" => env!("CARGO_BIN_EXE_pg_enc"),
        "pgproto" => env!("CARGO_BIN_EXE_pgproto"),
        _ => env!("CARGO_BIN_EXE_pcp"),
    };
    let mut command = Command::new(program);
    let output = command.arg0(name).arg("--help").env("PGPOOLKEYFILE", "~/.pgpoolkey").output().expect(name);
    assert!(output.status.success(), "{name}");
    String::from_utf8([output.stdout, output.stderr].concat()).expect("text")
}

/// Every page: its name and what it says.
pub fn all() -> Vec<(String, String)> {
    let pages = pages();
    let write = |extra: &Extra| {
        let mut help = help::read(&extra.name, &help_of(&extra.name));
        if let Some(purpose) = &extra.purpose {
            help.purpose = purpose.clone();
        }
        let shared = if extra.name.starts_with("pcp") { &pages.pcp[..] } else { &[] };
        (format!("{}.{}", extra.name, extra.section), page(extra, &help, shared))
    };
    pages.page.iter().map(write).collect()
}

fn page(extra: &Extra, help: &Help, shared: &[Part]) -> String {
    let mut page = Page::new(&extra.name, extra.section, ORIGIN);
    page.section("NAME");
    page.line(&format!("{} \\- {}", roff::plain(&extra.name), roff::plain(&help.purpose)));
    page.section("SYNOPSIS");
    if help.usages.is_empty() {
        page.line(&roff::usage(&format!("{} [OPTION]...", extra.name)));
    }
    for (at, usage) in help.usages.iter().enumerate() {
        if at > 0 {
            page.line(".br");
        }
        page.line(&roff::usage(&usage.term));
    }
    page.section("DESCRIPTION");
    page.prose(&extra.description);
    for usage in help.usages.iter().filter(|usage| !usage.meaning.is_empty()) {
        page.entry(&roff::usage(&usage.term), &usage.meaning);
    }
    for remark in &help.remarks {
        page.prose(remark);
    }
    options(&mut page, help);
    for part in extra.part.iter().chain(shared) {
        page.section(&part.title);
        page.prose(&part.text);
    }
    page.section("SEE ALSO");
    page.line(&extra.see_also.iter().map(|name| reference(name)).collect::<Vec<_>>().join(",\n"));
    page.finish()
}

/// Options, and whatever else the help text lists.
fn options(page: &mut Page, help: &Help) {
    for (at, group) in help.groups.iter().enumerate() {
        match group.title.as_str() {
            title if at == 0 => {
                page.section(&if title.is_empty() { "OPTIONS".to_owned() } else { title.to_uppercase() })
            }
            title => page.subsection(title),
        }
        for entry in &group.entries {
            page.entry(&roff::option(&entry.term), &entry.meaning);
        }
    }
}

/// `name(1)` with the name bold.
fn reference(name: &str) -> String {
    match name.split_once('(') {
        Some((name, section)) => format!("{}({section}", roff::bold(name)),
        None => roff::plain(name),
    }
}

#[test]
fn every_program_has_a_page() {
    let overview = help::read("pcp", &help_of("pcp"));
    let commands = overview.groups[0].entries.iter().map(|command| format!("pcp_{}", command.term));
    let mut programs =
        commands.chain(["pgpool", "pcp", "pg_md5", "pg_enc", "pgproto"].map(String::from)).collect::<Vec<_>>();
    let mut named = pages().page.into_iter().map(|page| page.name).collect::<Vec<_>>();
    programs.sort();
    named.sort();
    assert_eq!(programs, named);
}

#[test]
fn every_option_of_a_help_text_is_in_its_page() {
    for (file, page) in all() {
        let help = help_of(file.split('.').next().unwrap_or_default());
        let words = help.split([' ', ',', '=', '\n', '(']).filter(|word| word.len() > 1 && word.starts_with('-'));
        for option in words.filter(|word| word.bytes().any(|byte| byte.is_ascii_alphanumeric())) {
            assert!(page.contains(&roff::plain(option)), "{file}: {option}");
        }
    }
}

#[test]
fn groff_has_nothing_to_say_about_the_pages() {
    for (file, page) in all() {
        let mut groff = Command::new("groff");
        let groff = groff.args(["-ww", "-b", "-z", "-man", "-Tutf8"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut groff = groff.spawn().expect("groff is installed: scripts/setup does it");
        groff.stdin.take().expect("a pipe").write_all(page.as_bytes()).expect("the page");
        let output = groff.wait_with_output().expect("groff");
        let remarks = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && remarks.is_empty(), "{file}: {remarks}");
    }
}
