//! Values: from the text of a file to a typed value and back (config 3, 4, 7.6).
//!
//! A [`Value`] is made by [`parse`] according to the parameter's kind, stored in and read from a [`Field`] of the
//! settings, and printed by [`Value::text`]. Texts round-trip: parsing what was printed gives the same value.
//! Nothing here knows files or positions; failures are [`Report`]s with the messages of (config 3), which get
//! their position from whoever read the text.

mod flags;
mod list;
mod log_destination;
mod number;
mod parse;
mod redirect;
mod regex_list;
mod relation;

pub use flags::NodeFlags;
pub use list::StringList;
pub use log_destination::LogDestinations;
pub use number::Unit;
pub use parse::parse;
pub use redirect::{Redirect, RedirectList, RedirectTarget};
pub use regex_list::RegexList;
pub use relation::{Relation, RelationPair, RelationPairs};

use super::catalogue::Kind;
use super::choices::Choice;

/// The value of one parameter.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are the kinds of the catalogue")]
pub enum Value {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    /// Position among the enum's values.
    Choice(usize),
    StringList(StringList),
    RegexList(RegexList),
    RedirectList(RedirectList),
    RelationPairs(RelationPairs),
    LogDestinations(LogDestinations),
    NodeFlags(NodeFlags),
}

impl Value {
    /// The value as a file can say it and PGPOOL SHOW prints it (config 7.6): numbers in the largest unit that
    /// divides them, modes in octal, lists as they were given.
    pub fn text(&self, kind: &Kind) -> String {
        match (self, kind) {
            (Self::Bool(on), _) => if *on { "on" } else { "off" }.to_owned(),
            (Self::Int(number), Kind::Int(int)) if int.octal => format!("0{number:03o}"),
            (Self::Int(number), Kind::Int(int)) => number::text(*number, int.unit),
            (Self::Int(number), _) => number.to_string(),
            (Self::Double(number), _) => number.to_string(),
            (Self::Text(text), _) => text.clone(),
            (Self::Choice(position), Kind::Enum(spellings)) => spellings.values[*position].to_owned(),
            (Self::Choice(position), _) => position.to_string(),
            (Self::StringList(list), _) => list.text().to_owned(),
            (Self::RegexList(list), _) => list.text().to_owned(),
            (Self::RedirectList(list), _) => list.text().to_owned(),
            (Self::RelationPairs(pairs), _) => pairs.text().to_owned(),
            (Self::LogDestinations(destinations), _) => destinations.text().to_owned(),
            (Self::NodeFlags(flags), _) => flags.to_string(),
        }
    }
}

/// A field of the settings, seen without its type.
pub trait Field {
    /// Its value.
    fn value(&self) -> Value;
    /// Takes a value made by the parameter's own kind; the catalogue guarantees that the types agree, and a value of
    /// another type changes nothing.
    fn store(&mut self, value: Value);
}

macro_rules! field {
    ($type:ty, $variant:ident) => {
        impl Field for $type {
            fn value(&self) -> Value {
                Value::$variant(self.clone().into())
            }

            fn store(&mut self, value: Value) {
                if let Value::$variant(value) = value
                    && let Ok(value) = value.try_into()
                {
                    *self = value;
                }
            }
        }
    };
}

field!(bool, Bool);
field!(u16, Int);
field!(i32, Int);
field!(i64, Int);
field!(f64, Double);
field!(String, Text);
field!(StringList, StringList);
field!(RegexList, RegexList);
field!(RedirectList, RedirectList);
field!(RelationPairs, RelationPairs);
field!(LogDestinations, LogDestinations);
field!(NodeFlags, NodeFlags);

impl<C: Choice> Field for C {
    fn value(&self) -> Value {
        Value::Choice(self.position())
    }

    fn store(&mut self, value: Value) {
        if let Value::Choice(position) = value
            && let Some(choice) = C::ALL.get(position)
        {
            *self = *choice;
        }
    }
}
