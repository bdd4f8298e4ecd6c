//! Row sets of SHOW POOL_....
/// A command.
#[derive(Clone, Copy, Debug)]
pub enum Command {}
/// A table.
pub struct Table {
    /// Names.
    pub columns: &'static [&'static str],
    /// Values.
    pub rows: Vec<Vec<String>>,
}
/// What it is made from.
pub struct View<'a> {
    /// Parameters.
    pub settings: &'a crate::config::Settings,
    /// Shared memory.
    pub shared: &'a crate::state::Shared,
    /// Of the session.
    pub load_balance_node: usize,
}
impl Command {
    /// By name.
    pub fn from_name(_: &str) -> Option<Self> {
        None
    }
}
/// Makes it.
pub fn table(command: Command, _: &View<'_>) -> Table {
    match command {}
}
