//! The kind of one statement, and which parts of a utility statement are looked into.

use super::collect::{Collector, is_temporary};
use crate::sql::kind::{
    AccessMode, CopyPeer, DiscardTarget, Isolation, Kind, TransactionModes, Unparsable, VariableScope,
};
use pg_raw_parse::list::{CastNodeList, NodeList};
use pg_raw_parse::raw::{DiscardMode, ObjectType, TransactionStmtKind, VariableSetKind};
use pg_raw_parse::{ConstValue, Node, nodes};

/// `RowExclusiveLock`, the weakest lock mode that a standby refuses.
const ROW_EXCLUSIVE: i32 = 3;

/// `CURSOR_OPT_HOLD`.
const CURSOR_HOLD: i32 = 0x20;

/// Tells the kind of a statement and lets the collector walk what the statement reads and calls.
pub(super) fn classify<'t>(statement: Node<'t>, facts: &mut Collector<'t>) -> Kind {
    match statement {
        Node::SelectStmt(_) | Node::InsertStmt(_) | Node::UpdateStmt(_) | Node::DeleteStmt(_) | Node::MergeStmt(_) => {
            facts.walk(statement);
            data_kind(statement)
        }
        Node::PrepareStmt(n) => Kind::Prepare { name: text(n.name()), inner: Box::new(classify(n.query(), facts)) },
        Node::ExecuteStmt(n) => {
            facts.executes();
            facts.walk(Node::NodeList(n.params()));
            Kind::Execute(text(n.name()))
        }
        Node::DeallocateStmt(n) => Kind::Deallocate((!n.isall).then(|| text(n.name()))),
        Node::ExplainStmt(n) => {
            Kind::Explain { analyze: is_analyze(n.options()), inner: Box::new(classify(n.query(), facts)) }
        }
        Node::DeclareCursorStmt(n) => {
            facts.walk(n.query());
            Kind::Declare { name: text(n.portalname()), hold: n.options & CURSOR_HOLD != 0 }
        }
        Node::FetchStmt(n) => Kind::Fetch(text(n.portalname())),
        Node::ClosePortalStmt(n) => Kind::Close(n.portalname().map(Into::into)),
        Node::CopyStmt(n) => copy(n, facts),
        Node::TransactionStmt(n) => transaction(n),
        Node::VariableSetStmt(n) => variable(n),
        Node::VariableShowStmt(n) => Kind::Show(text(n.name())),
        Node::DiscardStmt(n) => Kind::Discard(match n.target {
            DiscardMode::DISCARD_PLANS => DiscardTarget::Plans,
            DiscardMode::DISCARD_SEQUENCES => DiscardTarget::Sequences,
            DiscardMode::DISCARD_TEMP => DiscardTarget::Temp,
            _ => DiscardTarget::All,
        }),
        Node::ConstraintsSetStmt(_) => Kind::SetConstraints,
        Node::ListenStmt(_) => Kind::Listen,
        Node::UnlistenStmt(_) => Kind::Unlisten,
        Node::NotifyStmt(_) => Kind::Notify,
        Node::LockStmt(n) => Kind::Lock { writes: n.mode >= ROW_EXCLUSIVE },
        Node::CallStmt(n) => {
            facts.walk(n.funccall().map_or(Node::None, Node::FuncCall));
            Kind::Call
        }
        Node::DoStmt(_) => Kind::Do,
        Node::LoadStmt(_) => Kind::Load,
        Node::CheckPointStmt(_) => Kind::Checkpoint,
        Node::VacuumStmt(_) => Kind::Vacuum,
        Node::DropdbStmt(n) => Kind::DropDatabase(text(n.dbname())),
        _ => definition(statement, facts),
    }
}

fn data_kind(statement: Node<'_>) -> Kind {
    match statement {
        Node::InsertStmt(_) => Kind::Insert,
        Node::UpdateStmt(_) => Kind::Update,
        Node::DeleteStmt(_) => Kind::Delete,
        Node::MergeStmt(_) => Kind::Merge,
        _ => Kind::Select,
    }
}

