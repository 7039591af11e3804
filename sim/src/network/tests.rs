use super::*;
use crate::fault::HostSet;
use rand_core::SeedableRng as _;

fn network() -> Network {
    let rng = || ChaCha8Rng::seed_from_u64(1);
    Network::new(Chances {
        loss: rng(),
        delay: rng(),
        duplicate: rng(),
        corrupt: rng(),
        replay: rng(),
    })
}

/// Sends datagrams through two corruptions at once, and returns how many arrived as they were sent, and how many not.
fn through(first: Corruption, second: Corruption) -> (usize, usize) {
    let mut network = network();
    for (number, how) in [first, second].into_iter().enumerate() {
        let (from, to) = (HostSet::ALL, HostSet::ALL);
        network.begin(
            number,
            FaultKind::Corrupt {
                from,
                to,
                permille: 1_000,
                how,
            },
        );
    }
    let addr = SocketAddr::from(([10, 0, 0, 1], 5000));
    let sent = [0x7f, 5, 9];
    let datagram = Datagram {
        number: 1,
        sender: None,
        intended: None,
        from: addr,
        to: addr,
        len: sent.len(),
        head: head(&sent),
        provenance: Provenance::Original,
    };
    let (mut whole, mut altered) = (0, 0);
    for _ in 0..1_000 {
        network.send(Instant::ZERO, (None, None), datagram, &sent);
        let arrived = network.take().expect("nothing is lost");
        if arrived.payload == sent {
            assert_eq!(arrived.datagram, datagram);
            whole += 1;
        } else {
            assert_eq!(arrived.datagram.provenance, Provenance::Altered);
            assert_eq!(arrived.datagram.len, arrived.payload.len());
            assert_eq!(arrived.datagram.head, head(&arrived.payload));
            altered += 1;
        }
    }
    (whole, altered)
}

#[test]
fn what_two_corruptions_undo_arrives_as_it_was_sent() {
    for (first, second) in [
        (Corruption::Flip, Corruption::Flip),
        (Corruption::Extend, Corruption::Truncate),
    ] {
        let (whole, altered) = through(first, second);
        assert!(
            whole > 0 && altered > 0,
            "{first:?} and {second:?}: {whole} whole, {altered} altered"
        );
    }
}
