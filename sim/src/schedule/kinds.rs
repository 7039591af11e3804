//! A choice among the kinds of faults.

use crate::fault::FaultKind;
use std::fmt;
use std::str::FromStr;

/// A set of kinds of faults: `all`, `none`, or names such as `loss,crash,split`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kinds(u64);

const _: () = assert!(FaultKind::NAMES.len() < 64);

impl Kinds {
    /// Every kind.
    pub const ALL: Self = Self((1 << FaultKind::NAMES.len()) - 1);
    /// No kind.
    pub const NONE: Self = Self(0);

    /// Returns whether the set has the kind of this name.
    pub fn contains(self, name: &str) -> bool {
        self & Self::one(name) != Self::NONE
    }

    /// Returns how many kinds there are in the set.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Returns whether there is no kind in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the names of the kinds in the set, in the order of [`FaultKind::NAMES`].
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        FaultKind::NAMES
            .iter()
            .copied()
            .filter(move |name| self.contains(name))
    }

    /// The set of one kind; of none if no kind has this name.
    pub(super) fn one(name: &str) -> Self {
        let index = FaultKind::NAMES.iter().position(|&known| known == name);
        Self(index.map_or(0, |index| 1 << index))
    }
}

impl std::ops::BitAnd for Kinds {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl std::ops::BitOr for Kinds {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.write_str("all"),
            Self::NONE => f.write_str("none"),
            _ => f.write_str(&self.names().collect::<Vec<_>>().join(",")),
        }
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kinds({self})")
    }
}

impl FromStr for Kinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::ALL),
            "none" => return Ok(Self::NONE),
            _ => {}
        }
        let mut kinds = Self::NONE;
        for name in text.split(',') {
            let one = Self::one(name);
            if one.is_empty() {
                let known = FaultKind::NAMES.join(", ");
                return Err(format!(
                    "'{name}' is no kind of fault: must be all, none, or some of {known}"
                ));
            }
            kinds = kinds | one;
        }
        Ok(kinds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_reads_back() {
        for text in ["all", "none", "loss", "loss,crash,dns"] {
            let kinds: Kinds = text.parse().unwrap();
            assert_eq!(kinds.to_string(), text);
        }
        let kinds: Kinds = "crash,loss,crash".parse().unwrap();
        assert_eq!(kinds.names().collect::<Vec<_>>(), ["loss", "crash"]);
        assert!(kinds.contains("loss") && !kinds.contains("split") && !kinds.contains("nonsense"));
        assert_eq!(Kinds::ALL.len(), FaultKind::NAMES.len());
        assert_eq!(FaultKind::NAMES.join(",").parse(), Ok(Kinds::ALL));
    }

    #[test]
    fn an_unknown_kind_is_named() {
        for text in ["", "los", "loss,", "loss, crash", "all,loss", "LOSS"] {
            let error = text.parse::<Kinds>().unwrap_err();
            assert!(
                error.contains("must be all, none, or some of loss, burst-loss"),
                "{error}"
            );
        }
    }
}
