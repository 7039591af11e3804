//! What a node holds, counted in its containers, beside the bounds that its config promises. For simulators.

use alloc::vec::Vec;

/// One thing that a node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// What it is: a count, or bytes where the name says so. "Worst" rows are those of the one peer with the most.
    pub name: &'static str,
    /// How much there is.
    pub used: usize,
    /// How much there may be, from the config and the constants of the protocol.
    pub limit: usize,
}

/// All that a node holds; see `Node::usage`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    rows: Vec<UsageRow>,
}

impl Usage {
    pub(crate) fn row(&mut self, name: &'static str, used: usize, limit: usize) {
        self.rows.push(UsageRow { name, used, limit });
    }

    /// Returns every row, always the same ones in the same order.
    pub fn rows(&self) -> &[UsageRow] {
        &self.rows
    }

    /// Returns the rows that hold more than they may: none, unless there is a bug.
    pub fn exceeded(&self) -> impl Iterator<Item = &UsageRow> {
        self.rows.iter().filter(|row| row.used > row.limit)
    }
}
