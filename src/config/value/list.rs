//! Plain lists (config 4.1).

use std::ops::Deref;
use std::sync::Arc;

/// A list of words; it derefs to the slice of its elements and remembers how it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StringList {
    text: Arc<str>,
    elements: Vec<String>,
}

impl StringList {
    /// Splits `text`; blanks around elements and empty elements vanish.
    pub fn split(text: &str, separator: char) -> Self {
        let elements = text.split(separator).map(str::trim).filter(|element| !element.is_empty());
        Self { text: text.into(), elements: elements.map(str::to_owned).collect() }
    }

    /// The list as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Deref for StringList {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.elements
    }
}

impl<'a> IntoIterator for &'a StringList {
    type Item = &'a String;
    type IntoIter = std::slice::Iter<'a, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.elements.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::StringList;

    #[test]
    fn elements_are_trimmed_and_empty_ones_vanish() {
        let list = StringList::split(" ABORT; ;DISCARD ALL;", ';');
        assert_eq!(*list, ["ABORT", "DISCARD ALL"]);
        assert_eq!(list.text(), " ABORT; ;DISCARD ALL;");
        assert!(StringList::split("", ',').is_empty());
    }
}
