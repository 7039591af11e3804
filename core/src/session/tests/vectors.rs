//! The handshake and a sealed datagram as `docs/wire.md` shows them. A change here is a change of the wire format.

use super::*;
use crate::wire::vectors::check;

/// Shared key 32 times 01, both processes with a seed of 32 times their number (A 01, B 02).
#[test]
fn a_handshake_and_a_sealed_datagram() {
    let sides = [1, 2].map(|n| Side::new(n, base(), Crypto::with_aead(Box::new(PureAead))));
    let mut net = Net::new([]);
    net.sides.extend(sides);
    net.dial(A, B);
    net.run_ms(10);
    net.say(A, B, b"quorate");
    // The first draw is the secret behind the challenges.
    let ephemeral = |n| {
        let mut secrets = KeyRng::new(&[n; 32]);
        secrets.draw();
        secrets.draw().to_vec()
    };
    let mut vectors = vec![
        ("handshake.initiator_secret", ephemeral(1)),
        ("handshake.responder_secret", ephemeral(2)),
    ];
    let names = [
        "handshake.hello",
        "handshake.challenge",
        "handshake.m1",
        "handshake.m2",
        "handshake.sealed",
    ];
    assert_eq!(net.log.len(), names.len());
    vectors.extend(
        names
            .into_iter()
            .zip(net.log.iter().map(|sent| sent.bytes.clone())),
    );
    check("handshake", &vectors);
}
