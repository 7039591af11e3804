use super::frame::put_frame;
use super::*;
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use quickcheck::quickcheck;

quickcheck! {
    fn frames_round_trip(frames: Vec<(u8, Vec<u8>)>) -> bool {
        let mut buf = Vec::new();
        for (kind, body) in &frames {
            put_frame(&mut buf, *kind, |b| b.extend_from_slice(body));
        }
        let mut iter = Frames::new(&buf);
        let back: Vec<_> = iter.by_ref().map(|f| (f.kind, f.body.to_vec())).collect();
        !iter.malformed() && back == frames
    }

    fn any_bytes_end_in_frames_or_malformed(bytes: Vec<u8>) -> bool {
        let mut iter = Frames::new(&bytes);
        let used: usize = iter.by_ref().map(|f| f.body.len() + FRAME_HEADER_LEN).sum();
        iter.malformed() != (used == bytes.len())
    }

    fn header_round_trips(receiver: u32, counter: u64) -> bool {
        let header = Header { receiver, counter };
        Header::decode(&header.encode(ProtocolFlavor::Secured)) == Some(header)
    }

    fn addresses_round_trip_in_canonical_form(ip: core::net::IpAddr, port: u16) -> bool {
        let mut buf = Vec::new();
        put_addr(&mut buf, SocketAddr::new(ip, port));
        let mut reader = Reader::new(&buf);
        reader.addr() == Some(SocketAddr::new(ip.to_canonical(), port)) && reader.is_empty()
    }
}

#[test]
fn a_frame_that_does_not_fit_is_taken_back() {
    let mut buf = vec![0; 10];
    let mut writer = FrameWriter::new(&mut buf, 16);
    assert_eq!(writer.room(), Some(3));
    assert!(!writer.frame(1, |b| b.extend_from_slice(&[1; 4])));
    assert!(writer.frame(1, |b| b.extend_from_slice(&[1; 3])));
    assert_eq!(writer.room(), None);
    assert!(!writer.encoded(&[1, 0, 0]));
    assert_eq!(buf.len(), 16);
}