/// Statements that define, change or empty relations, and all others.
fn definition<'t>(statement: Node<'t>, facts: &mut Collector<'t>) -> Kind {
    match statement {
        Node::CreateStmt(n) => {
            facts.written(n.relation());
            return Kind::CreateTable { temporary: n.relation().is_some_and(is_temporary) };
        }
        Node::CreateTableAsStmt(n) => {
            classify(n.query(), facts);
            let target = n.into().and_then(nodes::IntoClause::rel);
            facts.written(target);
            return Kind::CreateTableAs { temporary: target.is_some_and(is_temporary) };
        }
        Node::TruncateStmt(n) => {
            for relation in n.relations() {
                if let Node::RangeVar(relation) = relation {
                    facts.written(Some(relation));
                }
            }
            return Kind::Truncate;
        }
        Node::DropStmt(n) => {
            if is_relation(n.remove_type) {
                for object in n.objects() {
                    if let Node::NodeList(parts) = object {
                        facts.written_parts(parts);
                    }
                }
            }
            return Kind::Drop;
        }
        Node::CreateSeqStmt(n) if !n.sequence().is_some_and(is_temporary) => {}
        Node::ViewStmt(n) if !n.view().is_some_and(is_temporary) => facts.written(n.view()),
        Node::AlterTableStmt(n) => facts.written(n.relation()),
        Node::AlterObjectSchemaStmt(n) => facts.written(n.relation()),
        Node::IndexStmt(n) => facts.written(n.relation()),
        Node::RefreshMatViewStmt(n) => facts.written(n.relation()),
        Node::RenameStmt(n) => facts.written(n.relation()),
        Node::None => return Kind::Unparsable(Unparsable::UnknownNode),
        // These leave nothing in the session. Of all others (temporary views, anything in pg_temp, statements of later
        // versions) it is not known.
        Node::AlterOwnerStmt(_)
        | Node::AlterRoleSetStmt(_)
        | Node::AlterRoleStmt(_)
        | Node::AlterSeqStmt(_)
        | Node::ClusterStmt(_)
        | Node::CommentStmt(_)
        | Node::CreateExtensionStmt(_)
        | Node::CreateRoleStmt(_)
        | Node::CreateSchemaStmt(_)
        | Node::CreateTrigStmt(_)
        | Node::CreatedbStmt(_)
        | Node::DropRoleStmt(_)
        | Node::GrantRoleStmt(_)
        | Node::GrantStmt(_)
        | Node::ReindexStmt(_) => {}
        _ => facts.changes_session(),
    }
    Kind::Ddl
}

fn is_relation(object: ObjectType::Type) -> bool {
    matches!(
        object,
        ObjectType::OBJECT_TABLE
            | ObjectType::OBJECT_VIEW
            | ObjectType::OBJECT_MATVIEW
            | ObjectType::OBJECT_FOREIGN_TABLE
            | ObjectType::OBJECT_SEQUENCE
    )
}

fn copy<'t>(copy: &'t nodes::CopyStmt, facts: &mut Collector<'t>) -> Kind {
    let peer = match copy.filename() {
        _ if copy.is_program => CopyPeer::Program,
        Some(_) => CopyPeer::File,
        None => CopyPeer::Client,
    };
    if copy.is_from {
        facts.written(copy.relation());
        facts.walk(copy.where_clause());
        return Kind::CopyFrom(peer);
    }
    facts.walk(copy.relation().map_or(Node::None, Node::RangeVar));
    let query = match copy.query() {
        Node::None => None,
        query => Some(Box::new(classify(query, facts))),
    };
    Kind::CopyTo { peer, query }
}

