//! `include/dovetail.h` is what cbindgen makes of `src/capi`, and the library exports what it declares.
//!
//! Each file of `SECTIONS` is a section of the header: its head, `//!`, then its types and functions. After a change
//! to the interface, `DOVETAIL_UPDATE_HEADER=1 cargo test --test header` writes the header anew.

use cbindgen::{Builder, Config, ExportConfig, Language, Style};
use std::fs;
use std::path::Path;

/// From the simple to the advanced.
const SECTIONS: [&str; 10] = [
    "status", "library", "options", "model", "piece", "session", "steps", "text", "batch", "saved",
];
/// No function of their sections names them.
const INCLUDED: [&str; 5] = [
    "dovetail_status",
    "dovetail_drafting",
    "dovetail_grammar",
    "dovetail_piece_callback",
    "dovetail_stats",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text at the head of a source, without `//!`.
fn head(source: &str) -> Vec<&str> {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect()
}

fn comment(lines: &[&str]) -> String {
    let line = |line: &&str| if line.is_empty() { " *\n".into() } else { format!(" * {line}\n") };
    let body: String = lines.iter().filter(|line| !line.starts_with("```")).map(line).collect();
    // A comment inside the example would end this one.
    let body = body.replace("/* ", "// ").replace(" */", "");
    format!("/*\n{body} */\n")
}

/// Puts comments of one line on one line.
fn short_comments(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let (mut out, mut i) = (String::new(), 0);
    while i < lines.len() {
        let comment =
            lines[i].trim() == "/**" && lines.get(i + 2).map(|line| line.trim()) == Some("*/");
        if comment {
            let indent = &lines[i][..lines[i].len() - 3];
            let body = lines[i + 1].trim().trim_start_matches("* ");
            out += &format!("{indent}/** {body} */\n");
            i += 3;
        } else {
            out += lines[i];
            out.push('\n');
            i += 1;
        }
    }
    out.trim_end().to_owned()
}

fn config() -> Config {
    Config {
        language: Language::C,
        style: Style::Type,
        no_includes: true,
        usize_is_size_t: true,
        documentation_style: cbindgen::DocumentationStyle::Doxy,
        line_length: 100,
        export: ExportConfig {
            include: INCLUDED.map(Into::into).to_vec(),
            ..ExportConfig::default()
        },
        ..Config::default()
    }
}

fn header() -> String {
    let folder = root().join("src/capi");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let mut parts = version.split('.');
    let mut number = || parts.next().unwrap();
    let (major, minor, patch) = (number(), number(), number());
    let mut out = format!(
        "{}\n#ifndef DOVETAIL_H\n#define DOVETAIL_H\n\n\
         #include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n\n\
         #define DOVETAIL_VERSION \"{version}\"\n\
         #define DOVETAIL_VERSION_MAJOR {major}\n\
         #define DOVETAIL_VERSION_MINOR {minor}\n\
         #define DOVETAIL_VERSION_PATCH {patch}\n\n\
         #ifdef __cplusplus\nextern \"C\" {{\n#endif\n",
        comment(&head(&read("mod.rs")))
    );
    for section in SECTIONS {
        let file = format!("{section}.rs");
        let builder = Builder::new().with_config(config()).with_src(folder.join(&file));
        let mut text = Vec::new();
        builder.generate().unwrap().write(&mut text);
        let text = String::from_utf8(text).unwrap();
        let bar = format!("/* {} */\n", "=".repeat(94));
        let text = short_comments(text.trim());
        out += &format!("\n{bar}{}\n{text}\n", comment(&head(&read(&file))));
    }
    out + "\n#ifdef __cplusplus\n}\n#endif\n\n#endif /* DOVETAIL_H */\n"
}

#[test]
fn the_header_is_what_the_sources_say() {
    let path = root().join("include/dovetail.h");
    let header = header();
    if std::env::var_os("DOVETAIL_UPDATE_HEADER").is_some() {
        fs::write(&path, &header).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let line = header.lines().zip(committed.lines()).position(|(a, b)| a != b);
    assert!(
        header == committed,
        "include/dovetail.h is not up to date (line {}); write it anew with \
         DOVETAIL_UPDATE_HEADER=1 cargo test --test header",
        line.map_or(0, |line| line + 1)
    );
}
