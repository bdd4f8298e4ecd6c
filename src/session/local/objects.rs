//! Prepared statements and portals that are ours: no server knows them.
//!
//! They share the client's name spaces with those of the servers; [`super::extended`] and [`super::Command::Prepare`] see to
//! it that no name means two things. A cursor is none of ours: it may have the name of a portal here.

use super::Command;
use std::collections::HashMap;
use std::rc::Rc;

/// One prepared statement.
#[derive(Debug)]
pub(super) struct Prepared {
    pub command: Command,
    pub text: Box<[u8]>,
    /// `None`: it has no rows.
    pub columns: Option<Vec<String>>,
}

/// One portal.
#[derive(Debug)]
pub(super) struct Portal {
    pub prepared: Rc<Prepared>,
    /// Format codes of the result columns: none, one for all, or one for each.
    pub formats: Vec<u16>,
    pub progress: Progress,
}

/// How far a portal is.
#[derive(Debug)]
pub(super) enum Progress {
    /// Bound.
    Bound,
    /// These rows have not been sent yet.
    Rows(std::vec::IntoIter<Vec<String>>),
    /// A command without rows has been carried out.
    Done,
}

impl Portal {
    /// Format code of a result column.
    pub fn format(&self, column: usize) -> u16 {
        match self.formats.as_slice() {
            [] => 0,
            [all] => *all,
            each => each.get(column).copied().unwrap_or(0),
        }
    }
}

/// The objects of a session, by name; the unnamed ones have the empty name.
#[derive(Debug, Default)]
pub(in crate::session) struct Objects {
    statements: HashMap<Box<[u8]>, Rc<Prepared>>,
    portals: HashMap<Box<[u8]>, Portal>,
    /// Messages of the batch in progress have been answered here.
    pub(super) begun: bool,
    /// One of them was refused, and no server knows: what follows up to Sync is ignored.
    pub(super) failed: bool,
}

impl Objects {
    /// Whether there is nothing to think of.
    #[inline]
    pub(in crate::session) fn is_idle(&self) -> bool {
        !self.begun && self.statements.is_empty() && self.portals.is_empty()
    }

    pub(super) fn has_statement(&self, name: &[u8]) -> bool {
        self.statements.contains_key(name)
    }

    pub(super) fn has_portal(&self, name: &[u8]) -> bool {
        self.portals.contains_key(name)
    }

    pub(super) fn statement(&self, name: &[u8]) -> Option<&Rc<Prepared>> {
        self.statements.get(name)
    }

    pub(super) fn portal(&self, name: &[u8]) -> Option<&Portal> {
        self.portals.get(name)
    }

    pub(super) fn portal_mut(&mut self, name: &[u8]) -> Option<&mut Portal> {
        self.portals.get_mut(name)
    }

    /// `name` is free, or empty.
    pub(super) fn prepare(&mut self, name: &[u8], prepared: Prepared) {
        self.statements.insert(name.into(), Rc::new(prepared));
    }

    /// `name` is free, or empty.
    pub(super) fn bind(&mut self, name: &[u8], portal: Portal) {
        self.portals.insert(name.into(), portal);
    }

    /// Portals live on without their statement.
    pub(super) fn close_statement(&mut self, name: &[u8]) {
        self.statements.remove(name);
    }

    pub(super) fn close_portal(&mut self, name: &[u8]) {
        self.portals.remove(name);
    }

    /// The transaction has ended.
    #[inline]
    pub(in crate::session) fn clear_portals(&mut self) {
        if !self.portals.is_empty() {
            self.portals.clear();
        }
    }

    /// All prepared statements are discarded (DEALLOCATE ALL, DISCARD ALL).
    pub(in crate::session) fn forget_statements(&mut self) {
        self.statements.clear();
    }

    /// A simple query ends what is unnamed, and a batch left without Sync.
    #[inline]
    pub(in crate::session) fn simple_query(&mut self) {
        if !self.is_idle() {
            (self.begun, self.failed) = (false, false);
            self.close_statement(b"");
            self.close_portal(b"");
        }
    }
}
