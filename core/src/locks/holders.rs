//! Who holds a lock.

use super::table::Holder;
use alloc::vec::Vec;

/// The holders of one lock by token, the first granted first. Nearly always there is one: a list with room for one takes
/// a tenth of the memory of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Holders(Vec<(u64, Holder)>);

impl Holders {
    fn place(&self, token: u64) -> Result<usize, usize> {
        self.0.binary_search_by_key(&token, |&(token, _)| token)
    }

    pub(super) fn get(&self, token: u64) -> Option<&Holder> {
        self.place(token).ok().map(|place| &self.0[place].1)
    }

    pub(super) fn get_mut(&mut self, token: u64) -> Option<&mut Holder> {
        self.place(token).ok().map(|place| &mut self.0[place].1)
    }

    pub(super) fn first(&self) -> Option<(u64, &Holder)> {
        self.iter().next()
    }

    pub(super) fn last_token(&self) -> Option<u64> {
        self.0.last().map(|&(token, _)| token)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Holder)> + Clone {
        self.0.iter().map(|(token, holder)| (*token, holder))
    }

    /// Adds a holder, in place of another one under the same token. Tokens rise, so this is nearly always the last one.
    pub(super) fn insert(&mut self, token: u64, holder: Holder) {
        match self.place(token) {
            Ok(place) => self.0[place].1 = holder,
            Err(place) => {
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                self.0.insert(place, (token, holder));
            }
        }
    }

    pub(super) fn remove(&mut self, token: u64) {
        if let Ok(place) = self.place(token) {
            self.0.remove(place);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
