//! What this machine has.

use std::collections::HashSet;
use std::fs;

/// Physical cores this process may use: one thread each is the best default, since hyper-threads
/// share the vector units and the memory ports.
pub fn physical_cores() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, |n| n.get());
    let cpus = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let siblings = cpus.filter_map(|cpu| {
        fs::read_to_string(cpu.path().join("topology/thread_siblings_list")).ok()
    });
    match siblings.collect::<HashSet<_>>().len() {
        0 => logical,
        cores => cores.min(logical),
    }
}

/// Bytes that can be allocated without swapping, where the system tells.
pub fn available_memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The CPU's name, where the system tells.
pub fn cpu_name() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("unknown CPU", |(_, name)| name).trim().to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_machine_has_a_core_and_a_name() {
        assert!(super::physical_cores() >= 1);
        assert!(!super::cpu_name().is_empty());
    }
}
