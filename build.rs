//! Embeds the PTX of `kernels/cuda/ptx`, which `scripts/build-ptx` makes; nothing else.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let variable = |name| PathBuf::from(env::var_os(name).expect("cargo sets it"));
    let folder = variable("CARGO_MANIFEST_DIR").join("kernels/cuda/ptx");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", folder.display());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let mut table = String::from("&[\n");
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some((name, arch)) =
            name.strip_suffix(".ptx").and_then(|name| name.rsplit_once(".sm_"))
        else {
            continue;
        };
        writeln!(
            table,
            "    Ptx {{ name: {name:?}, arch: {arch}, text: include_str!({path:?}) }},"
        )
        .expect("text grows");
    }
    table.push_str("]\n");
    fs::write(variable("OUT_DIR").join("ptx.rs"), table).expect("OUT_DIR is writable");
}
