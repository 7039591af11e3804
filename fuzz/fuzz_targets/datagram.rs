//! Arbitrary datagrams into a live node: each is answered or counted, nothing else happens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_core::{Instant, Node, WallTime};
use std::net::SocketAddr;

fuzz_target!(|data: &[u8]| {
    let config = quorate_sim::config();
    let mut node = Node::simulated(config, [1; 32], Instant::ZERO, WallTime::default()).expect("a valid config");
    let from = SocketAddr::from(([10, 0, 0, 9], 5000));
    let mut buf = Vec::new();
    let mut rest = data;
    while let Some((&len, tail)) = rest.split_first() {
        let (datagram, tail) = tail.split_at(tail.len().min(usize::from(len) * 5));
        node.handle_datagram(Instant::from_millis(1), from, &mut datagram.to_vec());
        while let Some(transmit) = node.poll_transmit(Instant::from_millis(1), &mut buf) {
            assert!(buf.len() <= datagram.len(), "an answer to {} larger than its cause", transmit.to);
        }
        rest = tail;
    }
    assert_eq!(node.members().count(), 0);
});
