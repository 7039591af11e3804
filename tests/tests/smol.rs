//! The suite on smol.

quorate_tests::suite!(quorate_tests::Smol);
