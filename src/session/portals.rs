//! Portals: on which node each one is, and which statement it runs.

use super::statements::Definition;
use crate::sql::{Kind, Statement};
use std::collections::HashMap;
use std::rc::Rc;

/// A portal that the client has bound.
#[derive(Debug)]
struct Portal {
    node: usize,
    /// What it runs, if that is known.
    definition: Option<Rc<Definition>>,
}

/// The portals of a session. They end with the transaction.
#[derive(Debug, Default)]
pub(super) struct Portals {
    named: HashMap<Box<[u8]>, Portal>,
    unnamed: Option<Portal>,
}

impl Portals {
    /// The portal `name` is bound on `node` to a statement.
    pub fn bind(&mut self, name: &[u8], definition: Option<Rc<Definition>>, node: usize) {
        let portal = Portal { node, definition };
        if name.is_empty() {
            self.unnamed = Some(portal);
        } else {
            self.named.insert(name.into(), portal);
        }
    }

    fn get(&self, name: &[u8]) -> Option<&Portal> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    /// Where `portal` is; `None` if it was not bound here: it may be a cursor.
    pub fn node(&self, portal: &[u8]) -> Option<usize> {
        self.get(portal).map(|portal| portal.node)
    }

    /// Where the portal is that FETCH, MOVE or CLOSE names: SQL takes a portal for a cursor.
    pub fn node_of_cursor(&self, facts: &Statement) -> Option<usize> {
        match &facts.kind {
            Kind::Fetch(name) | Kind::Close(Some(name)) if !facts.is_multi() => self.node(name.as_bytes()),
            _ => None,
        }
    }

    /// What `portal` runs, if that is known.
    pub fn definition(&self, portal: &[u8]) -> Option<&Rc<Definition>> {
        self.get(portal).and_then(|portal| portal.definition.as_ref())
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
