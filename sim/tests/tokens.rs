//! Tokens: who may draw them, and for how long they are believed in.

use quorate_sim::{Config, Duration, Event, Role, Sim, config};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn voter() -> Config {
    config().cluster_size(1).max_ttl(secs(2)).allow_observers(true)
}

#[test]
fn an_observer_believes_in_a_token_as_long_as_the_cluster_says() {
    let mut world = Sim::new(1);
    let one = world.start(voter());
    // Its own settings count for nothing.
    let seed = world.addr(one).to_string();
    let observer = world.start(config().role(Role::Observer).seed(seed).max_ttl(secs(60)));
    world.run_for(secs(8));
    let asked = world.now();
    let id = world.with(observer, |cx| cx.draw_token()).unwrap();
    world.run_for(secs(1));
    let until = world.events(observer).iter().find_map(|(_, event)| match event {
        Event::TokenDrawn { id: of, until, .. } if *of == id => Some(*until),
        _ => None,
    });
    // One hundredth less, for the drift of its clock.
    assert_eq!(until, Some(asked + Duration::from_millis(1980)));
}
