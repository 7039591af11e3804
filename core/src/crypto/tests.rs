use super::*;
use crate::wire::vectors::{check, vector};
use alloc::vec;
use alloc::vec::Vec;
use quickcheck::quickcheck;

fn handshake(crypto: &Crypto, psks: [[u8; 32]; 2], prologues: [&[u8]; 2]) -> Option<(SplitKeys, SplitKeys)> {
    let mut a = crypto.initiator([1; 32], &psks[0], prologues[0])?;
    let mut b = crypto.responder([2; 32], &psks[1], prologues[1])?;
    let (mut m1, mut m2) = (Vec::new(), Vec::new());
    a.write(b"hello", &mut m1)?;
    let mut payload = [0; 5];
    b.read(&m1, &mut payload)?;
    assert_eq!(&payload, b"hello");
    b.write(b"world", &mut m2)?;
    a.read(&m2, &mut payload)?;
    assert_eq!(&payload, b"world");
    Some((a.split()?, b.split()?))
}

fn suites() -> Vec<Crypto> {
    vec![
        Crypto::default(),
        #[cfg(feature = "simulation")]
        Crypto::simulated(),
    ]
}

#[test]
fn both_sides_derive_the_same_keys_and_only_with_equal_secrets() {
    for crypto in suites() {
        let (a, b) = handshake(&crypto, [[7; 32]; 2], [b"p"; 2]).unwrap();
        assert_eq!(*a.initiator, *b.initiator);
        assert_eq!(*a.responder, *b.responder);
        assert_eq!(a.hash, b.hash);
        assert_ne!(*a.initiator, *a.responder);
        assert!(handshake(&crypto, [[7; 32], [8; 32]], [b"p"; 2]).is_none());
        assert!(handshake(&crypto, [[7; 32]; 2], [b"p", b"q"]).is_none());
    }
}

#[test]
fn a_handshake_half_done_gives_no_keys() {
    for crypto in suites() {
        let mut a = crypto.initiator([1; 32], &[7; 32], b"").unwrap();
        a.write(b"", &mut Vec::new()).unwrap();
        assert!(a.split().is_none());
    }
}

#[test]
fn a_changed_message_is_refused_and_the_genuine_one_still_taken() {
    for crypto in suites() {
        let mut a = crypto.initiator([1; 32], &[7; 32], b"").unwrap();
        let mut b = crypto.responder([2; 32], &[7; 32], b"").unwrap();
        let (mut m1, mut m2) = (Vec::new(), Vec::new());
        a.write(b"", &mut m1).unwrap();
        b.read(&m1, &mut []).unwrap();
        b.write(b"x", &mut m2).unwrap();
        for bit in 0..m2.len() * 8 {
            let mut bad = m2.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // The top bit of an X25519 public key is ignored by the curve (RFC 7748), but not by the transcript.
            assert!(a.read(&bad, &mut [0]).is_none(), "bit {bit}");
        }
        assert!(a.read(&m2, &mut [0]).is_some());
        assert_eq!(*a.split().unwrap().initiator, *b.split().unwrap().initiator);
    }
}

#[test]
fn a_point_of_small_order_is_refused() {
    let mut noise = Crypto::default().responder([2; 32], &[7; 32], b"").unwrap();
    // Anybody with the shared key could send it; the transcript is then genuine, only the curve point is not.
    let mut forged = Crypto::default().initiator([0; 32], &[7; 32], b"").unwrap();
    let mut m1 = Vec::new();
    forged.write(b"", &mut m1).unwrap();
    m1[..32].fill(0);
    assert!(noise.read(&m1, &mut []).is_none());
}

