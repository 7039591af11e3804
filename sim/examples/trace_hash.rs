//! Prints the trace hash of a few busy runs, one a line: `trace_hash FIRST LAST`. Two processes must print the same.

use bytes::Bytes;
use quorate_core::Target;
use quorate_sim::{Crypto, Duration, Link, World, config};

fn run(seed: u64) -> u64 {
    let mut world = World::new(seed);
    world.set_crypto(if seed.is_multiple_of(4) {
        Crypto::Real
    } else {
        Crypto::Simulated
    });
    world.set_link(
        Link::default()
            .loss((seed % 3 * 50) as u16)
            .duplicates((seed % 2 * 50) as u16),
    );
    let first = world.next_addr();
    let nodes: Vec<_> = (0..3 + seed % 5)
        .map(|_| world.start(config().seed(first.to_string())))
        .collect();
    for round in 0..10_u8 {
        world.run_for(Duration::from_millis(700));
        for &node in &nodes {
            let payload = Bytes::from(vec![round; 700 * usize::from(round)]);
            let sent = world.command(node, |n, now| n.request(now, Target::All, payload, None));
            assert!(sent.is_ok(), "seed {seed}: {sent:?}");
        }
    }
    world.crash(nodes[1]);
    world.partition(&nodes[..1], &nodes[2..]);
    world.run_for(Duration::from_secs(10));
    world.heal();
    world.run_for(Duration::from_secs(30));
    world.trace_hash()
}

fn main() {
    let mut seeds = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let (Some(Ok(first)), Some(Ok(last)), None) = (seeds.next(), seeds.next(), seeds.next()) else {
        eprintln!("usage: trace_hash FIRST LAST");
        std::process::exit(2);
    };
    for seed in first..=last {
        println!("{seed} {:016x}", run(seed));
    }
}
