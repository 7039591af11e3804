//! The suite on async-std, with the nodes of `quorate-smol`.

quorate_tests::suite!(quorate_tests::AsyncStd);
quorate_tests::suite_os!(quorate_tests::AsyncStd);