fn transaction(statement: &nodes::TransactionStmt) -> Kind {
    let savepoint = || text(statement.savepoint_name());
    let chain = statement.chain;
    match statement.kind {
        TransactionStmtKind::TRANS_STMT_BEGIN | TransactionStmtKind::TRANS_STMT_START => {
            Kind::Begin(transaction_modes(statement.options()))
        }
        TransactionStmtKind::TRANS_STMT_COMMIT => Kind::Commit { chain },
        TransactionStmtKind::TRANS_STMT_ROLLBACK => Kind::Rollback { chain },
        TransactionStmtKind::TRANS_STMT_SAVEPOINT => Kind::Savepoint(savepoint()),
        TransactionStmtKind::TRANS_STMT_RELEASE => Kind::Release(savepoint()),
        TransactionStmtKind::TRANS_STMT_ROLLBACK_TO => Kind::RollbackTo(savepoint()),
        TransactionStmtKind::TRANS_STMT_PREPARE => Kind::PrepareTransaction,
        TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED => Kind::CommitPrepared,
        TransactionStmtKind::TRANS_STMT_ROLLBACK_PREPARED => Kind::RollbackPrepared,
        _ => Kind::Unparsable(Unparsable::UnknownNode),
    }
}

/// Of modes given twice the last one is in force, but what a standby refuses is refused wherever it stands in the list.
fn transaction_modes(options: &NodeList) -> TransactionModes {
    let mut modes = TransactionModes::default();
    let (mut serializable, mut read_write) = (false, false);
    for option in options {
        let Node::DefElem(option) = option else { continue };
        let value = constant(option.arg());
        match option.defname() {
            Some("transaction_isolation") => {
                modes.isolation = value.and_then(|value| Isolation::from_name(&value));
                serializable |= modes.isolation == Some(Isolation::Serializable);
            }
            Some("transaction_read_only") => {
                let read_only = value.as_deref() != Some("0");
                modes.access = Some(if read_only { AccessMode::ReadOnly } else { AccessMode::ReadWrite });
                read_write |= !read_only;
            }
            _ => {}
        }
    }
    TransactionModes {
        isolation: if serializable { Some(Isolation::Serializable) } else { modes.isolation },
        access: if read_write { Some(AccessMode::ReadWrite) } else { modes.access },
    }
}

fn variable(set: &nodes::VariableSetStmt) -> Kind {
    let scope = if set.is_local { VariableScope::Transaction } else { VariableScope::Session };
    match set.kind {
        VariableSetKind::VAR_RESET => Kind::Reset(Some(text(set.name()))),
        VariableSetKind::VAR_RESET_ALL => Kind::Reset(None),
        VariableSetKind::VAR_SET_MULTI => match set.name() {
            Some("TRANSACTION") => {
                Kind::SetTransaction { scope: VariableScope::Transaction, modes: transaction_modes(set.args()) }
            }
            Some("SESSION CHARACTERISTICS") => {
                Kind::SetTransaction { scope: VariableScope::Session, modes: transaction_modes(set.args()) }
            }
            _ => Kind::Set { scope: VariableScope::Transaction, name: "transaction_snapshot".into(), value: None },
        },
        _ => {
            let value = if set.args().len() == 1 { set.args().first().and_then(constant) } else { None };
            Kind::Set { scope, name: text(set.name()), value }
        }
    }
}

/// Whether the last ANALYZE option does not say no.
fn is_analyze(options: &CastNodeList<nodes::DefElem>) -> bool {
    let option = options.iter().rfind(|option| option.defname() == Some("analyze"));
    option.is_some_and(|option| {
        let value = match option.arg() {
            Node::String(value) => value.sval().map(str::to_ascii_lowercase),
            Node::Integer(value) => Some(value.ival.to_string()),
            Node::Boolean(value) => Some(value.boolval.to_string()),
            _ => None,
        };
        !matches!(value.as_deref(), Some("off" | "false" | "0"))
    })
}

/// The text of a constant.
fn constant(node: Node<'_>) -> Option<Box<str>> {
    let Node::A_Const(constant) = node else { return None };
    Some(match constant.val()? {
        ConstValue::Integer(value) => value.to_string().into(),
        ConstValue::Boolean(value) => value.to_string().into(),
        ConstValue::Float(value) | ConstValue::String(value) | ConstValue::BitString(value) => value.into(),
        _ => return None,
    })
}

fn text(name: Option<&str>) -> Box<str> {
    name.unwrap_or_default().into()
}
