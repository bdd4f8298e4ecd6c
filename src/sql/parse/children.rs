//! The nodes below a node: those of its fields that can hold relations, function calls or statements.
//!
//! A table, in the order of PostgreSQL's `raw_expression_tree_walker`. A kind of node that is missing here makes a text
//! unparsable for us, so an omission costs performance, never correctness.

use pg_raw_parse::Node;
use pg_raw_parse::list::{CastNodeList, NodeList};

/// Visits the nodes directly below an expression, a FROM item or a data statement; false if the kind of node is not
/// known. Three things are left to the caller, because they need a scope or are no reads: WITH clauses, the target of a
/// modification, and what INTO and locking clauses name.
pub(super) fn visit_children<'t>(node: Node<'t>, visit: &mut impl FnMut(Node<'t>)) -> bool {
    is_leaf(&node) || statement(node, visit) || expression(node, visit) || from_item(node, visit) || json(node, visit)
}

/// Visits each given field; a field is a node, an optional node, or a list.
macro_rules! each {
    ($visit:ident: $($field:expr),+) => {{ $( Field::each($field, $visit); )+ }};
}

fn is_leaf(node: &Node<'_>) -> bool {
    matches!(
        node,
        Node::None
            | Node::A_Const(_)
            | Node::A_Star(_)
            | Node::BitString(_)
            | Node::Boolean(_)
            // Column names and `*`.
            | Node::ColumnRef(_)
            // Names and types; their expressions cannot call functions.
            | Node::ColumnDef(_)
            | Node::CurrentOfExpr(_)
            | Node::Float(_)
            | Node::Integer(_)
            | Node::MergeSupportFunc(_)
            | Node::ParamRef(_)
            | Node::SQLValueFunction(_)
            | Node::SetToDefault(_)
            | Node::String(_)
    )
}

fn statement<'t>(node: Node<'t>, visit: &mut impl FnMut(Node<'t>)) -> bool {
    match node {
        Node::NodeList(list) => list.each(visit),
        Node::SelectStmt(n) => {
            each!(visit: n.distinct_clause(), n.target_list(), n.from_clause(), n.where_clause(), n.group_clause());
            each!(visit: n.having_clause(), n.window_clause(), n.values_lists(), n.sort_clause());
            each!(visit: n.limit_offset(), n.limit_count(), n.larg(), n.rarg());
        }
        Node::InsertStmt(n) => {
            each!(visit: n.cols(), n.select_stmt(), n.on_conflict_clause(), n.returning_clause());
        }
        Node::UpdateStmt(n) => {
            each!(visit: n.target_list(), n.where_clause(), n.from_clause(), n.returning_clause());
        }
        Node::DeleteStmt(n) => each!(visit: n.using_clause(), n.where_clause(), n.returning_clause()),
        Node::MergeStmt(n) => {
            each!(visit: n.source_relation(), n.join_condition(), n.merge_when_clauses(), n.returning_clause());
        }
        Node::MergeWhenClause(n) => each!(visit: n.condition(), n.target_list(), n.values()),
        Node::OnConflictClause(n) => each!(visit: n.infer(), n.target_list(), n.where_clause()),
        Node::InferClause(n) => each!(visit: n.index_elems(), n.where_clause()),
        Node::IndexElem(n) => each!(visit: n.expr()),
        Node::ReturningClause(n) => each!(visit: n.exprs()),
        Node::ResTarget(n) => each!(visit: n.indirection(), n.val()),
        Node::MultiAssignRef(n) => each!(visit: n.source()),
        _ => return false,
    }
    true
}

fn expression<'t>(node: Node<'t>, visit: &mut impl FnMut(Node<'t>)) -> bool {
    match node {
        Node::A_ArrayExpr(n) => each!(visit: n.elements()),
        Node::A_Expr(n) => each!(visit: n.lexpr(), n.rexpr()),
        Node::A_Indices(n) => each!(visit: n.lidx(), n.uidx()),
        Node::A_Indirection(n) => each!(visit: n.arg(), n.indirection()),
        Node::BoolExpr(n) => each!(visit: n.args()),
        Node::BooleanTest(n) => each!(visit: n.arg()),
        Node::CaseExpr(n) => each!(visit: n.arg(), n.args(), n.defresult()),
        Node::CaseWhen(n) => each!(visit: n.expr(), n.result()),
        Node::CoalesceExpr(n) => each!(visit: n.args()),
        Node::CollateClause(n) => each!(visit: n.arg()),
        Node::FuncCall(n) => each!(visit: n.args(), n.agg_order(), n.agg_filter(), n.over()),
        Node::GroupingFunc(n) => each!(visit: n.args()),
        Node::GroupingSet(n) => each!(visit: n.content()),
        Node::MinMaxExpr(n) => each!(visit: n.args()),
        Node::NamedArgExpr(n) => each!(visit: n.arg()),
        Node::NullTest(n) => each!(visit: n.arg()),
        Node::RowExpr(n) => each!(visit: n.args()),
        Node::SortBy(n) => each!(visit: n.node()),
        Node::SubLink(n) => each!(visit: n.testexpr(), n.subselect()),
        Node::TypeCast(n) => each!(visit: n.arg()),
        Node::WindowDef(n) => each!(visit: n.partition_clause(), n.order_clause(), n.start_offset(), n.end_offset()),
        Node::XmlExpr(n) => each!(visit: n.named_args(), n.args()),
        Node::XmlSerialize(n) => each!(visit: n.expr()),
        _ => return false,
    }
    true
}

