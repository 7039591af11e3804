//! The suite on tokio.

quorate_tests::suite!(quorate_tests::Tokio);
quorate_tests::suite_os!(quorate_tests::Tokio);
