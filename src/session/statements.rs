//! Prepared statements, of the extended protocol and of PREPARE alike: what was prepared, and on which nodes (routing 10,
//! 13.3, 13.5). Servers have one name space for both.
//!
//! The whole message that prepares it is kept, so that a statement prepared on one node can be prepared on another when a
//! later Bind or EXECUTE has to go there. Portals share it: they go on running what they were bound to, whatever the name
//! means by then.

use super::meaning::Meaning;
use crate::sql::{Kind, Statement};
use crate::state::NodeSet;
use crate::wire::{HEADER_LENGTH, frontend};
use pgpool_shm::ByteHasher;
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Deref;
use std::rc::Rc;

/// What a statement is.
#[derive(Debug)]
pub(super) struct Definition {
    /// The message that prepares it, header included: Parse, or Query with PREPARE.
    pub message: Vec<u8>,
    /// What the text does; of PREPARE, what that statement does.
    pub facts: Rc<Statement>,
    /// Under what servers have analysed it. `None`: not known, or not the same on all.
    pub meaning: Cell<Option<Meaning>>,
    /// It may be another statement by now.
    pub is_doubtful: Cell<bool>,
}

impl Definition {
    pub fn new(message: &[u8], facts: Rc<Statement>) -> Self {
        Self { message: message.to_vec(), facts, meaning: Cell::new(None), is_doubtful: Cell::new(false) }
    }

    /// The SQL text.
    pub fn text(&self) -> &[u8] {
        let content = &self.message[HEADER_LENGTH..];
        if self.is_parse() {
            frontend::parse(content).map_or(b"", |parse| parse.query)
        } else {
            frontend::query(content).unwrap_or(b"")
        }
    }

    /// Whether it was prepared by Parse, not by PREPARE.
    pub fn is_parse(&self) -> bool {
        self.message.first() == Some(&b'P')
    }
}

/// One prepared statement.
#[derive(Debug)]
pub(super) struct Prepared {
    pub definition: Rc<Definition>,
    /// Where it is prepared.
    pub nodes: NodeSet,
}

impl Deref for Prepared {
    type Target = Definition;

    fn deref(&self) -> &Definition {
        &self.definition
    }
}

/// The statements of a session by name; the unnamed one has the empty name.
#[derive(Debug, Default)]
pub(super) struct Statements {
    named: HashMap<Box<[u8]>, Prepared, ByteHasher>,
    unnamed: Option<Prepared>,
    /// What the unnamed one was before, perhaps still in use by a portal: its memory is used again.
    spare: Option<Rc<Definition>>,
    /// Names closed by the client that still exist on these nodes.
    stale: HashMap<Box<[u8]>, NodeSet>,
}

impl Statements {
    pub fn get(&self, name: &[u8]) -> Option<&Prepared> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    /// What `name` is.
    pub fn definition(&self, name: &[u8]) -> Option<Rc<Definition>> {
        self.get(name).map(|prepared| Rc::clone(&prepared.definition))
    }

    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut Prepared> {
        if name.is_empty() { self.unnamed.as_mut() } else { self.named.get_mut(name) }
    }

    /// A Parse message for `name` goes to `node`. The unnamed statement is replaced; a named one stays what it is, since
    /// the server will refuse the second.
    pub fn prepare(&mut self, name: &[u8], message: &[u8], facts: Rc<Statement>, node: usize) {
        let nodes = NodeSet::of(node);
        if name.is_empty() {
            let definition = self.define_unnamed(message, facts);
            self.unnamed = Some(Prepared { definition, nodes });
        } else {
            let define = || Rc::new(Definition::new(message, facts));
            self.named.entry(name.into()).or_insert_with(|| Prepared { definition: define(), nodes });
        }
    }

    /// What `name` means, which was just prepared.
    pub fn means(&self, name: &[u8], meaning: Option<Meaning>) {
        if let Some(prepared) = self.get(name) {
            prepared.meaning.set(meaning);
        }
    }

    /// Any of the names may be another statement now.
    pub fn doubt_meanings(&self) {
        self.named.values().for_each(|prepared| prepared.doubt());
    }

    /// This happens for every query of many drivers: two pieces of memory take turns, while a portal may use one of them.
    fn define_unnamed(&mut self, message: &[u8], facts: Rc<Statement>) -> Rc<Definition> {
        let previous = self.unnamed.take().map(|previous| previous.definition);
        let mut known = [previous, self.spare.take()];
        let free = known.iter_mut().position(|known| known.as_mut().and_then(Rc::get_mut).is_some());
        let mut definition =
            free.and_then(|at| known[at].take()).unwrap_or_else(|| Rc::new(Definition::new(b"", Rc::clone(&facts))));
        if let Some(definition) = Rc::get_mut(&mut definition) {
            definition.message.clear();
            definition.message.extend_from_slice(message);
            definition.facts = facts;
            definition.meaning.set(None);
            definition.is_doubtful.set(false);
        }
        self.spare = known.into_iter().flatten().next();
        definition
    }

