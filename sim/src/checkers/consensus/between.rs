//! What holds between groups: a younger one ends an older one, and its tokens are higher.

use super::ledger::Ledger;
use crate::checkers::ensure;
use crate::world::{NodeIndex, World};
use quorate_core::Group;
use std::collections::BTreeMap;

/// 2020-01-01 in microseconds since 1970, and how many tokens there are for each microsecond since.
const EPOCH_MICROS: u64 = 1_577_836_800_000_000;
const TOKENS: u64 = 1 << 12;

/// Returns above which token a group of this founder begins, by the founder's wall clock alone.
pub(super) fn wall_base(world: &World, founder: NodeIndex) -> u64 {
    let process = world.process(founder);
    let passed = world
        .clock(process.host)
        .saturating_since(process.started_locally);
    let micros = process
        .wall
        .as_unix_micros()
        .saturating_add(passed.as_micros() as u64);
    micros.saturating_sub(EPOCH_MICROS).saturating_mul(TOKENS)
}

/// Whether a group was founded by a process that is meant to belong to the cluster.
pub(in crate::checkers) fn is_of_members(world: &World, group: Group) -> bool {
    let founder = world.find(group.founder.node);
    founder.is_some_and(|founder| world.process(founder).member)
}

/// Whether the tokens of the younger group have to be above those of the older one: its founder's wall clock was ahead of
/// them, or one of its voters knew of them. Else everybody who knew was gone, and the wall clock was set back.
pub(in crate::checkers) fn tokens_must_rise(older: &Ledger, younger: &Ledger) -> bool {
    let highest = older.tokens.map_or(older.found.token_base, |(_, last)| last);
    younger.wall_base > highest || younger.known > highest
}

/// Checks one group, which has changed, against all others.
///
/// At the instant at which a group is founded Q (+ s) living processes have empty logs, so that with at most N (+ s) alive
/// fewer than Q belong to any older group. Those can decide nothing that was appended later, and complete no quorum
/// round that began later.
pub(super) fn check(world: &World, groups: &BTreeMap<Group, Ledger>, changed: Group) -> Result<(), String> {
    let Some(changed) = groups.get(&changed) else {
        return Ok(());
    };
    let members = |ledger: &Ledger| is_of_members(world, ledger.group);
    for other in groups.values().filter(|other| other.group != changed.group) {
        if !members(changed) || !members(other) {
            continue;
        }
        let (older, younger) = if other.created <= changed.created {
            (other, changed)
        } else {
            (changed, other)
        };
        check_pair(older, younger)?;
    }
    Ok(())
}

pub(super) fn check_pair(older: &Ledger, younger: &Ledger) -> Result<(), String> {
    let born = younger.created;
    if younger.is_founded() {
        ensure(older.newest_entry <= born, || {
            format!(
                "the group {} decides an entry that was appended after the younger group {} was founded",
                older.group, younger.group
            )
        })?;
        ensure(older.newest_round <= born, || {
            format!(
                "the group {} completes a quorum round that began after the younger group {} was founded",
                older.group, younger.group
            )
        })?;
    }
    let (Some((_, last)), Some((first, _))) = (older.tokens, younger.tokens) else {
        return Ok(());
    };
    ensure(last < first || !tokens_must_rise(older, younger), || {
        format!(
            "token {first} of the group {} is not above token {last} of the older group {}",
            younger.group, older.group
        )
    })
}
