//! What a process costs, as its operating system sees it.

use super::protocol::Usage;

/// Reads what this process has used so far; the traffic of its node is not known here.
pub(crate) fn of_this_process() -> Usage {
    Usage {
        cpu_ns: cpu_ns(),
        rss_kib: from_proc("/proc/self/status", "VmRSS:"),
        pss_kib: from_proc("/proc/self/smaps_rollup", "Pss:"),
        ..Usage::default()
    }
}

/// The processor time of this process, user and system: the sum that `/proc/self/stat` gives in ticks of 10 ms, too
/// coarse for a process that is idle.
#[cfg(unix)]
fn cpu_ns() -> Option<u64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanos = u64::try_from(time.tv_nsec).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(not(unix))]
fn cpu_ns() -> Option<u64> {
    None
}

/// Reads one figure of a file under `/proc`; `None` where there is none (other systems, hardened containers).
fn from_proc(path: &str, field: &str) -> Option<u64> {
    parse_kib(&std::fs::read_to_string(path).ok()?, field)
}

fn parse_kib(text: &str, field: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(field))?;
    let mut words = rest.split_whitespace();
    let kib = words.next()?.parse().ok()?;
    (words.next() == Some("kB")).then_some(kib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_name() {
        let text = "VmHWM:\t   9000 kB\nVmRSS:\t    7248 kB\nThreads:\t1\n";
        assert_eq!(parse_kib(text, "VmRSS:"), Some(7248));
        assert_eq!(parse_kib(text, "Threads:"), None);
        assert_eq!(parse_kib(text, "Pss:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_costs_something() {
        let usage = of_this_process();
        assert!(usage.rss_kib > Some(100) && usage.cpu_ns > Some(0), "{usage:?}");
    }
}
