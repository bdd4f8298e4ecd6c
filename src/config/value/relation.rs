//! `dml_adaptive_object_relationship_list`: which objects depend on which (config 4.5).

use std::sync::Arc;

/// Pairs `object:dependent`; cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelationPairs {
    text: Arc<str>,
    pairs: Arc<[RelationPair]>,
}

/// After a write to `object`, reads of `dependent` go to the primary too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationPair {
    /// What is written.
    pub object: Relation,
    /// What is read.
    pub dependent: Relation,
}

/// A table or a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// A table or view.
    Table(String),
    /// A function; written with `()` behind its name.
    Function(String),
}

impl RelationPairs {
    pub(super) fn parse(text: &str) -> Self {
        let pair = |element: &str| {
            // A left side without a right one is accepted and means nothing.
            let (object, dependent) = element.split_once(':')?;
            Some(RelationPair { object: Relation::parse(object)?, dependent: Relation::parse(dependent)? })
        };
        Self { text: text.into(), pairs: text.split(',').filter_map(pair).collect() }
    }

    /// The pairs in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &RelationPair> {
        self.pairs.iter()
    }

    /// Tables to be read from the primary after a write to `table`. Names are compared without regard to case, like those
    /// of all pairs.
    pub fn after_write<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a str> {
        self.tables_behind(move |object| matches!(object, Relation::Table(name) if name.eq_ignore_ascii_case(table)))
    }

    /// Tables to be read from the primary after a call of `function`.
    pub fn after_call<'a>(&'a self, function: &'a str) -> impl Iterator<Item = &'a str> {
        self.tables_behind(
            move |object| matches!(object, Relation::Function(name) if name.eq_ignore_ascii_case(function)),
        )
    }

    /// A function on the right side is no table that could be read.
    fn tables_behind(&self, is_object: impl Fn(&Relation) -> bool) -> impl Iterator<Item = &str> {
        self.iter().filter(move |pair| is_object(&pair.object)).filter_map(|pair| match &pair.dependent {
            Relation::Table(name) => Some(name.as_str()),
            Relation::Function(_) => None,
        })
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The list as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Relation {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        match text.strip_suffix("()") {
            Some(function) if text.len() > 3 => Some(Self::Function(function.to_owned())),
            _ => (!text.is_empty()).then(|| Self::Table(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_marked_by_parentheses() {
        let pairs = RelationPairs::parse("t1:t2, insert_tab_f():tab_view ,lonely, :x");
        let expected = [
            RelationPair { object: Relation::Table("t1".into()), dependent: Relation::Table("t2".into()) },
            RelationPair {
                object: Relation::Function("insert_tab_f".into()),
                dependent: Relation::Table("tab_view".into()),
            },
        ];
        assert!(pairs.iter().eq(&expected));
    }
    #[test]
    fn dependents_of_tables_and_functions() {
        let pairs = RelationPairs::parse("t1:a,T1:b,tf():c,t1:fu()");
        assert!(pairs.after_write("t1").eq(["a", "b"]));
        assert!(pairs.after_call("TF").eq(["c"]));
        assert_eq!(pairs.after_call("fu").count(), 0);
    }
}
