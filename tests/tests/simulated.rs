//! The suite in the simulator.

quorate_tests::suite!(quorate_tests::Simulated);
