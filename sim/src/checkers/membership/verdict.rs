//! Who may say of somebody else that it is a member, or that it failed.

use super::super::truth::{LATE, Listed, Truth, isolation};
use super::super::{ago, ensure, who};
use super::SLACK;
use crate::observe::{Datagram, Provenance};
use crate::world::{NodeIndex, World};
use quorate_core::Duration;

/// How long frames may wait for a session before they are sent.
const HELD: Duration = Duration::from_secs(15);

/// Who hears of a member hears of it from the member itself, or from somebody who listed it when he wrote.
pub(super) fn told_by_somebody_who_knows(
    world: &World,
    truth: &Truth,
    node: NodeIndex,
    subject: NodeIndex,
    cause: Option<Datagram>,
) -> Result<(), String> {
    let Some((cause, from)) = cause.and_then(|cause| Some((cause, cause.sender?))) else {
        return Ok(());
    };
    let copy = !matches!(cause.provenance, Provenance::Original | Provenance::Duplicate);
    let (false, Some(sent)) = (from == subject || copy, truth.sent_at(cause.number)) else {
        return Ok(());
    };
    let held = match truth.node(from).late {
        Some((_, since, until)) if sent.saturating_since(until) < HELD => sent.saturating_since(since) + HELD,
        _ => HELD,
    };
    let knew = truth
        .listed(from, subject)
        .is_some_and(|listed| listed.present || listed.until + held >= sent);
    ensure(knew, || {
        format!(
            "{} lists {} because of a datagram of {}, which did not list it when it sent that {}",
            who(world, node),
            who(world, subject),
            who(world, from),
            ago(world.now(), sent)
        )
    })
}

/// Whoever hears a goodbye says so: it is no failure.
pub(super) fn goodbye(
    world: &World,
    truth: &Truth,
    node: NodeIndex,
    subject: NodeIndex,
) -> Result<(), String> {
    let heard = truth
        .node(node)
        .cause
        .is_some_and(|cause| cause.sender == Some(subject) && cause.provenance == Provenance::Original);
    // After so long somebody may be forgotten with all others when anything is heard.
    let forgets = truth.longest(world) > isolation(world.process(node));
    ensure(
        !heard || forgets || world.process(subject).leaving.is_none(),
        || {
            format!(
                "{} declares {} failed because of what that wrote to it, which leaves",
                who(world, node),
                who(world, subject)
            )
        },
    )
}

/// A verdict that somebody failed needs silence, or hearsay.
pub(super) fn verdict(
    world: &World,
    truth: &Truth,
    node: NodeIndex,
    subject: NodeIndex,
    listed: &Listed,
) -> Result<(), String> {
    let now = world.now();
    let it = truth.node(node);
    if !world.process(node).is_live() || !truth.are_partners(node, subject) || it.timeout < it.interval * 3 {
        return Ok(());
    }
    let since = now - it.timeout;
    ensure(
        listed.since > since || !truth.clear_since(world, node, subject, since),
        || {
            format!(
                "{} declares {} failed, which runs, while everything that they wrote to each other for {:.3} s arrived",
                who(world, node),
                who(world, subject),
                it.timeout.as_secs_f64()
            )
        },
    )?;
    if truth.was_declared(subject, listed.incarnation) {
        return Ok(());
    }
    // At first hand: whoever was not awake has no right to accuse before everybody had the time to answer again.
    // After a silence of its own that was long enough, or a jump of its clock that looks like one, it forgets everybody,
    // which is told the same way.
    let jumped = truth.jumped() >= isolation(world.process(node));
    if let Some((before, paused, resumed)) = it.late
        && !jumped
        && resumed.saturating_since(paused) + it.timeout * 2 < isolation(world.process(node))
        && resumed.saturating_since(paused) > it.interval + LATE * 2
        && paused.saturating_since(before) >= it.timeout * 2
        && listed.since + it.timeout * 2 <= paused
    {
        let awake = now.saturating_since(resumed);
        ensure(awake + SLACK >= it.timeout, || {
            format!(
                "{} declares {} failed {:.3} s after it went on from a pause of {:.3} s: nobody had the time to answer",
                who(world, node),
                who(world, subject),
                awake.as_secs_f64(),
                resumed.saturating_since(paused).as_secs_f64()
            )
        })?;
    }
    helped(world, truth, node, subject, listed)
}

/// Whoever cannot be heard directly is asked for by others: with all others within reach of both, silence between two is
/// no reason for a verdict at first hand.
fn helped(
    world: &World,
    truth: &Truth,
    node: NodeIndex,
    subject: NodeIndex,
    listed: &Listed,
) -> Result<(), String> {
    let it = truth.node(node);
    let since = world.now() - it.timeout * 2;
    if listed.since > since
        || !world.process(subject).is_live()
        || !truth.well_since(node, since)
        || !truth.well_since(subject, since)
    {
        return Ok(());
    }
    let mut helpers = 0;
    for (&other, believed) in &it.lists {
        if other == subject || !believed.present {
            continue;
        }
        let reaches = believed.since <= since
            && truth.are_partners(node, other)
            && truth.lists_since(other, subject, since)
            && truth.lists_since(subject, other, since)
            && truth.clear_since(world, other, node, since)
            && truth.clear_since(world, other, subject, since);
        if !reaches {
            return Ok(());
        }
        helpers += 1;
    }
    ensure(helpers == 0 || helpers > 3, || {
        format!(
            "{} declares {} failed, while all {helpers} others reach both of them",
            who(world, node),
            who(world, subject)
        )
    })
}
