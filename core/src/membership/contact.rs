//! What was sent to one member to learn whether it lives, and what came back.

use crate::config::Config;
use crate::id::NodeId;
use crate::time::{Duration, Instant};

/// Probes to one member whose echo is still of interest. Older ones are forgotten: their echo proves too little.
const PROBES_KEPT: usize = 8;
/// Members that are asked to probe somebody on one's behalf.
pub(super) const HELPERS: usize = 3;

/// Whether a probe number comes after another (serial number arithmetic, RFC 1982, section 3.2).
pub(super) const fn is_newer(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// Returns after how long two heartbeats have gone missing.
pub(super) fn missing_after(config: &Config) -> Duration {
    config.heartbeat_interval * 2 + config.probe_timeout
}

/// A probe of the SWIM detector.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    /// The number of its HEARTBEAT.
    pub(super) number: u32,
    /// Whether helpers were asked already.
    pub(super) indirect: bool,
    /// Whether its deadline was moved once because the timers ran late.
    pub(super) excused: bool,
}

/// The last question put to helpers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inquiry {
    pub(super) number: u32,
    /// Who was asked and has not answered.
    pub(super) silent: [Option<NodeId>; HELPERS],
}

/// The exchange of probes and echoes with one member. What every heartbeat touches comes first and stays together: with
/// many members it is never in the cache.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Contact {
    next: usize,
    /// The newest of our numbers that came back.
    echoed: Option<u32>,
    /// When that number was sent and when it came back.
    echo: Option<(Instant, Instant)>,
    /// The newest number received from the member; 0 for none.
    pub(super) heard: u32,
    /// When it last wrote, a handshake or on a session: whoever does that has one.
    pub(super) wrote: Option<Instant>,
    /// Whether it is a direct partner.
    pub(super) partner: bool,
    /// With a direct partner: since when silence counts, if no evidence is newer.
    pub(super) since: Instant,
    /// When a helper last heard from it on our behalf.
    pub(super) indirect: Option<Instant>,
    /// Whether this node suspects the direct partner itself, since its last evidence.
    pub(super) accused: bool,
    /// Whether a direct partner was given more time, since anything last came back, because the timers ran late.
    pub(super) excused: bool,
    pub(super) probe: Option<Probe>,
    /// The newest probe numbers sent and when, in a ring; number 0 is an empty place.
    sent: [(u32, Instant); PROBES_KEPT],
    pub(super) inquiry: Option<Inquiry>,
}

impl Contact {
    /// Whether nothing came from it for so long that it may have no session any more. An echo that is missing does not
    /// say so: it may be lost, or longer under way than probes wait.
    pub(super) fn is_mute(&self, now: Instant, config: &Config) -> bool {
        let wrote = self.wrote.map_or(self.since, |at| at.max(self.since));
        now - wrote > missing_after(config)
    }

    /// Notes a probe that is being sent.
    pub(super) fn probed(&mut self, now: Instant, number: u32) {
        // `next` stays below the length of the array.
        self.sent[self.next] = (number, now);
        self.next = (self.next + 1) % PROBES_KEPT;
    }

    /// Takes an echo. It counts only if it names a number that was sent to this member, within `horizon`, and is newer
    /// than every number that came back before: a replayed, invented or long-delayed echo is no evidence of life.
    pub(super) fn take_echo(&mut self, now: Instant, number: u32, horizon: Duration) -> bool {
        if number == 0 || self.echoed.is_some_and(|last| !is_newer(number, last)) {
            return false;
        }
        let Some(&(_, sent_at)) = self.sent.iter().find(|&&(sent, _)| sent == number) else {
            return false;
        };
        if now - sent_at > horizon {
            // It may have waited for this node, which was stopped: no evidence of life, and none of silence.
            self.excused = false;
            return false;
        }
        self.echoed = Some(number);
        self.echo = Some((sent_at, now));
        self.excused = false;
        self.inquiry = None;
        true
    }

    /// A helper heard from the member.
    pub(super) fn vouched(&mut self, now: Instant) {
        self.indirect = Some(now);
        self.excused = false;
    }

    /// When the newest probe that came back was sent: the member is known to have lived at some time after it.
    #[cfg(test)]
    pub(super) fn proven(&self) -> Option<Instant> {
        self.echo.map(|(sent, _)| sent)
    }

    /// When the newest echo arrived.
    pub(super) fn heard_at(&self) -> Option<Instant> {
        self.echo.map(|(_, received)| received)
    }

    /// Since when a direct partner has been silent. Counted from the arrival of the last echo, not from the sending of
    /// its probe: echoes ride on the partner's next heartbeat, up to an interval later, and one lost datagram must not
    /// be enough for a suspicion.
    pub(super) fn silent_since(&self) -> Instant {
        let evidence = self.heard_at().max(self.indirect);
        evidence.map_or(self.since, |at| at.max(self.since))
    }
}