/// RFC 8439, section 2.8.2: the primitive itself, with a nonce that begins with 7 in place of our zeros.
#[test]
fn the_primitive_is_the_one_of_the_rfc() {
    let mut key = [0; 32];
    for (byte, value) in key.iter_mut().zip(0x80..) {
        *byte = value;
    }
    let nonce = [7, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47];
    let aad = [
        0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7,
    ];
    let mut text =
        *b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                      sunscreen would be it.";
    let tag = ChaCha20Poly1305::new(&key.into())
        .encrypt_inout_detached(&nonce.into(), &aad, text.as_mut_slice().into())
        .unwrap();
    let sealed = [
        0xd3, 0x1a, 0x8d, 0x34, 0x64, 0x8e, 0x60, 0xdb, 0x7b, 0x86, 0xaf, 0xbc, 0x53, 0xef, 0x7e, 0xc2,
    ];
    assert_eq!(text[..16], sealed);
    assert_eq!(text[112..], [0x61, 0x16]);
    let expected = [
        0x1a, 0xe1, 0x0b, 0x59, 0x4f, 0x09, 0xe2, 0x6a, 0x7e, 0x90, 0x2e, 0xcb, 0xd0, 0x60, 0x06, 0x91,
    ];
    assert_eq!(<[u8; 16]>::from(tag), expected);
}

/// The vectors of `docs/wire.md`, which were computed by other implementations (Python's hashlib among them).
#[test]
fn the_document_has_what_the_code_computes() {
    let key = [1; 32];
    let derived = |label| derive(&key, label, &[]).to_vec();
    let clear = &vector("handshake.m1")[..46];
    check(
        "kdf",
        &[
            ("kdf.key", key.to_vec()),
            ("kdf.key_id", crate::config::Key::from_bytes(key).id().0.to_vec()),
            ("kdf.psk", derived("quorate v1 psk")),
            ("kdf.hello_mac_key", derived("quorate v1 hello mac")),
            ("kdf.challenge_mac_key", derived("quorate v1 challenge mac")),
            (
                "kdf.cluster_name",
                hash128("quorate v1 cluster name", b"quorate").to_vec(),
            ),
            (
                "kdf.prologue",
                derive(b"quorate handshake prologue      ", "quorate v1 m1", clear).to_vec(),
            ),
        ],
    );
    let (key, head, mut text) = ([3; 32], b"head", *b"text");
    let tag = PureAead.create(&key).seal_in_place(0x0102, head, &mut text);
    check(
        "aead",
        &[
            ("aead.key", key.to_vec()),
            ("aead.counter", 0x0102_u64.to_be_bytes().to_vec()),
            ("aead.nonce", aead_nonce(0x0102).to_vec()),
            ("aead.aad", head.to_vec()),
            ("aead.text", b"text".to_vec()),
            ("aead.sealed", [&text[..], &tag].concat()),
        ],
    );
}

fn opens_only_what_was_sealed(aead: &dyn Aead, counter: u64, aad: &[u8], text: &[u8], flip: usize) -> bool {
    let mut sealed = text.to_vec();
    let tag = aead.seal_in_place(counter, aad, &mut sealed);
    let mut opened = sealed.clone();
    let good = aead.open_in_place(counter, aad, &mut opened, &tag).is_ok() && opened == text;
    let mut all = [aad, &sealed, &tag].concat();
    let bit = flip % (all.len() * 8);
    all[bit / 8] ^= 1 << (bit % 8);
    let (aad, rest) = all.split_at_mut(aad.len());
    let (text, tag) = rest.split_at_mut(text.len());
    let tag: [u8; 16] = (&*tag).try_into().unwrap();
    good && aead.open_in_place(counter, aad, text, &tag).is_err()
        && aead.open_in_place(counter ^ 1, aad, &mut sealed, &tag).is_err()
}

quickcheck! {
    fn the_pure_aead_refuses_every_flipped_bit(counter: u64, aad: Vec<u8>, text: Vec<u8>, flip: usize) -> bool {
        opens_only_what_was_sealed(&*PureAead.create(&[5; 32]), counter, &aad, &text, flip)
    }
}

#[cfg(feature = "simulation")]
quickcheck! {
    fn the_simulated_aead_refuses_every_flipped_bit(counter: u64, aad: Vec<u8>, text: Vec<u8>, flip: usize) -> bool {
        opens_only_what_was_sealed(&*SimulatedAead.create(&[5; 32]), counter, &aad, &text, flip)
    }
}

#[test]
fn labels_separate_keys() {
    let key = [1; 32];
    assert_ne!(derive(&key, "a", b"bc"), derive(&key, "ab", b"c"));
    assert_ne!(derive(&key, "a", b""), derive(&[2; 32], "a", b""));
    assert!(same(&mac128(&key, &[b"ab", b"c"]), &mac128(&key, &[b"abc"])));
}
