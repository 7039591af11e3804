use super::*;
use std::cell::RefCell;

#[test]
fn the_environment_names_the_seeds() {
    assert_eq!(seeds(None, None), Ok(0..=99));
    assert_eq!(seeds(None, Some("500")), Ok(0..=499));
    assert_eq!(seeds(None, Some("0x10-0x1f")), Ok(16..=31));
    assert_eq!(seeds(Some("0x2a"), Some("7")), Ok(42..=42));
    assert_eq!(seeds(Some("18446744073709551615"), None), Ok(u64::MAX..=u64::MAX));
    for wrong in ["", "0", "9-3", "x", "1-", "-1"] {
        assert!(
            seeds(None, Some(wrong)).is_err_and(|e| e.contains("SIM_SEEDS")),
            "{wrong}"
        );
    }
    assert!(seeds(Some("two"), None).is_err_and(|e| e.contains("SIM_SEED")));
}

#[test]
fn the_first_failure_stops_the_test_and_says_how_to_repeat_it() {
    let ran = RefCell::new(Vec::new());
    let test = |seed: u64| -> Result<(), String> {
        ran.borrow_mut().push(seed);
        match seed {
            3 => Err("three is too many".into()),
            _ => Ok(()),
        }
    };
    let payload = catch_unwind(AssertUnwindSafe(|| check(test))).unwrap_err();
    let message = payload.downcast_ref::<String>().unwrap();
    assert!(message.contains("seed 0x3: three is too many"), "{message}");
    let name = "check::tests::the_first_failure_stops_the_test_and_says_how_to_repeat_it";
    assert!(
        message.contains(&format!("SIM_SEED=0x3 cargo test -p quorate-sim {name}")),
        "{message}"
    );
    assert_eq!(*ran.borrow(), [0, 1, 2, 3]);
}

#[test]
fn a_panic_is_a_failure_with_its_words() {
    let test = |seed: u64| assert!(seed < 2, "{seed} is not below two");
    let payload = catch_unwind(AssertUnwindSafe(|| check(test))).unwrap_err();
    let message = payload.downcast_ref::<String>().unwrap();
    assert!(
        message.contains("2 is not below two") && message.contains("SIM_SEED=0x2"),
        "{message}"
    );
}
