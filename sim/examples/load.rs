//! Measures an idle cluster: `load NODES SECONDS` prints what each node sends, and how fast the simulator is.

use quorate_sim::{Duration, Sim, config};

fn main() {
    let args: Vec<u64> = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let &[count, seconds] = &args[..] else {
        eprintln!("usage: load NODES SECONDS");
        std::process::exit(2);
    };
    let mut world = Sim::new(1);
    let first = world.next_addr();
    let nodes: Vec<_> = (0..count)
        .map(|_| world.start(config().seed(first.to_string())))
        .collect();
    let start = world.now();
    let whole = |w: &Sim| {
        nodes
            .iter()
            .all(|&n| w.node_of(n).members().count() as u64 == count - 1)
    };
    while !whole(&world) && world.now() - start < Duration::from_secs(120) {
        world.run_for(Duration::from_millis(100));
    }
    let settled = world.now() - start;
    world.run_for(Duration::from_secs(20));
    let sum = |w: &Sim| {
        let stats = nodes.iter().map(|&n| w.node_of(n).stats());
        stats.fold((0, 0, 0), |(d, b, h), s| {
            (d + s.datagrams_sent, b + s.bytes_sent, h + s.handshakes)
        })
    };
    let (before, handled, began) = (sum(&world), world.handled(), std::time::Instant::now());
    world.run_for(Duration::from_secs(seconds));
    let wall = began.elapsed().as_secs_f64();
    let (after, events) = (sum(&world), world.handled() - handled);
    let rate = |a: u64, b: u64| (a - b) as f64 / seconds as f64 / count as f64;
    println!(
        "{count} nodes: whole after {settled:?}; a node sends {:.1} datagrams, {:.0} bytes a second, {:.3} handshakes",
        rate(after.0, before.0),
        rate(after.1, before.1),
        rate(after.2, before.2),
    );
    println!(
        "    {:.0} events/s, {:.0} times real time",
        events as f64 / wall,
        seconds as f64 / wall
    );
}
