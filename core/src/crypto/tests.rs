use super::*;
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

#[test]
fn the_pure_aead_is_chacha20_poly1305_with_a_big_endian_counter() {
    // RFC 8439, section 2.8.2, has a nonce that begins with 7 in place of zeros: here only the shape can be compared.
    let mut text = *b"text";
    let tag = PureAead
        .create(&[3; 32])
        .seal_in_place(0x0102, b"head", &mut text);
    let cipher = ChaCha20Poly1305::new(&[3; 32].into());
    let nonce = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2];
    let mut same = *b"text";
    let expected = cipher
        .encrypt_inout_detached(&nonce.into(), b"head", same.as_mut_slice().into())
        .unwrap();
    assert_eq!((text, tag), (same, expected.into()));
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

/// Measures, on demand: `cargo test --release --features simulation -- --ignored --nocapture seal_and_open`.
#[test]
#[ignore = "a measurement"]
fn seal_and_open_times() {
    let providers: Vec<Box<dyn AeadProvider>> = vec![
        Box::new(PureAead),
        #[cfg(feature = "simulation")]
        Box::new(SimulatedAead),
    ];
    for provider in providers {
        let aead = provider.create(&[1; 32]);
        for len in [100, 1170] {
            let mut text = vec![7; len];
            let start = std::time::Instant::now();
            for counter in 0..200_000 {
                let tag = aead.seal_in_place(counter, &[0; 14], &mut text);
                assert!(aead.open_in_place(counter, &[0; 14], &mut text, &tag).is_ok());
            }
            std::println!("{provider:?}, {len} bytes: {:?}", start.elapsed() / 200_000);
        }
    }
}
