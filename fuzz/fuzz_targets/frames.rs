//! Arbitrary frames, as if a member had sealed them, into a live node that has a member.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_sim::{Duration, Sim, config};

fuzz_target!(|data: &[u8]| {
    // What a member makes up is not what happened: no checkers.
    let mut world = Sim::builder().seed(1).checkers(false).build();
    let a = world.start(config());
    let b = world.start(config().seed(world.addr(a).to_string()));
    world.run_for(Duration::from_secs(1));
    let peer = world.id(b);
    let mut rest = data;
    while let Some((&len, tail)) = rest.split_first() {
        let (frames, tail) = tail.split_at(tail.len().min(usize::from(len) * 5));
        world.with(a, |cx| cx.node_mut(|node, now| node.handle_frames(now, peer, frames)));
        world.run_for(Duration::from_millis(u64::from(len)));
        rest = tail;
    }
    // Whatever a member says, the node goes on and its state stays inside its bounds.
    world.run_for(Duration::from_secs(2));
    assert!(world.node_of(a).members().count() <= 4096);
});
