//! The PTX that the program embeds is what the kernels compile to.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const MAKE_ANEW: &str = "run scripts/build-ptx";
/// The newest version of PTX that drivers from 530 on read.
const MAX_VERSION: (u32, u32) = (8, 1);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files of a folder with one of these extensions: names and bytes.
fn files(folder: &str, extensions: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(root().join(folder)).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let wanted =
        |path: &PathBuf| path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x));
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.filter(wanted).map(|path| (name(&path), std::fs::read(path).unwrap())).collect()
}

fn hashes(files: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    files.iter().map(|(name, data)| (name.clone(), hex(&Sha256::digest(data)))).collect()
}

fn manifest() -> Value {
    let path = root().join("kernels/cuda/ptx/manifest.json");
    let text = std::fs::read_to_string(&path);
    serde_json::from_str(&text.unwrap_or_else(|e| panic!("{path:?}: {e}; {MAKE_ANEW}"))).unwrap()
}

fn listed(manifest: &Value, key: &str) -> BTreeMap<String, String> {
    serde_json::from_value(manifest[key].clone()).unwrap()
}

#[test]
fn the_ptx_is_of_these_sources() {
    let manifest = manifest();
    let sources = hashes(&files("kernels/cuda", &["cu", "cuh"]));
    assert_eq!(listed(&manifest, "sources"), sources, "kernels changed; {MAKE_ANEW}");
    let ptx = hashes(&files("kernels/cuda/ptx", &["ptx"]));
    assert_eq!(listed(&manifest, "ptx"), ptx, "PTX changed; {MAKE_ANEW}");
}

#[test]
fn the_ptx_is_of_these_options() {
    let manifest = manifest();
    let script = std::fs::read_to_string(root().join("scripts/build-ptx")).unwrap();
    for (name, key) in
        [("NVRTC", "nvrtc"), ("ARCHITECTURES", "architectures"), ("OPTIONS", "options")]
    {
        let start = format!("{name} = ");
        let line = script.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(manifest[key], value, "{name} changed; {MAKE_ANEW}");
    }
}

#[test]
fn old_drivers_read_the_ptx() {
    for (name, data) in files("kernels/cuda/ptx", &["ptx"]) {
        let text = String::from_utf8(data).unwrap();
        let directive =
            |what| text.lines().find_map(|line| line.strip_prefix(what)).unwrap().trim();
        let (major, minor) = directive(".version ").split_once('.').unwrap();
        let version = (major.parse().unwrap(), minor.parse().unwrap());
        assert!(version <= MAX_VERSION, "{name} is PTX {version:?}");
        assert!(name.ends_with(&format!(".{}.ptx", directive(".target "))), "{name}");
        assert!(text.contains(".visible .entry "), "{name} has no kernel");
        let root = root().to_str().unwrap();
        assert!(!text.contains(root), "{name} names a folder of this machine");
    }
}

/// Where NVRTC can be had.
#[test]
fn the_kernels_compile_to_the_ptx() {
    let script = root().join("scripts/build-ptx");
    let output = match Command::new("python3").arg(script).arg("--check").output() {
        Ok(output) => output,
        Err(error) => return eprintln!("SKIPPED: python3 cannot be run: {error}"),
    };
    let said = String::from_utf8(output.stderr).unwrap();
    if ["cannot be installed", "cannot make"].iter().any(|missing| said.contains(missing)) {
        return eprintln!("SKIPPED: {said}");
    }
    assert!(output.status.success(), "{said}");
}
