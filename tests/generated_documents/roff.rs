//! Writing manual pages: the few macros of man(7) that they need.

/// A page that is being written.
pub struct Page(String);

impl Page {
    /// Begins a page. `origin` says where it comes from.
    pub fn new(name: &str, section: u8, origin: &str) -> Self {
        Self(format!(".\\\" {origin}\n.TH {} {section} \"\" pgpool\n", plain(&name.to_uppercase())))
    }

    pub fn section(&mut self, title: &str) {
        self.line(&format!(".SH {}", plain(title)));
    }

    pub fn subsection(&mut self, title: &str) {
        self.line(&format!(".SS {}", plain(title)));
    }

    /// Something with its meaning.
    pub fn entry(&mut self, term: &str, meaning: &str) {
        self.line(&format!(".TP\n{term}"));
        if !meaning.is_empty() {
            self.line(&text(meaning));
        }
    }

    /// A line that is roff already.
    pub fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// Text as in the documents: paragraphs, examples that are indented by four blanks, `- term: meaning`.
    pub fn prose(&mut self, prose: &str) {
        for paragraph in prose.trim_end().split("\n\n") {
            if paragraph.starts_with("    ") {
                self.line(".PP\n.RS 4\n.nf");
                paragraph.lines().for_each(|line| self.line(&plain(line.trim_start())));
                self.line(".fi\n.RE");
            } else if paragraph.trim_start().starts_with("- ") {
                let items = paragraph.trim_start().strip_prefix("- ").unwrap_or_default().split("\n- ");
                for (term, meaning) in items.filter_map(|item| item.split_once(": ")) {
                    self.entry(&text(term), meaning);
                }
            } else {
                self.line(&format!(".PP\n{}", text(paragraph.trim_start())));
            }
        }
    }

    pub fn finish(self) -> String {
        self.0
    }
}

/// `-h, --host=NAME` with the letters bold and the value in italics.
pub fn option(term: &str) -> String {
    let one = |option: &str| match option.find(['=', ' ']) {
        Some(at) => {
            let (name, value) = option.split_at(at);
            format!("{}{}\\fI{}\\fR", bold(name), plain(&value[..1]), plain(&value[1..]))
        }
        None => bold(option),
    };
    term.split(", ").map(one).collect::<Vec<_>>().join(", ")
}

/// A form of the command line: the program's name bold.
pub fn usage(line: &str) -> String {
    let (program, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
    format!("{} {}", bold(program), plain(rest)).trim_end().to_owned()
}

pub fn bold(word: &str) -> String {
    format!("\\fB{}\\fR", plain(word))
}

/// Flowing text; what stands in backquotes becomes bold. Lines stay lines, so that changes are easy to read.
pub fn text(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let text: String = parts.map(|(at, part)| if at % 2 == 1 { bold(part) } else { plain(part) }).collect();
    text.lines().map(|line| guard(line.trim())).collect::<Vec<_>>().join("\n")
}

/// Characters as they are, also those that groff takes for something.
pub fn plain(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '"' => out.push_str("\\(dq"),
            '~' => out.push_str("\\(ti"),
            '^' => out.push_str("\\(ha"),
            other => out.push(other),
        }
    }
    guard(&out)
}

/// A point at the beginning of a line is no request.
fn guard(line: &str) -> String {
    if line.starts_with('.') { format!("\\&{line}") } else { line.to_owned() }
}

#[test]
fn nothing_is_taken_for_a_request() {
    assert_eq!(plain(".x 'y' \\n"), "\\&.x \\(aqy\\(aq \\en");
    assert_eq!(text("see\n.pcppass or `-w`"), "see\n\\&.pcppass or \\fB\\-w\\fR");
    assert_eq!(option("-f, --file=FILE"), "\\fB\\-f\\fR, \\fB\\-\\-file\\fR=\\fIFILE\\fR");
    assert_eq!(usage("pgpool [X]... go "), "\\fBpgpool\\fR [X]... go");
}
