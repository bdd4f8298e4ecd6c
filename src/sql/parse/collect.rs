//! Walks parse trees and collects names and flags.
//!
//! The walk keeps a list of pending nodes instead of recursing, so a chain of 200,000 additions needs no more stack than
//! `SELECT 1`.

use super::children::visit_children;
use crate::sql::kind::{Kind, Unparsable};
use crate::sql::statement::Contents;
use crate::sql::{Name, Relation, Statement, Use};
use pg_raw_parse::list::NodeList;
use pg_raw_parse::{ConstValue, Node, nodes};

/// What was found so far, and what is still to be looked at.
#[derive(Default)]
pub(super) struct Collector<'t> {
    pending: Vec<(Node<'t>, Scope)>,
    /// Names of common table expressions; each sees those on its way up. A chain, not a map: a non-recursive WITH lets
    /// every query see only the ones before it.
    scopes: Vec<(Scope, &'t str)>,
    relations: Vec<(BorrowedName<'t>, Use)>,
    functions: Vec<BorrowedName<'t>>,
    has: Contents,
    /// Process ids in calls of pg_terminate_backend.
    terminates: Vec<i32>,
    unknown: bool,
}

/// A position in [`Collector::scopes`], counted from 1; 0 sees no common table expression.
type Scope = usize;

/// Schema and name.
type BorrowedName<'t> = (Option<&'t str>, &'t str);

impl<'t> Collector<'t> {
    /// Walks a node and everything below it.
    pub(super) fn walk(&mut self, node: Node<'t>) {
        self.pending.push((node, 0));
        while let Some((node, scope)) = self.pending.pop() {
            self.visit(node, scope);
        }
    }

    /// Notes a relation that is written.
    pub(super) fn written(&mut self, relation: Option<&'t nodes::RangeVar>) {
        if let Some(relation) = relation {
            self.relations.push((relation_name(relation), Use::Written));
        }
    }

    /// Notes a relation that is written, given as a list of name parts.
    pub(super) fn written_parts(&mut self, parts: &'t NodeList) {
        if let Some(name) = qualified(parts) {
            self.relations.push((name, Use::Written));
        }
    }

    /// Notes that something outlives the statement in the server session.
    pub(super) fn changes_session(&mut self) {
        self.has.session_state = true;
    }

    /// Notes that a prepared statement is run.
    pub(super) fn executes(&mut self) {
        self.has.executes = true;
    }

    /// Moves what was found into `statement`.
    ///
    /// # Errors
    /// [`Unparsable::UnknownNode`] if a node was met that the walk does not know.
    pub(super) fn finish(mut self, statement: &mut Statement) -> Result<(), Unparsable> {
        if self.unknown {
            return Err(Unparsable::UnknownNode);
        }
        self.relations.sort_unstable();
        self.relations.dedup();
        self.functions.sort_unstable();
        self.functions.dedup();
        statement.relations =
            self.relations.into_iter().map(|(name, usage)| Relation { name: owned(name), usage }).collect();
        statement.functions = self.functions.into_iter().map(owned).collect();
        statement.has = self.has;
        if statement.kind == Kind::Select && statement.further.is_empty() {
            // With two of them no single node is the right one.
            statement.terminates = if let [pid] = *self.terminates { Some(pid) } else { None };
        }
        Ok(())
    }

    fn visit(&mut self, node: Node<'t>, scope: Scope) {
        match node {
            Node::RangeVar(relation) => {
                let name = relation_name(relation);
                if name.0.is_some() || !self.is_visible(name.1, scope) {
                    self.relations.push((name, Use::Read));
                }
            }
            Node::SelectStmt(select) => {
                if let Some(into) = select.into_clause() {
                    let temporary = into.rel().is_some_and(is_temporary);
                    self.has.select_into = true;
                    self.has.makes_table |= !temporary;
                    self.has.session_state |= temporary;
                    self.written(into.rel());
                }
                self.has.locking |= !select.locking_clause().is_empty();
                let scope = self.enter(select.with_clause(), scope);
                self.descend(node, scope);
            }
            Node::InsertStmt(insert) => self.modification(insert.relation(), insert.with_clause(), node, scope),
            Node::UpdateStmt(update) => self.modification(update.relation(), update.with_clause(), node, scope),
            Node::DeleteStmt(delete) => self.modification(delete.relation(), delete.with_clause(), node, scope),
            Node::MergeStmt(merge) => self.modification(merge.relation(), merge.with_clause(), node, scope),
            Node::FuncCall(call) => {
                match qualified(call.funcname()) {
                    Some(name) => self.call(name, call),
                    None => self.unknown = true,
                }
                self.descend(node, scope);
            }
            Node::SQLValueFunction(_) => self.has.value_functions = true,
            Node::A_Const(constant) => self.has.passing |= means_a_time(constant),
            Node::TypeCast(cast) => {
                self.has.passing |= cast.type_name().is_some_and(depends_on_zone);
                self.descend(node, scope);
            }
            Node::RangeTableSample(_) => {
                self.has.passing = true;
                self.descend(node, scope);
            }
            _ => self.descend(node, scope),
        }
    }

    fn descend(&mut self, node: Node<'t>, scope: Scope) {
        let known = visit_children(node, &mut |child| self.pending.push((child, scope)));
        self.unknown |= !known;
    }

    fn modification(
        &mut self,
        target: Option<&'t nodes::RangeVar>,
        with: Option<&'t nodes::WithClause>,
        node: Node<'t>,
        scope: Scope,
    ) {
        self.has.modification = true;
        self.written(target);
        let scope = self.enter(with, scope);
        self.descend(node, scope);
    }

    fn call(&mut self, name: BorrowedName<'t>, call: &'t nodes::FuncCall) {
        if name.1 == "pg_terminate_backend"
            && matches!(call.args().len(), 1 | 2)
            && let Some(Node::A_Const(constant)) = call.args().first()
            && let Some(ConstValue::Integer(pid)) = constant.val()
        {
            self.terminates.push(pid);
        }
        self.functions.push(name);
    }

    /// Queues the queries of a WITH clause, each with the names it sees. Returns the scope that sees all of them.
    fn enter(&mut self, with: Option<&'t nodes::WithClause>, outer: Scope) -> Scope {
        let Some(with) = with else { return outer };
        let mut scope = outer;
        let first_query = self.pending.len();
        for expression in with.ctes() {
            self.pending.push((expression.ctequery(), scope));
            if let Some(name) = expression.ctename() {
                self.scopes.push((scope, name));
                scope = self.scopes.len();
            }
        }
        if with.recursive {
            self.pending[first_query..].iter_mut().for_each(|(_, sees)| *sees = scope);
        }
        scope
    }

    fn is_visible(&self, name: &str, scope: Scope) -> bool {
        let mut at = scope;
        while at > 0 {
            let (outer, known) = self.scopes[at - 1];
            if known == name {
                return true;
            }
            at = outer;
        }
        false
    }
}

/// Constants that mean another time with every statement.
fn means_a_time(constant: &nodes::A_Const) -> bool {
    const WORDS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];
    match constant.val() {
        Some(ConstValue::String(text)) => {
            // In ranges, arrays and rows, too: '[today,tomorrow)'.
            let words = text.split(|c: char| !c.is_ascii_alphabetic());
            words.into_iter().any(|word| WORDS.iter().any(|known| known.eq_ignore_ascii_case(word)))
        }
        _ => false,
    }
}

fn depends_on_zone(name: &nodes::TypeName) -> bool {
    let last = name.names().iter().next_back().and_then(|part| part.sval());
    matches!(last, Some("timestamptz" | "timetz"))
}

/// Whether the relation is made as a temporary one.
pub(super) fn is_temporary(relation: &nodes::RangeVar) -> bool {
    relation.relpersistence as u8 == b't' || relation.schemaname() == Some("pg_temp")
}

fn relation_name(relation: &nodes::RangeVar) -> BorrowedName<'_> {
    (relation.schemaname(), relation.relname().unwrap_or_default())
}

/// Schema and name of `name`, `schema.name` or `catalog.schema.name`.
fn qualified(parts: &NodeList) -> Option<BorrowedName<'_>> {
    let count = parts.len();
    let part = |at: usize| parts.get(at).and_then(Node::as_str);
    let name = part(count.checked_sub(1)?)?;
    Some((count.checked_sub(2).and_then(part), name))
}

fn owned((schema, name): BorrowedName<'_>) -> Name {
    Name { schema: schema.map(Into::into), name: name.into() }
}
