//! What a help text says, taken apart: purpose, usages, options in their groups, remarks.

/// Lines that are indented so far go on with the entry above, in columns.
const CONTINUED: usize = 12;

/// An option, a command or a form of the command line, and what it means.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub term: String,
    pub meaning: String,
}

/// Entries under one heading, which is empty where the help text has none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub title: String,
    pub entries: Vec<Entry>,
}

/// A help text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Help {
    pub purpose: String,
    pub usages: Vec<Entry>,
    pub groups: Vec<Group>,
    pub remarks: Vec<String>,
}

/// What the line before was, which the next may go on with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    Usage,
    Entries,
    Remark,
}

/// Takes the help text of `program` apart.
pub fn read(program: &str, text: &str) -> Help {
    let mut help = Help::default();
    let mut place = Place::Head;
    for line in text.lines() {
        let body = line.trim();
        let indent = line.len() - line.trim_start().len();
        if body.is_empty() || body.starts_with("pgpool-II version") {
            continue;
        }
        if body.starts_with("Usage:") {
            place = Place::Usage;
        } else if body.starts_with('-') {
            if place != Place::Entries {
                help.groups.push(Group::default());
                place = Place::Entries;
            }
            help.entries().push(Entry::of(body));
        } else if indent >= CONTINUED || (place == Place::Remark && indent > 0) {
            go_on(help.last(place), body);
        } else if place == Place::Usage && body.starts_with(program) {
            help.usages.push(Entry::of(body));
        } else if place == Place::Entries && indent > 0 {
            help.entries().push(Entry::of(body));
        } else if let (0, Some(title)) = (indent, body.strip_suffix(':')) {
            help.groups.push(Group { title: title.to_owned(), entries: Vec::new() });
            place = Place::Entries;
        } else if place == Place::Head {
            help.purpose = body.strip_prefix(&format!("{program} - ")).unwrap_or(body).to_owned();
        } else {
            help.remarks.push(body.to_owned());
            place = Place::Remark;
        }
    }
    help
}

impl Help {
    fn entries(&mut self) -> &mut Vec<Entry> {
        &mut self.groups.last_mut().expect("a group").entries
    }

    /// The text that the line before belongs to.
    fn last(&mut self, place: Place) -> &mut String {
        match place {
            Place::Head => &mut self.purpose,
            Place::Usage => &mut self.usages.last_mut().expect("a usage").meaning,
            Place::Entries => &mut self.entries().last_mut().expect("an entry").meaning,
            Place::Remark => self.remarks.last_mut().expect("a remark"),
        }
    }
}

impl Entry {
    /// Two blanks, or a parenthesis, part the term from its meaning.
    fn of(line: &str) -> Self {
        let (term, meaning) = match line.find("  ").or_else(|| line.find(" (")) {
            Some(at) => line.split_at(at),
            None => (line, ""),
        };
        let meaning = meaning.trim();
        let bare = meaning.strip_prefix('(').and_then(|meaning| meaning.strip_suffix(')'));
        Self { term: term.to_owned(), meaning: bare.unwrap_or(meaning).to_owned() }
    }
}

fn go_on(text: &mut String, more: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(more);
}

#[test]
fn a_help_text_is_taken_apart() {
    let text = "\
pgpool-II version 4.7.2 (x),
  does things

Usage:
  prog [OPTION]... go    goes
  prog [OPTION]... [MORE]... stay
                         stays
Options:
  -a, --all              all of
                         them
      --none             none
More, of another kind:
  -b, --both=N (default: 2)
Warning: this
         goes on
";
    let entry = |term: &str, meaning: &str| Entry { term: term.to_owned(), meaning: meaning.to_owned() };
    let help = read("prog", text);
    assert_eq!(help.purpose, "does things");
    let stay = entry("prog [OPTION]... [MORE]... stay", "stays");
    assert_eq!(help.usages, [entry("prog [OPTION]... go", "goes"), stay]);
    let options = vec![entry("-a, --all", "all of them"), entry("--none", "none")];
    assert_eq!(help.groups[0], Group { title: "Options".to_owned(), entries: options });
    assert_eq!(help.groups[1].entries, [entry("-b, --both=N", "default: 2")]);
    assert_eq!(help.remarks, ["Warning: this goes on"]);
}
