use super::*;
use alloc::format;
use alloc::string::ToString;
use quickcheck::quickcheck;

fn valid() -> Config {
    Config::new("db.example:5001").key(Key::from_bytes([1; 32]))
}

#[test]
fn presets_and_defaults_are_valid() {
    for config in [
        valid(),
        valid().local(),
        valid().wan(),
        valid().cluster_size(15).surge(7),
        Config::default().insecure(),
    ] {
        assert_eq!(config.validate(), Ok(()));
    }
}

#[test]
fn every_fault_is_reported_at_once_with_field_value_and_range() {
    let config = Config::new("host:0")
        .cluster_size(16)
        .surge(9)
        .heartbeat_interval(Duration::ZERO)
        .metadata(alloc::vec![0; 513])
        .window_bytes(5_usize)
        .bind("nowhere".to_string());
    let error = config.validate().unwrap_err();
    let fields: Vec<_> = error.faults.iter().map(|f| f.field).collect();
    let expected = [
        "seeds",
        "security",
        "bind",
        "metadata",
        "cluster_size",
        "surge",
        "heartbeat_interval",
        "probe_timeout",
        "window_bytes",
    ];
    assert_eq!(fields, expected);
    let text = error.to_string();
    for part in [
        "cluster_size = 16: must be 0 to 15",
        "metadata = 513 bytes: must be 0 to 512 bytes",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn contradictory_intervals_are_faults() {
    let config = valid().suspect_timeout(secs(5)).heartbeat_timeout(secs(3));
    assert_eq!(config.validate().unwrap_err().faults[0].field, "suspect_timeout");
    assert!(valid().suspect_timeout(ms(999)).validate().is_err());
    assert!(valid().refresh_interval(Some(ms(1))).validate().is_err());
    assert!(valid().refresh_interval(None).validate().is_ok());
}

#[test]
fn a_short_max_ttl_alone_is_no_contradiction() {
    let short = valid().max_ttl(secs(2));
    assert!(short.clone().validate().is_ok());
    assert!(short.clone().lock_ttl(secs(2)).validate().is_ok());
    let error = short.lock_ttl(secs(3)).validate().unwrap_err();
    assert_eq!(error.faults[0].field, "lock_ttl");
}

#[test]
fn seeds_are_read_in_every_form() {
    let addr = |s: &str| Ok(Seed::Addr(s.parse().unwrap()));
    assert_eq!(Seed::parse("10.0.0.1"), addr("10.0.0.1:5000"));
    assert_eq!(Seed::parse("10.0.0.1:7"), addr("10.0.0.1:7"));
    assert_eq!(Seed::parse("::1"), addr("[::1]:5000"));
    assert_eq!(Seed::parse("[::1]"), addr("[::1]:5000"));
    assert_eq!(Seed::parse("[::1]:9"), addr("[::1]:9"));
    assert_eq!(Seed::parse("[::ffff:10.0.0.1]:9"), addr("10.0.0.1:9"));
    let name = |host: &str, port| {
        Ok(Seed::Name {
            host: host.to_string(),
            port,
        })
    };
    assert_eq!(Seed::parse("a_b.local."), name("a_b.local.", 5000));
    assert_eq!(Seed::parse("a-b:65535"), name("a-b", 65535));
    for bad in [
        "",
        ":1",
        "a:0",
        "a:65536",
        "a:b:c",
        "a b",
        "1.2.3",
        "300.1.1.1:5",
        "a..b",
        "fe80::1",
        "[fe80::1%2]:5",
        "0.0.0.0",
        "224.0.0.1:5000",
        "10.0.0.1:0",
    ] {
        assert_eq!(Seed::parse(bad), Err(SeedError), "{bad}");
    }
}

#[test]
fn keys_are_read_and_never_shown() {
    let key = Key::from_bytes([0xab; 32]);
    assert_eq!(Key::parse(&"ab".repeat(32)), Ok(key.clone()));
    assert_eq!(
        Key::parse(" q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\n"),
        Ok(key.clone())
    );
    assert_eq!(
        Key::parse("q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6t="),
        Err(KeyError::Text { line: 1 })
    );
    assert_eq!(Key::from_slice(&[1; 31]), Err(KeyError::Length(31)));
    let shown = format!("{key:?} {:?}", valid());
    assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
}

#[test]
fn key_files_name_the_line_that_is_wrong() {
    let file = format!(
        "# ring\n\n{}\n{}\n{}\n",
        "01".repeat(32),
        "02".repeat(32),
        "01".repeat(32)
    );
    let ring = KeyRing::parse(&file).unwrap();
    assert_eq!(ring.keys().len(), 2);
    assert_eq!(ring.sealing(), &Key::from_bytes([1; 32]));
    assert_eq!(KeyRing::parse("# none\n"), Err(KeyError::Empty));
    assert_eq!(
        KeyRing::parse(&format!("{}\nxyz", "01".repeat(32))),
        Err(KeyError::Text { line: 2 })
    );
    assert_eq!(
        KeyRing::from_keys((0..9).map(|i| Key::from_bytes([i; 32]))),
        Err(KeyError::TooMany(9))
    );
}

quickcheck! {
    fn any_hex_key_round_trips(bytes: Vec<u8>) -> bool {
        let mut key = [0; 32];
        for (k, b) in key.iter_mut().zip(&bytes) { *k = *b; }
        let text: String = key.iter().map(|b| format!("{b:02X}")).collect();
        Key::parse(&text) == Ok(Key::from_bytes(key))
    }

    fn any_text_is_a_seed_or_an_error(text: String) -> bool {
        match Seed::parse(&text) {
            Ok(Seed::Addr(addr)) => addr.port() != 0,
            Ok(Seed::Name { host, port }) => port != 0 && !host.is_empty(),
            Err(SeedError) => true,
        }
    }

    fn validate_never_panics(a: u64, b: u8, c: usize, d: u16) -> bool {
        let config = Config::new("a")
            .heartbeat_interval(Duration::from_nanos(a))
            .cluster_size(b)
            .surge(b)
            .max_message_size(c)
            .drift_permille(d);
        let _ = config.validate();
        true
    }
}

#[test]
fn settings_of_locks_have_bounds() {
    let (secs, ms) = (Duration::from_secs, Duration::from_millis);
    let least = valid().max_ttl(secs(1)).drift_permille(1).lock_ttl(secs(1));
    let least = least.waiter_ttl(secs(2)).max_waiters(1).max_locks(1);
    let most = valid().max_ttl(secs(300)).drift_permille(100).lock_ttl(secs(300));
    let most = most.waiter_ttl(secs(60)).max_waiters(1 << 16).max_locks(1 << 16);
    let (least, most) = (least.max_lock_bytes(4 << 10), most.max_lock_bytes(8 << 20));
    assert_eq!((least.validate(), most.validate()), (Ok(()), Ok(())));
    for (config, field) in [
        (valid().max_ttl(ms(999)), "max_ttl"),
        (valid().max_ttl(ms(300_001)), "max_ttl"),
        (valid().drift_permille(0), "drift_permille"),
        (valid().drift_permille(101), "drift_permille"),
        (valid().lock_ttl(ms(999)), "lock_ttl"),
        (valid().waiter_ttl(ms(1_999)), "waiter_ttl"),
        (valid().waiter_ttl(ms(60_001)), "waiter_ttl"),
        (valid().max_waiters(0), "max_waiters"),
        (valid().max_waiters((1 << 16) + 1), "max_waiters"),
        (valid().max_locks(0), "max_locks"),
        (valid().max_locks((1 << 16) + 1), "max_locks"),
        (valid().max_lock_bytes((4 << 10) - 1), "max_lock_bytes"),
        (valid().max_lock_bytes((8 << 20) + 1), "max_lock_bytes"),
    ] {
        let fault = config.validate().err().map(|error| error.faults[0].field);
        assert_eq!(fault, Some(field));
    }
}
