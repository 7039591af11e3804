//! Two nodes that find each other while the fuzzer drops, repeats, alters and delays what they send.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_core::{Instant, Node, WallTime};
use std::net::SocketAddr;

fuzz_target!(|data: &[u8]| {
    let addrs = [SocketAddr::from(([10, 0, 0, 1], 5000)), SocketAddr::from(([10, 0, 0, 2], 5000))];
    let mut now = Instant::from_millis(1);
    let make = |config, seed| Node::simulated(config, [seed; 32], now, WallTime::default()).expect("a valid config");
    let mut nodes = [make(quorate_sim::config(), 1), make(quorate_sim::config().seed("10.0.0.1:5000"), 2)];
    let mut held: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut buf = Vec::new();
    for action in data.chunks(3) {
        let [what, a, b] = [action[0], *action.get(1).unwrap_or(&0), *action.get(2).unwrap_or(&0)];
        for i in 0..2 {
            while nodes[i].poll_transmit(now, &mut buf).is_some() {
                if held.len() < 64 {
                    held.push((1 - i, buf.clone()));
                }
            }
        }
        if what < 16 || held.is_empty() {
            now += std::time::Duration::from_millis(u64::from(a) * 4);
            nodes.iter_mut().for_each(|node| node.handle_timeout(now));
            continue;
        }
        let at = usize::from(a) % held.len();
        let (to, mut datagram) = match what % 4 {
            0 => held.remove(at),
            1 => held[at].clone(),
            2 => {
                // Altered on the way.
                let (to, mut datagram) = held[at].clone();
                let len = datagram.len();
                datagram[usize::from(b) * 7 % len] ^= 1 << (what / 4 % 8);
                (to, datagram)
            }
            _ => {
                held.remove(at);
                continue;
            }
        };
        nodes[to].handle_datagram(now, addrs[1 - to], &mut datagram);
    }
    for node in &nodes {
        assert!(node.members().count() <= 1);
        assert!(node.status(now).sessions <= 8);
    }
});
