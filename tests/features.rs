//! What the library pulls in where the features `cli`, `server`, `hub` and `gpu` are left out, and what each adds.

use std::collections::BTreeSet;
use std::process::Command;

/// What it names itself.
const DIRECT: &str = "
    bytemuck dovetail-kernels fancy-regex half jiff libm llguidance memmap2 rayon rustix serde
    serde_json sha2 smallvec tempfile tokenizers toktrie twox-hash
";

/// These, and all that they pull in.
const ALL: &str = "
    ahash aho-corasick anyhow atomic-wait base64 bit-set bit-vec bitflags block-buffer bytemuck
    bytemuck_derive castaway cfg-if compact_str cpufeatures crossbeam-deque crossbeam-epoch
    crossbeam-utils crypto-common daachorse darling darling_core darling_macro dary_heap
    derive_builder derive_builder_core derive_builder_macro derivre digest dovetail-kernels either
    equivalent esaxx-rs fancy-regex fastrand fnv foldhash generic-array getrandom ggml-sys half
    hashbrown heck ident_case indexmap itertools itoa jiff jiff-core libc libm linux-raw-sys
    llguidance log macro_rules_attribute macro_rules_attribute-proc_macro memchr memmap2
    minimal-lexical monostate monostate-impl nom once_cell paste pastey ppv-lite86 proc-macro2 quote
    rand rand_chacha rand_core rayon rayon-cond rayon-core regex regex-automata regex-syntax rustix
    rustversion ryu serde serde_core serde_derive serde_json sha2 smallvec spm_precompiled
    static_assertions strsim strum strum_macros syn tempfile thiserror thiserror-impl tokenizers
    toktrie twox-hash typenum unicode-ident unicode-normalization-alignments unicode-segmentation
    unicode_categories zerocopy zerocopy-derive zmij
";

fn names(text: &str) -> BTreeSet<&str> {
    text.split_whitespace().collect()
}

/// The crates of the library with these features; the direct ones have depth 1.
fn crates(features: &str, depth: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["tree", "--offline", "--locked", "--package", "dovetail", "--edges", "normal"]);
    command.args(["--target", "x86_64-unknown-linux-gnu", "--prefix", "none"]);
    command.args(["--no-default-features", "--features", features, "--depth", depth]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let names = lines.lines().filter_map(|line| line.split(' ').next());
    names.filter(|name| !["", "dovetail"].contains(name)).map(str::to_owned).collect()
}

fn assert_same(found: &BTreeSet<String>, expected: &BTreeSet<&str>) {
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    let (more, less) = (&found - expected, expected - &found);
    assert!(more.is_empty() && less.is_empty(), "more: {more:?}, less: {less:?}");
}

#[test]
fn the_library_alone_pulls_in_few_crates() {
    assert_same(&crates("", "1"), &names(DIRECT));
    assert_same(&crates("", "99"), &names(ALL));
}

#[test]
fn each_feature_adds_its_own() {
    for (feature, added) in [
        ("cli", "clap clap_complete clap_mangen rustyline signal-hook unicode-width ureq"),
        (
            "server",
            "axum clap clap_complete clap_mangen futures-core hyper hyper-util rustyline signal-hook tokio \
             tower-http tracing tracing-subscriber unicode-width ureq utoipa",
        ),
        ("hub", "ureq"),
        ("gpu", "cudarc"),
    ] {
        assert_same(&crates(feature, "1"), &(&names(DIRECT) | &names(added)));
    }
}
