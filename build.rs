//! Embeds the PTX of `kernels/cuda/ptx`, which `scripts/build-ptx` makes, names the shared library as programs look for
//! it, and hides what it does not declare; nothing else.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let variable = |name| PathBuf::from(env::var_os(name).expect("cargo sets it"));
    let folder = variable("CARGO_MANIFEST_DIR").join("kernels/cuda/ptx");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", folder.display());
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libdovetail.so.{}", abi_version());
        // llguidance has an interface for C of its own, which is not part of ours.
        println!("cargo:rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
    }
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

/// What changes when programs have to be compiled anew: the major version, before 1.0 the minor one behind the zero.
fn abi_version() -> String {
    let number = |name| env::var(name).expect("cargo sets it");
    match number("CARGO_PKG_VERSION_MAJOR").as_str() {
        "0" => format!("0.{}", number("CARGO_PKG_VERSION_MINOR")),
        major => major.to_owned(),
    }
}
