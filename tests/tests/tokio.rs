//! The suite on tokio.

quorate_tests::suite!(quorate_tests::Tokio);
