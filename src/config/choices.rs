//! The enums of the catalogue, one per distinct list of values, with their spellings.

/// The spellings of an enum's values.
#[derive(Debug)]
pub struct Spellings {
    /// The values in order.
    pub values: &'static [&'static str],
    /// Further spellings and the position of the value they stand for.
    pub synonyms: &'static [(&'static str, usize)],
    /// Further spellings that hints do not mention.
    pub hidden_synonyms: &'static [(&'static str, usize)],
    /// Spellings of earlier releases, understood with a warning.
    pub old: &'static [(&'static str, usize)],
}

impl Spellings {
    /// Position of the value that `text` names in a current spelling, without regard to case.
    pub fn position(&self, text: &str) -> Option<usize> {
        let exact = self.values.iter().position(|value| value.eq_ignore_ascii_case(text));
        exact.or_else(|| find(self.synonyms, text)).or_else(|| find(self.hidden_synonyms, text))
    }

    /// Position of the value that `text` named in an earlier release.
    pub fn old_position(&self, text: &str) -> Option<usize> {
        find(self.old, text)
    }

    /// All spellings that a hint lists.
    pub fn listed(&self) -> impl Iterator<Item = &'static str> {
        self.values.iter().copied().chain(self.synonyms.iter().map(|(spelling, _)| *spelling))
    }
}

fn find(spellings: &[(&str, usize)], text: &str) -> Option<usize> {
    spellings.iter().find(|(spelling, _)| spelling.eq_ignore_ascii_case(text)).map(|(_, position)| *position)
}

/// An enum of the catalogue.
pub trait Choice: Copy + PartialEq + 'static {
    /// How its values are written.
    const SPELLINGS: &'static Spellings;
    /// Its values in order.
    const ALL: &'static [Self];

    /// Position in [`Choice::ALL`].
    fn position(self) -> usize {
        Self::ALL.iter().position(|value| *value == self).unwrap_or_default()
    }
}

/// Gives an enum its spelling as a method and as `Display`, and reading it back as `FromStr`.
macro_rules! choice_methods {
    ($name:ident) => {
        impl $name {
            /// The spelling in the file.
            pub fn as_str(self) -> &'static str {
                Self::SPELLINGS.values[self.position()]
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownChoice;

            fn from_str(text: &str) -> Result<Self, UnknownChoice> {
                Self::SPELLINGS.position(text).map(|position| Self::ALL[position]).ok_or(UnknownChoice)
            }
        }
    };
}

/// The text names none of the enum's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of the values")]
pub struct UnknownChoice;

include!(concat!(env!("OUT_DIR"), "/enums.rs"));
