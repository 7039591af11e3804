//! Processes of this cluster that have other settings, and are no members whoever says so.
//!
//! Observers bring no settings of their own, and may have taken over those of others: two parts of a cluster that differ
//! can hear of each other through them.

use super::Membership;
use crate::event::{Event, LeaveReason};
use crate::id::NodeId;
use crate::outbox::Context;
use crate::planted::{PlantedBug, planted};

impl Membership {
    /// A process is in quarantine from now on. If it is a member, it was one by hearsay.
    ///
    /// That is between this node and that one: nobody else is told, and it is not remembered as dead.
    pub(crate) fn quarantined(&mut self, cx: &mut Context<'_>, id: NodeId) {
        self.quarantined.insert(id);
        if !self.is_quarantined(id) {
            return;
        }
        if let Some(entry) = self.table.remove(id) {
            self.stop_watching(id);
            self.details.forget(id);
            cx.events.push_back(Event::MemberLeft {
                member: entry.member,
                reason: LeaveReason::Quarantined,
            });
            self.choose_partners(cx);
        }
    }

    /// It is gone, or agrees now.
    pub(crate) fn quarantine_ended(&mut self, id: NodeId) {
        self.quarantined.remove(&id);
    }

    pub(super) fn is_quarantined(&self, id: NodeId) -> bool {
        self.quarantined.contains(&id) && !planted(PlantedBug::HearsayBeatsQuarantine)
    }
}
