//! Portals: on which node each one is, and which statement it runs.

use crate::sql::{Kind, Statement};
use std::collections::HashMap;

/// A portal that the client has bound.
#[derive(Debug)]
struct Portal {
    node: usize,
    /// Name of its statement.
    statement: Vec<u8>,
}

/// The portals of a session. They end with the transaction.
#[derive(Debug, Default)]
pub(super) struct Portals {
    named: HashMap<Box<[u8]>, Portal>,
    /// The unnamed portal; its memory is used again and again.
    unnamed: Option<usize>,
    unnamed_statement: Vec<u8>,
}

impl Portals {
    /// `portal` is bound on `node` to `statement`.
    pub fn bind(&mut self, portal: &[u8], statement: &[u8], node: usize) {
        if portal.is_empty() {
            self.unnamed = Some(node);
            self.unnamed_statement.clear();
            self.unnamed_statement.extend_from_slice(statement);
        } else {
            self.named.insert(portal.into(), Portal { node, statement: statement.to_vec() });
        }
    }

    /// Where `portal` is; `None` if it was not bound here: it may be a cursor.
    pub fn node(&self, portal: &[u8]) -> Option<usize> {
        if portal.is_empty() { self.unnamed } else { self.named.get(portal).map(|portal| portal.node) }
    }

    /// Where the portal is that FETCH, MOVE or CLOSE names: SQL takes a portal for a cursor.
    pub fn node_of_cursor(&self, facts: &Statement) -> Option<usize> {
        match &facts.kind {
            Kind::Fetch(name) | Kind::Close(Some(name)) if !facts.is_multi() => self.node(name.as_bytes()),
            _ => None,
        }
    }

    /// Name of the statement that `portal` runs.
    pub fn statement(&self, portal: &[u8]) -> Option<&[u8]> {
        if portal.is_empty() {
            self.unnamed.map(|_| self.unnamed_statement.as_slice())
        } else {
            self.named.get(portal).map(|portal| portal.statement.as_slice())
        }
    }

    /// `portal` is closed.
    pub fn close(&mut self, portal: &[u8]) {
        if portal.is_empty() {
            self.unnamed = None;
        } else {
            self.named.remove(portal);
        }
    }

    /// The transaction has ended.
    #[inline]
    pub fn clear(&mut self) {
        if !self.named.is_empty() {
            self.named.clear();
        }
        self.unnamed = None;
    }
}
