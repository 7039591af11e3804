//! Who leads is answered, by who belongs to its group, and who stands for election was answered before.

#[cfg(test)]
mod tests;

use super::Watched;
use super::view::{Key, Part};
use crate::checkers::ensure;
use crate::checkers::truth::Truth;
use crate::world::{NodeIndex, World};
use quorate_core::consensus::{Leadership, Progress, Seats};
use quorate_core::{Config, Duration, Instant};

/// How much later than it should anything happens on a machine that works.
const SLACK: Duration = Duration::from_millis(500);

/// After so long without answers of a quorum nobody leads any more, or stands for election.
fn patience(config: &Config) -> Duration {
    config.election_timeout * 2 + SLACK
}

/// How many other seats something was heard of since then.
fn heard_since(world: &World, truth: &Truth, node: NodeIndex, seats: &Seats, since: Instant) -> usize {
    let heard = |seat: quorate_core::Life| {
        let other = world.find(seat.node).filter(|&other| other != node);
        other.is_some_and(|other| truth.way(other, node).opened >= since)
    };
    seats.iter().filter(|&seat| heard(seat)).count()
}

/// Objects to a leader that has not been answered for too long (check-quorum; Ongaro 2014, section 6.2).
pub(super) fn check_leader(
    world: &World,
    truth: &Truth,
    node: NodeIndex,
    watched: &Watched,
    seats: &Seats,
    quorum: usize,
) -> Result<(), String> {
    let config = &world.process(node).config;
    let since = world.now() - patience(config);
    if watched.leads_since >= since || !truth.well_since(node, since - SLACK) {
        return Ok(());
    }
    let heard = heard_since(world, truth, node, seats, since);
    ensure(heard + 1 >= quorum, || {
        format!(
            "{} leads in term {}, and only {heard} other seats were heard of in {:?}: a quorum is {quorum}",
            watched.key.life,
            watched.key.term,
            patience(config)
        )
    })
}

/// Objects to a leader that takes an answer to a quorum round from a life without a group: that has not stored the
/// beginning, and may follow another founder next. What a life has stored it keeps; not so without `cluster_size`, where
/// a life goes on after it has abandoned a group, and a leader is its own quorum.
pub(super) fn check_rounds(
    world: &World,
    watched: &[Option<Watched>],
    leader: &Watched,
    leadership: &Leadership,
) -> Result<(), String> {
    let empty = |life: quorate_core::Life| {
        let peer = world.find(life.node);
        let peer = peer.and_then(|peer| watched.get(peer.0)?.as_ref());
        peer.is_some_and(|peer| peer.key.life == life && peer.key.group != leader.key.group)
    };
    let unstored = |progress: &Progress| progress.matched() == 0 && progress.round() > 0;
    let mut peers = leadership.peers();
    let wrong = peers.find(|&(life, progress)| unstored(progress) && empty(life));
    ensure(wrong.is_none(), || {
        let (life, round) = wrong.map_or((leader.key.life, 0), |(life, progress)| (life, progress.round()));
        format!(
            "{} counts an answer to round {round} by {life}, which has not stored the beginning of the group",
            leader.key.life
        )
    })
}

/// Objects to a candidate in a new term whom no quorum can have said that it would vote for it (section 9.6). A leader
/// that leaves may have told it to stand.
pub(super) fn check_candidate(
    world: &World,
    truth: &Truth,
    node: NodeIndex,
    (before, key): (&Key, &Key),
    seats: &Seats,
    quorum: usize,
) -> Result<(), String> {
    let begun = matches!(key.part, Part::Candidate) && key.term > before.term;
    let since = world.now() - patience(&world.process(node).config);
    let told = seats.iter().any(|seat| {
        let process = world.find(seat.node).map(|other| world.process(other));
        process.is_some_and(|process| process.leaving.is_some())
    });
    if !begun || told || before.group != key.group || !truth.well_since(node, since - SLACK) {
        return Ok(());
    }
    let heard = heard_since(world, truth, node, seats, since);
    ensure(heard + 1 >= quorum, || {
        format!(
            "{} stands for election in term {} though only {heard} other seats can have said that they would vote for it: \
             a quorum is {quorum}",
            key.life, key.term
        )
    })
}
