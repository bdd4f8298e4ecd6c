//! The documents do not rot: messages that they quote are said by the sources, links lead somewhere, and the README lists
//! all pages.

use regex::Regex;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files below `directory` with this ending.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(directory).expect("a directory").flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
    found
}

/// The README and all pages.
fn pages() -> Vec<PathBuf> {
    let mut pages = files(&root().join("docs"), "md");
    pages.push(root().join("README.md"));
    pages
}

/// What the program says, with `...` where it puts something in: its sources without tests and comments.
fn said() -> String {
    let pattern = |text| Regex::new(text).expect("a pattern");
    let (goes_on, put_in, comment) = (pattern(r"\\\n\s*"), pattern(r"\{[^{}\n]*\}"), pattern(r"(?m)^\s*//.*$"));
    let program = |path: PathBuf| {
        let text = read(&path);
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let text = comment.replace_all(text, "");
        let text = goes_on.replace_all(&text, "").replace("\\\"", "\"");
        put_in.replace_all(&text, "...").into_owned()
    };
    files(&root().join("src"), "rs").into_iter().map(program).collect()
}

#[test]
fn every_message_of_the_troubleshooting_page_is_said_somewhere() {
    let said = said();
    let page = read(&root().join("docs/troubleshooting.md"));
    let first_cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let messages = first_cells.flat_map(|(messages, _)| messages.split("`, `")).collect::<Vec<_>>();
    assert!(messages.len() > 80, "{messages:?}");
    let unknown = messages.iter().filter(|message| !said.contains(**message)).collect::<Vec<_>>();
    assert!(unknown.is_empty(), "nobody says {unknown:#?}");
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let link = Regex::new(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)").expect("a pattern");
    for page in pages() {
        let text = read(&page);
        for found in link.captures_iter(&text) {
            let target = match &found[1] {
                "" => page.clone(),
                file => page.with_file_name(file),
            };
            assert!(target.exists(), "{}: {}", page.display(), &found[0]);
            if let Some(heading) = found.get(2) {
                let headings = read(&target);
                let mut headings = headings.lines().filter(|line| line.starts_with('#')).map(anchor);
                assert!(headings.any(|anchor| anchor == heading.as_str()), "{}: {}", page.display(), &found[0]);
            }
        }
    }
}

/// How a heading is named in a link.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
    kept.map(|character| if character == ' ' { '-' } else { character }).collect()
}

#[test]
fn the_readme_lists_every_page() {
    let readme = read(&root().join("README.md"));
    for page in files(&root().join("docs"), "md") {
        let name = page.strip_prefix(root()).expect("a page").display().to_string();
        assert!(readme.contains(&format!("- [{name}]({name}) - ")), "{name} is not listed in README.md");
    }
}
