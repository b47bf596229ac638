//! What this machine has.

mod memory;

pub use memory::available as available_memory;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

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

/// Bytes that may still be written to the file system of `folder`, where the system tells.
pub fn free_disk(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let found = rustix::fs::statvfs(folder).ok()?;
        found.f_bavail.checked_mul(found.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}

/// Bytes as people read them: `1.5 MB`, `2.25 GB`.
pub fn human_bytes(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes < 1e9 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.2} GB", bytes / 1e9),
    }
}

/// Bytes of a page of memory.
pub fn page_bytes() -> usize {
    #[cfg(unix)]
    {
        rustix::param::page_size()
    }
    #[cfg(not(unix))]
    {
        // A multiple of all that there are.
        1 << 16
    }
}

/// Names the time since the system was started, where the system tells: what was written to a file
/// before is, after a crash, perhaps not all there.
pub fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Where fetched models and packed weights lie, as in scripts/setup: `DOVETAIL_CACHE`, or `dovetail`
/// in `XDG_CACHE_HOME` or in `~/.cache`.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("DOVETAIL_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("dovetail")))
        .or_else(|| Some(set("HOME")?.join(".cache/dovetail")))
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

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_room_and_boot() {
        let here = std::path::Path::new(".");
        assert!(super::free_disk(here).is_some_and(|bytes| bytes > 0));
        assert_eq!(super::free_disk(&here.join("nonexistent")), None);
        let boot = super::boot_id();
        assert!(boot.is_some() && boot == super::boot_id());
    }
}
