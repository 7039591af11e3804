//! Test vectors: the bytes that `docs/wire.md` shows. A change here is a change of the wire format.

use super::*;
use core::fmt::Write as _;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Shared key 32 times 01, both processes with a seed of 32 times their number (A 01, B 02).
#[test]
fn a_handshake_and_a_sealed_datagram() {
    let sides = [1, 2].map(|n| Side::new(n, base(), Crypto::with_aead(Box::new(PureAead))));
    let mut net = Net::new([]);
    net.sides.extend(sides);
    net.dial(A, B);
    net.run_ms(10);
    net.say(A, B, b"quorate");
    let shown: Vec<_> = net.log.iter().map(|f| hex(&f.bytes)).collect();
    for shown in &shown {
        std::println!("{shown}");
    }
    assert_eq!(shown, EXPECTED);
}

/// HELLO, CHALLENGE, M1, M2, and a sealed datagram with one DATA frame that holds `quorate`.
const EXPECTED: [&str; 5] = [
    "71017d531088d229c956326769127b02d4db10adaf028d5839c369e438a443c5a0e5a049bde0e28a6cfdd30b2005",
    "710232676912d1949363471d6e03eae05492394268cfdf048f480f6de4f8f556c957bdd422e3",
    "71037d531088d229c956326769127b02d4db10adaf028d5839c369e438a4d1949363471d6e03eae05492394268cf6a16\
     be994a76b3ca54bb56eb7318e383ccf24f3f59b30a031eb21e1b361e3026349884d13eb4da1fa55cb20ec6d3868c9270\
     5fd014973c9bc1f5a19e42a8ddce17dff349e7d415bce67b43cb5deb969fc917957d26185ac7ea345333f766955e6548\
     1c4f",
    "71043267691235b4cff48a3199d907436f2b8e068826214374ba1795c66286eb05c75873b67252f4f8df3c6e64129e68\
     fd861bf3b2a419ac04a26b83184e4742197494086560fe871902be1b5188788ed4b79e635288414ef752a44630c56307\
     486253f77a7f746467f629b99f4988b0fd0491dd9462ff06c4bba69a4f5c9dea",
    "71053b801fe700000000000000007347dcd6b40c9c730a0f0d9931e8fbdfae328150b99cad64fe24",
];
