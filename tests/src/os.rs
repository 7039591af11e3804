//! What is about the operating system: processes, threads, sockets, and what is left open.

pub mod children;
pub mod leaks;
pub mod sockets;
pub mod threads;
