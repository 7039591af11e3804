//! The suite on smol.

quorate_tests::suite!(quorate_tests::Smol);
quorate_tests::suite_os!(quorate_tests::Smol);
