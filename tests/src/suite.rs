//! All scenarios, and running them as tests.

use crate::{Runtime, SCENARIO, endings, locks, membership, messages, os, outcomes, security};
use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

/// How many scenarios run at a time: they mostly wait.
const AT_A_TIME: usize = 8;

/// A scenario, to be run on some runtime.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// Runs it, and panics if it fails.
    pub run: fn(),
}

/// Runs scenarios as tests, with the arguments of this program: those that `cargo test` passes on.
pub fn run(scenarios: impl IntoIterator<Item = Scenario>) -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(AT_A_TIME);
    let process = u128::from(std::process::id()) << 64;
    let trials = scenarios
        .into_iter()
        .zip(1..)
        .map(|(Scenario { name, run }, number)| {
            Trial::test(name, move || {
                SCENARIO.set(process | number);
                run();
                Ok(())
            })
        });
    libtest_mimic::run(&args, trials.collect()).exit_code()
}

macro_rules! list {
    ($runtime:ident: $($($module:ident)::+ { $($scenario:ident),+ })+) => {
        [$(list!(@module $runtime { $($module::)+ } $($scenario)+)),+].concat()
    };
    (@module $runtime:ident $module:tt $($scenario:ident)+) => {
        vec![$(list!(@one $runtime $module $scenario)),+]
    };
    (@one $runtime:ident { $($module:tt)+ } $scenario:ident) => {
        Scenario {
            name: stringify!($scenario),
            run: || $runtime::test($($module)+ $scenario::<$runtime>),
        }
    };
}

/// Lists the scenarios that run on any runtime, also in a simulation.
pub fn scenarios<R: Runtime>() -> Vec<Scenario> {
    list!(R:
        // The longest first.
        security { key_rotation, a_missed_rotation, wrong_key_and_plaintext, quarantine }
        locks::guards { a_cut_off_holder_has_lost_it_before_the_next_gets_it, work_is_stopped_when_the_lock_is_lost,
            whoever_leaves_hands_over_at_once, a_panic_hands_over, a_panic_of_the_work_hands_over, leases_are_renewed,
            a_lease_gets_shorter_and_longer, a_lock_at_risk, a_dead_holder,
            a_dead_holder_is_waited_for_unless_told_otherwise, a_guard_keeps_its_node,
            everybody_leaves_with_locks, many_guards_are_dropped_at_once }
        locks { hand_over_with_rising_tokens, a_refused_try_names_the_holder, units_and_readers, release_and_ask_again,
            the_urgent_go_first, wrong_requests, limits, no_quorum_no_locks, health_says_whether_locks_come, without_a_cluster_size }
        locks::cancel { a_dropped_acquire_leaves_nothing, an_acquire_dropped_at_any_poll, work_dropped_at_any_poll,
            questions_dropped_at_any_poll }
        locks::elections { elections, campaigns, a_leader_that_is_cut_off }
        locks::looking { listing_and_force, pages, filters, watching, counts }
        membership { join_by_name_address_and_gossip, crash, leave, dropping_every_handle_leaves, rejoin, quorum,
            twenty_nodes, bad_configs, an_unresolvable_name, several_clusters_in_one_process }
        messages { a_thousand_in_order, requests, a_mebibyte_at_five_percent_loss, too_large,
            a_request_to_a_peer_that_goes, a_consumer_that_stops_reading }
        outcomes { without_a_quorum, casts_and_readers, replies, answers_one_by_one, refusals }
        endings { a_shutdown_ends_all_calls }
    )
}

/// Lists the scenarios that need an operating system.
pub fn scenarios_os<R: Runtime>() -> Vec<Scenario> {
    list!(R:
        os::children { a_stopped_process_accuses_nobody, a_killed_process, child }
        os::leaks { hundreds_of_clusters, requests_that_are_given_up, dead_seeds }
        os::sockets { join_over_ipv6, bad_addresses }
        os::threads { a_guard_dropped_outside_of_any_runtime, a_thread_without_a_runtime }
    )
}
