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
    "71017d531088d229c9564a79206461477a18353ce5677937c011734fdf5f59531389a9ecccaa130cd0743e885cca",
    "71024a792064766794ee28c4970c046eceb90f858268cb67b626ab53f7a78dd5e7769cd4800d",
    "71037d531088d229c9564a79206461477a18353ce5677937c011734fdf5f766794ee28c4970c046eceb90f858268b084\
     2ac44895a1918d1bc67a8637f5d2e74ab05e0188874d3dabd5376499305cf589fef6c84a462fc6e09a3fbf7cf4f8b88d\
     91917ed901a66fe399416d3db80b44a2dbf372b738ac026bac31bfef5909ec66c5170ecce4938214ea4c16a0d735e760\
     89b4",
    "71044a7920649a0331583e81605e165d905919277402e4de9700da027660e25d2e042b1770122e9cf67eeb958599a45c\
     dff3cd1c9239a954b85e89242b07fba425248a43441b858353314970a37543decfb83544ff8c164cc3edc2454293a1db\
     c671f9f8b79009c14c494daceab1d9a5535f12212f914f590cfa4902b7eb99ec",
    "710514c566f60000000000000000e9276001041190f95e97ca1bdc66fb2cd35576dabf343193766a",
];
