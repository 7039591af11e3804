//! One run, on this thread.

use quorate_sim::script::Script;
use quorate_sim::{Observer, PlantedBug, Report, Schedule, plant, run, run_observed};
use std::cell::{Cell, RefCell};

thread_local! {
    static SIMULATING: Cell<bool> = const { Cell::new(false) };
    /// Where the last run panicked.
    static PANICKED_AT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic inside a run is a finding like any other: from now on it is remembered, not printed. All others are printed.
pub(crate) fn hush_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if SIMULATING.get() {
            let place = info.location().map(ToString::to_string);
            PANICKED_AT.with(|at| at.replace(place));
        } else {
            print(info);
        }
    }));
}

/// Runs a schedule with all checkers, and with this bug in the core.
pub(crate) fn simulate(schedule: &Schedule, planted: Option<PlantedBug>) -> Report {
    within(planted, || run(schedule, true), |report| report)
}

/// As [`simulate`]; somebody sees everything that happens.
pub(crate) fn simulate_observed<O: Observer + 'static>(
    schedule: &Schedule,
    planted: Option<PlantedBug>,
    observer: O,
) -> (Report, O) {
    within(
        planted,
        || run_observed(schedule, true, observer),
        |(report, _)| report,
    )
}

/// As [`simulate`], for a script.
pub(crate) fn play(script: Script) -> Report {
    within(None, || script.run(true), |report| report)
}

fn within<T>(
    planted: Option<PlantedBug>,
    play: impl FnOnce() -> T,
    report: impl FnOnce(&mut T) -> &mut Report,
) -> T {
    let _planted = plant(planted);
    SIMULATING.set(true);
    let mut played = play();
    SIMULATING.set(false);
    let place = PANICKED_AT.take();
    if let (Some(violation), Some(place)) = (&mut report(&mut played).violation, place) {
        violation.what.push_str(&format!(" ({place})"));
    }
    played
}
