//! What the sessions hold.

use super::quarantine::MAX_QUARANTINED;
use super::table::PER_PEER;
use super::{MAX_TRANSMITS, MAX_UNKNOWN_KEYS, Sessions};
use crate::config::Config;
use crate::usage::Usage;

impl Sessions {
    pub(crate) fn usage(&self, config: &Config, usage: &mut Usage) {
        let worst = self.peers.values().map(|peer| peer.sessions.len()).max();
        let half_open = self
            .table
            .values()
            .filter(|session| session.is_half_open())
            .count();
        let from_m1 = self.half_open.len();
        let confirmed = self.table.len() - half_open;
        let most = config.max_sessions * PER_PEER;
        usage.row("peers with sessions", self.peers.len(), config.max_sessions);
        usage.row("worst sessions", worst.unwrap_or(0), PER_PEER);
        usage.row("sessions", confirmed, most);
        usage.row("half-open sessions", from_m1, config.max_half_open);
        // One for each session at most.
        usage.row("half-open re-keys", half_open.saturating_sub(from_m1), most);
        usage.row("dials", self.dialer.dialling(), config.max_dials);
        usage.row("dial candidates", self.dialer.waiting(), config.max_candidates);
        usage.row("reserved indexes", self.reserved.len(), config.max_dials + most);
        usage.row("quarantined", self.quarantine.len(), MAX_QUARANTINED);
        usage.row("unknown keys", self.unknown_keys.len(), MAX_UNKNOWN_KEYS);
        usage.row("session datagrams", self.transmits.len(), MAX_TRANSMITS);
    }
}
