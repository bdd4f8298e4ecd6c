//! What checks of finished settings look at, and how they report.

use super::apply::Positions;
use super::problem::Problems;
use super::settings::Settings;
use crate::report::Report;

pub(super) struct Checks<'a> {
    pub settings: &'a Settings,
    pub positions: &'a Positions,
    pub problems: &'a mut Problems,
}

impl Checks<'_> {
    /// Reports a problem at the place where `name` is set.
    pub fn at(&mut self, name: &'static str, index: Option<usize>, report: Report) {
        self.problems.add(report, self.positions.place(name, index));
    }
}
