//! What makes a schedule one that can be run.

use super::Schedule;
use super::fields::Field;
use crate::fault::{Fault, FaultKind, HostSet};
use quorate_core::Duration;
use std::fmt;

/// The most hosts of a schedule: a [`HostSet`] names no others.
pub const MAX_HOSTS: usize = 64;
/// The most faults of a schedule.
pub const MAX_FAULTS: usize = 20_000;
/// The shortest `max_ttl`.
const MIN_TTL: Duration = Duration::from_secs(1);
/// The longest chaos.
pub const MAX_CHAOS: Duration = Duration::from_secs(86_400);

/// The first thing that is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Which fault it is about, counted from 0; `None` for the schedule itself.
    pub fault: Option<usize>,
    /// The name of the field.
    pub field: &'static str,
    /// Its value, as text.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fault) = self.fault {
            write!(f, "fault {fault}: ")?;
        }
        write!(f, "{} is {}: must be {}", self.field, self.value, self.allowed)
    }
}

impl std::error::Error for Invalid {}

impl Schedule {
    /// Checks every field and the rules between them.
    ///
    /// # Errors
    /// The first thing that is wrong: a field out of its range, hosts that there are not, a fault that outlasts the
    /// chaos.
    pub fn validate(&self) -> Result<(), Invalid> {
        let invalid = |field, value: String, allowed: String| Invalid {
            fault: None,
            field,
            value,
            allowed,
        };
        let mut wrong = None;
        let mut header = Self {
            faults: Vec::new(),
            ..*self
        };
        header.each_field(&mut |name, field| {
            if wrong.is_none() && !field.is_allowed() {
                wrong = Some(invalid(name, field.to_string(), field.allowed()));
            }
        });
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        if self.observers >= self.hosts {
            let allowed = format!("0 to {}, fewer than hosts", self.hosts - 1);
            return Err(invalid("observers", self.observers.to_string(), allowed));
        }
        if self.max_ttl < MIN_TTL {
            let (value, allowed) = (super::time::write(self.max_ttl), "at least 1s".to_owned());
            return Err(invalid("max_ttl", value, allowed));
        }
        let most = self.most_surge();
        if self.surge > most {
            let allowed = format!("0 to {most}, the seats that a quorum can do without");
            return Err(invalid("surge", self.surge.to_string(), allowed));
        }
        if self.faults.len() > MAX_FAULTS {
            let allowed = format!("at most {MAX_FAULTS}");
            return Err(invalid(
                "the number of faults",
                self.faults.len().to_string(),
                allowed,
            ));
        }
        for (number, fault) in self.faults.iter().enumerate() {
            self.check(fault).map_err(|wrong| Invalid {
                fault: Some(number),
                ..wrong
            })?;
        }
        Ok(())
    }

    /// Leaves out the faults that [`Schedule::validate`] refuses. A drawn schedule that was changed may have such: a
    /// [`FaultKind::Surge`] where `surge` is 0 now, what hosts do that there are not any more, what outlasts a shorter
    /// chaos. The other fields stay as they are, right or wrong.
    ///
    /// ```
    /// use quorate_sim::{Draw, Duration, Schedule};
    ///
    /// for seed in 0..50 {
    ///     let schedule = Schedule {
    ///         cluster_size: 5,
    ///         surge: 0,
    ///         chaos: Duration::from_secs(30),
    ///         ..Schedule::draw(seed, &Draw { hosts: 3..=5, ..Draw::default() })
    ///     };
    ///     assert_eq!(schedule.without_invalid_faults().validate(), Ok(()));
    /// }
    /// ```
    #[must_use]
    pub fn without_invalid_faults(mut self) -> Self {
        let mut faults = std::mem::take(&mut self.faults);
        faults.retain(|fault| self.check(fault).is_ok());
        Self { faults, ..self }
    }

    /// Lets nobody go on with what cannot be run: every way in that takes a schedule begins with this.
    ///
    /// # Panics
    /// If the schedule is not valid.
    pub(crate) fn expect_valid(&self) {
        if let Err(wrong) = self.validate() {
            panic!("the schedule is not valid: {wrong}");
        }
    }

    /// Returns how many voters more than there are seats the settings can allow for: N minus Q.
    pub(super) fn most_surge(&self) -> u8 {
        let quorum = self.cluster_size / 2 + 1;
        self.cluster_size.saturating_sub(quorum)
    }

    fn check(&self, fault: &Fault) -> Result<(), Invalid> {
        let mut wrong = None;
        let mut object = |field, value: String, allowed| {
            wrong.get_or_insert(Invalid {
                fault: None,
                field,
                value,
                allowed,
            });
        };
        let mut kind = fault.kind;
        kind.each_field(&mut |name, field| {
            let exists = match &field {
                Field::Host(host) => host.0 < self.hosts,
                Field::Hosts(set) => {
                    **set == HostSet::ALL || set.hosts(MAX_HOSTS).all(|host| host.0 < self.hosts)
                }
                _ => true,
            };
            if !field.is_allowed() {
                object(name, field.to_string(), field.allowed());
            } else if !exists {
                let allowed = format!("among the {} hosts, counted from 0", self.hosts);
                object(name, field.to_string(), allowed);
            }
        });
        if matches!(fault.kind, FaultKind::Surge) && self.cluster_size > 0 && self.surge == 0 {
            let allowed = "at least 1 where a process more than there are seats runs".to_owned();
            object("surge", self.surge.to_string(), allowed);
        }
        if fault.at > self.chaos || fault.lasting > self.chaos - fault.at {
            let end = super::time::write(fault.ends());
            let allowed = format!(
                "no later than the end of chaos, {}",
                super::time::write(self.chaos)
            );
            object("the end", end, allowed);
        }
        wrong.map_or(Ok(()), Err)
    }
}