    /// A Parse message for `name` was answered without a server: it is sent to one when that needs it.
    pub fn prepare_nowhere(&mut self, name: &[u8], message: &[u8], facts: Rc<Statement>, node: usize) {
        self.prepare(name, message, facts, node);
        if let Some(prepared) = self.get_mut(name) {
            prepared.nodes.remove(node);
        }
    }

    /// The unnamed statement is gone from `node`: a simple query of our own ran there. It will be prepared again if needed.
    pub fn unnamed_lost(&mut self, node: usize) {
        if let Some(unnamed) = &mut self.unnamed {
            unnamed.nodes.remove(node);
        }
    }

    /// The Parse of `name` is to be sent again, to another node than `node`, which has done it.
    pub fn withdraw(&mut self, name: &[u8], node: usize) {
        if let Some(prepared) = self.named.remove(name) {
            self.stale.insert(name.into(), prepared.nodes.union(NodeSet::of(node)));
        }
    }

    /// Preparing `name` on `node` failed, or the name was closed there.
    pub fn forget_on(&mut self, name: &[u8], node: usize) {
        if let Some(prepared) = self.get_mut(name) {
            prepared.nodes.remove(node);
            if prepared.nodes.is_empty() {
                self.forget(name);
            }
        }
    }

    /// Preparing `name`, which the client has prepared before, failed on `node`: it may succeed another time.
    pub fn not_on(&mut self, name: &[u8], node: usize) {
        if let Some(prepared) = self.get_mut(name) {
            prepared.nodes.remove(node);
        }
    }

    /// The client closes `name` and that goes to `node`: elsewhere the statement stays behind. Returns what it was.
    pub fn close(&mut self, name: &[u8], node: usize) -> Option<Prepared> {
        if name.is_empty() {
            return self.unnamed.take();
        }
        let prepared = self.named.remove(name)?;
        let mut rest = prepared.nodes;
        rest.remove(node);
        if !rest.is_empty() {
            self.stale.insert(name.into(), rest);
        }
        Some(prepared)
    }

    /// Closing `name` has failed: it is what it was, unless it is something else by now.
    pub fn restore(&mut self, name: &[u8], prepared: Prepared) {
        self.stale.remove(name);
        if name.is_empty() {
            self.unnamed.get_or_insert(prepared);
        } else {
            self.named.entry(name.into()).or_insert(prepared);
        }
    }

    /// The connection to `node` is closed: nothing is prepared there any more.
    pub fn forget_node(&mut self, node: usize) {
        for prepared in self.named.values_mut().chain(&mut self.unnamed) {
            prepared.nodes.remove(node);
        }
        self.stale.retain(|_, nodes| {
            nodes.remove(node);
            !nodes.is_empty()
        });
    }

    /// The node that DEALLOCATE of a known statement must go to: `home` or any other that has it, the rest learn of it when
    /// the name is used again. In a transaction that has `failed` it is for `home` to refuse.
    pub fn node_to_deallocate(&self, facts: &Statement, home: usize, failed: bool) -> Option<usize> {
        let Kind::Deallocate(Some(name)) = &facts.kind else { return None };
        let nodes = self.get(name.as_bytes())?.nodes;
        if failed || nodes.contains(home) { Some(home) } else { nodes.iter().next() }
    }

    /// The names that are not prepared on `node`.
    pub fn missing_on(&self, node: usize) -> Vec<Box<[u8]>> {
        let missing = self.named.iter().filter(|(_, prepared)| !prepared.nodes.contains(node));
        missing.map(|(name, _)| name.clone()).collect()
    }

    /// Whether any name may have to be closed before it can be prepared.
    pub fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Whether `name` must be closed on `node` before it can be used there.
    pub fn is_stale(&self, name: &[u8], node: usize) -> bool {
        self.stale.get(name).is_some_and(|nodes| nodes.contains(node))
    }

    /// The same; asked once.
    pub fn take_stale(&mut self, name: &[u8], node: usize) -> bool {
        let Some(nodes) = self.stale.get_mut(name).filter(|nodes| nodes.contains(node)) else { return false };
        nodes.remove(node);
        if nodes.is_empty() {
            self.stale.remove(name);
        }
        true
    }

    /// The name is free again.
    pub fn forget(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.unnamed = None;
        } else {
            self.named.remove(name);
        }
    }

    /// All names are free again (DEALLOCATE ALL, DISCARD ALL).
    pub fn clear(&mut self) {
        self.named.clear();
        self.stale.clear();
        self.unnamed = None;
    }
}
