//! The committed bindings are what bindgen makes of the pinned headers today.

#[cfg(feature = "bindgen")]
#[path = "../src/generate.rs"]
mod generate;

#[cfg(feature = "bindgen")]
#[test]
fn committed_bindings_are_fresh() {
    // bindgen looks for libclang when it first needs it and panics where there is none.
    if std::panic::catch_unwind(bindgen::clang_version).is_err() {
        eprintln!("SKIPPED: libclang is not installed (Debian: apt-get install libclang-dev)");
        return;
    }
    let fresh = generate::bindings(std::path::Path::new(env!("GGML_DIRECTORY")))
        .expect("the headers of the pinned crate parse");
    assert!(
        fresh == include_str!("../src/bindings.rs"),
        "src/bindings.rs is stale: cargo run -p ggml-sys --features bindgen --bin ggml-bindings"
    );
}

#[cfg(not(feature = "bindgen"))]
#[test]
fn committed_bindings_are_fresh() {
    eprintln!("SKIPPED: needs `--features bindgen` and libclang");
}
