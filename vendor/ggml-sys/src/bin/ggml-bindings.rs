//! Writes `src/bindings.rs` anew: `cargo run -p ggml-sys --features bindgen --bin ggml-bindings`.

#[path = "../generate.rs"]
mod generate;

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = generate::bindings(Path::new(env!("GGML_DIRECTORY")))?;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bindings.rs");
    std::fs::write(file, text)?;
    println!("wrote {file}");
    Ok(())
}