fn from_item<'t>(node: Node<'t>, visit: &mut impl FnMut(Node<'t>)) -> bool {
    match node {
        Node::JoinExpr(n) => each!(visit: n.larg(), n.rarg(), n.quals()),
        // ROWS FROM: a list of (function, column definitions) pairs.
        Node::RangeFunction(n) => each!(visit: n.functions()),
        Node::RangeSubselect(n) => each!(visit: n.subquery()),
        Node::RangeTableFunc(n) => each!(visit: n.docexpr(), n.rowexpr(), n.namespaces(), n.columns()),
        Node::RangeTableFuncCol(n) => each!(visit: n.colexpr(), n.coldefexpr()),
        Node::RangeTableSample(n) => each!(visit: n.relation(), n.args(), n.repeatable()),
        _ => return false,
    }
    true
}

fn json<'t>(node: Node<'t>, visit: &mut impl FnMut(Node<'t>)) -> bool {
    match node {
        Node::JsonAggConstructor(n) => each!(visit: n.agg_order(), n.agg_filter(), n.over()),
        Node::JsonArgument(n) => each!(visit: n.val()),
        Node::JsonArrayAgg(n) => each!(visit: n.constructor(), n.arg()),
        Node::JsonArrayConstructor(n) => each!(visit: n.exprs()),
        Node::JsonArrayQueryConstructor(n) => each!(visit: n.query()),
        Node::JsonBehavior(n) => each!(visit: n.expr()),
        Node::JsonFuncExpr(n) => {
            each!(visit: n.context_item(), n.pathspec(), n.passing(), n.on_empty(), n.on_error());
        }
        Node::JsonIsPredicate(n) => each!(visit: n.expr()),
        Node::JsonKeyValue(n) => each!(visit: n.key(), n.value()),
        Node::JsonObjectAgg(n) => each!(visit: n.constructor(), n.arg()),
        Node::JsonObjectConstructor(n) => each!(visit: n.exprs()),
        Node::JsonParseExpr(n) => each!(visit: n.expr()),
        Node::JsonScalarExpr(n) => each!(visit: n.expr()),
        Node::JsonSerializeExpr(n) => each!(visit: n.expr()),
        Node::JsonTable(n) => each!(visit: n.context_item(), n.passing(), n.columns(), n.on_error()),
        Node::JsonTableColumn(n) => each!(visit: n.on_empty(), n.on_error(), n.columns()),
        Node::JsonValueExpr(n) => each!(visit: n.raw_expr(), n.formatted_expr()),
        _ => return false,
    }
    true
}

/// A field of a node, as the bindings type it.
trait Field<'t> {
    fn each(self, visit: &mut impl FnMut(Node<'t>));
}

impl<'t> Field<'t> for Node<'t> {
    fn each(self, visit: &mut impl FnMut(Node<'t>)) {
        visit(self);
    }
}

impl<'t> Field<'t> for &'t NodeList {
    fn each(self, visit: &mut impl FnMut(Node<'t>)) {
        self.iter().for_each(visit);
    }
}

impl<'t, T> Field<'t> for Option<&'t T>
where
    Node<'t>: From<&'t T>,
{
    fn each(self, visit: &mut impl FnMut(Node<'t>)) {
        self.map(Node::from).into_iter().for_each(visit);
    }
}

impl<'t, T> Field<'t> for &'t CastNodeList<T>
where
    &'t CastNodeList<T>: IntoIterator<Item = &'t T>,
    Node<'t>: From<&'t T>,
{
    fn each(self, visit: &mut impl FnMut(Node<'t>)) {
        self.into_iter().map(Node::from).for_each(visit);
    }
}
