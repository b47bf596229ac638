//! The memory that this process may still take.
//!
//! What the machine has is not all: the process may be limited (`ulimit -v`, `ulimit -d`), and so may the group of
//! processes that it belongs to (a container, a unit of systemd).

use std::fs;
use std::path::Path;

/// Bytes that can be allocated without swapping and within all limits, where the system tells.
pub fn available() -> Option<u64> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let groups = read("/proc/self/cgroup");
    [
        kib(&read("/proc/meminfo"), "MemAvailable:"),
        within_limits(&read("/proc/self/status")),
        within_groups(&groups, Path::new("/sys/fs/cgroup")),
    ]
    .into_iter()
    .flatten()
    .min()
}

/// What stands behind a name, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the limits of the process leave, if it has any; `status` says what it has taken.
#[cfg(unix)]
fn within_limits(status: &str) -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    let left =
        |(resource, used)| Some(getrlimit(resource).current?.saturating_sub(kib(status, used)?));
    [(Resource::As, "VmSize:"), (Resource::Data, "VmData:")].into_iter().filter_map(left).min()
}

#[cfg(not(unix))]
fn within_limits(_: &str) -> Option<u64> {
    None
}

/// The files of a control group that say how much memory it may take, and has taken, and which part of that would be given
/// back at once: pages of files.
struct CgroupFiles {
    limit: &'static str,
    used: &'static str,
    reclaimable: [&'static str; 2],
}

const VERSION_1: CgroupFiles = CgroupFiles {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    reclaimable: ["total_inactive_file ", "total_active_file "],
};

const VERSION_2: CgroupFiles = CgroupFiles {
    limit: "memory.max",
    used: "memory.current",
    reclaimable: ["inactive_file ", "active_file "],
};

/// What the limits of the control groups leave that `groups` lists, a line each, and of those around them; `root` is where
/// all control groups are.
///
/// # Source
/// cgroups(7), and cgroup-v2.rst and cgroup-v1/memory.rst of Linux.
fn within_groups(groups: &str, root: &Path) -> Option<u64> {
    let left = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        match controllers {
            "" => within_group(&root.join(relative(path)), root, &VERSION_2),
            names if names.split(',').any(|name| name == "memory") => {
                let root = root.join("memory");
                within_group(&root.join(relative(path)), &root, &VERSION_1)
            }
            _ => None,
        }
    };
    groups.lines().filter_map(left).min()
}

/// A group's path below the root; a container may see one that leads out of what it sees.
fn relative(path: &str) -> &str {
    if path.split('/').any(|part| part == "..") { "" } else { path.trim_start_matches('/') }
}

/// What a group and those around it leave.
fn within_group(group: &Path, root: &Path, files: &CgroupFiles) -> Option<u64> {
    let left = |group: &Path| {
        let read = |name| fs::read_to_string(group.join(name)).ok();
        let number = |name| read(name)?.trim().parse::<u64>().ok();
        let (limit, used) = (number(files.limit)?, number(files.used)?);
        let stat = read("memory.stat").unwrap_or_default();
        let part =
            |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok());
        let reclaimable: u64 = files.reclaimable.iter().filter_map(|name| part(name)).sum();
        Some(limit.saturating_sub(used.saturating_sub(reclaimable)))
    };
    let around = group.ancestors().take_while(|folder| folder.starts_with(root));
    around.filter_map(left).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_tells() {
        let all = kib(&fs::read_to_string("/proc/meminfo").unwrap(), "MemTotal:").unwrap();
        assert!(available().is_some_and(|bytes| bytes > 0 && bytes <= all));
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(["VmSize:", "VmData:"].iter().all(|name| kib(&status, name) > Some(0)));
    }

    #[test]
    fn the_tightest_of_all_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |group: &str, files: &[(&str, &str)]| {
            fs::create_dir_all(root.path().join(group)).unwrap();
            files.iter().for_each(|(name, text)| {
                fs::write(root.path().join(group).join(name), text).unwrap();
            });
        };
        let two = |limit: &'static str, used: &'static str| {
            let stat = ("memory.stat", "anon 70\ninactive_file 20\nactive_file 10\n");
            [("memory.max", limit), ("memory.current", used), stat]
        };
        write("a/b/c", &two("max\n", "100\n"));
        write("a/b", &two("1000\n", "100\n"));
        write("a", &two("900\n", "300\n"));
        write("full", &two("100\n", "500\n"));
        let stat = ("memory.stat", "inactive_file 9\ntotal_inactive_file 1\ntotal_active_file 2\n");
        write(
            "memory/x",
            &[("memory.limit_in_bytes", "50"), ("memory.usage_in_bytes", "10"), stat],
        );
        for (groups, expected) in [
            ("0::/a/b/c\n", Some(630)),
            ("0::/a/b\n", Some(630)),
            ("0::/a\n", Some(630)),
            ("0::/full\n", Some(0)),
            ("0::/\n", None),
            ("0::/absent\n", None),
            ("0::/../..\n", None),
            ("5:cpu,memory:/x\n0::/a\n", Some(43)),
            ("5:memory:/x/y\n", Some(43)),
            ("5:cpu:/a\n1:name=systemd:/a\n", None),
            ("nonsense\n", None),
            ("", None),
        ] {
            assert_eq!(within_groups(groups, root.path()), expected, "{groups:?}");
        }
    }
}
