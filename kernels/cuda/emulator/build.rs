//! Makes C++ of the kernels in `kernels/cuda` and of those that this crate's tests run.
//!
//! Each file is preprocessed, so that kernels made by macros are seen too, then three words are written
//! anew: `extern "C" __global__` becomes an ordinary function and a row in the file's table,
//! `__launch_bounds__` goes into that row, and a `__shared__` variable becomes a reference to memory of the
//! block. All of a file stands in a namespace of its own: files may use the same names.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Where the headers end and the kernels begin.
const MARK: &str = "struct emulated_kernels_begin;";

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let cuda = here.parent().expect("the emulator lies in kernels/cuda").to_owned();
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed={}", cuda.join("common.cuh").display());
    println!("cargo:rerun-if-changed={}", cuda.display());

    let mut files = kernel_files(&cuda);
    files.extend(kernel_files(&here.join("tests")));
    let mut build = compiler(&here, &cuda);
    // Calls of ours before each access: see memory.cpp.
    build.flag("-fsanitize=thread").flag("-fno-tree-vectorize");
    let mut table = String::new();
    let mut rows = String::new();
    for path in &files {
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let (source, n) = convert(path, &name, &here, &cuda, &out);
        let converted = out.join(format!("{name}.cpp"));
        fs::write(&converted, source).expect("OUT_DIR is writable");
        build.file(converted);
        writeln!(table, "extern const Kernel kernels_of_{name}[];").expect("text grows");
        writeln!(rows, "    {{kernels_of_{name}, {n}}},").expect("text grows");
    }
    let table = format!(
        "#include \"emulated.h\"\nnamespace emulated {{\nstruct File {{\n    const Kernel *kernels;\n    \
         uint32_t n;\n}};\n{table}extern const File files[];\nconst File files[] = {{\n{rows}    {{nullptr, \
         0}},\n}};\n}}\n"
    );
    let table_path = out.join("table_of_files.cpp");
    fs::write(&table_path, table).expect("OUT_DIR is writable");
    let mut runtime = compiler(&here, &cuda);
    runtime
        .file(table_path)
        .files(["memory.cpp", "runtime.cpp"].map(|file| here.join("src").join(file)));
    let switch = cc::Build::new().file(here.join("src/switch.S")).compile_intermediates();
    let objects = [build.compile_intermediates(), runtime.compile_intermediates(), switch].concat();
    cc::Build::new().cpp(true).objects(objects).compile("cuda_emulator");
}

fn compiler(here: &Path, cuda: &Path) -> cc::Build {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .debug(false)
        .warnings(false)
        .include(here.join("src"))
        .include(cuda)
        .define("DOVETAIL_EMULATED", None)
        // The same bits on every machine.
        .flag("-ffp-contract=off")
        .flag("-fno-strict-aliasing")
        .flag_if_supported("-Wno-unknown-pragmas");
    build
}

fn kernel_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cu"))
        .collect();
    files.sort();
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    files
}

/// A file's C++ and how many kernels are in it.
fn convert(path: &Path, name: &str, here: &Path, cuda: &Path, out: &Path) -> (String, usize) {
    let wrapper = out.join(format!("{name}_wrapper.cpp"));
    let text = format!("#include \"emulated.h\"\n{MARK}\n#include \"{}\"\n", path.display());
    fs::write(&wrapper, text).expect("OUT_DIR is writable");
    let expanded = compiler(here, cuda).file(&wrapper).expand();
    let expanded = String::from_utf8(expanded).expect("sources are UTF-8");
    let (headers, kernels) = expanded.split_once(MARK).expect("the wrapper has it");

    let kernels = with_shared_memory(kernels, path);
    let (kernels, table) = with_table(&kernels, path);
    let rows: String = table.iter().map(Entry::row).collect();
    let end = if rows.is_empty() { "    {nullptr, 0, 0, nullptr},\n" } else { "" };
    let source = format!(
        "{headers}\nnamespace {{\n{kernels}\n}}\nnamespace emulated {{\nextern const Kernel \
         kernels_of_{name}[];\nconst Kernel kernels_of_{name}[] = {{\n{rows}{end}}};\n}}\n"
    );
    (source, table.len())
}

/// `__shared__ T x[n];` becomes a reference to memory of the block. A static variable of the function
/// stands for it, so that each instance of a template has its own.
fn with_shared_memory(text: &str, path: &Path) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    let mut n = 0;
    while let Some(at) = rest.find("__shared__") {
        result.push_str(&rest[..at]);
        let declaration = &rest[at + "__shared__".len()..];
        let (end, dimensions) = declarator(declaration, path);
        let before = declaration[..dimensions].trim_end();
        let name_at = before.rfind(|c| !is_word(c)).map_or(0, |space| space + 1);
        let (of, name) = before.split_at(name_at);
        let dimensions = &declaration[dimensions..end];
        write!(
            result,
            "static char shared_key_{n}; typedef {of} shared_type_{n}{dimensions}; shared_type_{n} &{name} = \
             *(shared_type_{n} *)emulated::shared(&shared_key_{n}, \"{name}\", sizeof(shared_type_{n}))"
        )
        .expect("text grows");
        rest = &declaration[end..];
        n += 1;
    }
    result + rest
}

/// Where the declaration ends, and where its dimensions begin.
fn declarator(declaration: &str, path: &Path) -> (usize, usize) {
    let (mut depth, mut angle, mut dimensions) = (0, 0, None);
    for (i, c) in declaration.char_indices() {
        match c {
            ';' if depth == 0 => return (i, dimensions.unwrap_or(i)),
            '[' if depth == 0 && dimensions.is_none() => {
                dimensions = Some(i);
                depth += 1;
            }
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth -= 1,
            '<' if depth == 0 => angle += 1,
            '>' if depth == 0 => angle -= 1,
            ',' | '=' if depth == 0 && angle == 0 => break,
            _ => {}
        }
    }
    let start: String = declaration.chars().take(80).collect();
    refuse(path, &format!("one shared variable a declaration, without a value: __shared__{start}"))
}

struct Entry {
    name: String,
    argument: String,
    bounds: Option<String>,
}

impl Entry {
    fn row(&self) -> String {
        let Entry { name, argument, bounds } = self;
        let bounds = bounds.as_deref().unwrap_or("0");
        format!(
            "    {{\"{name}\", sizeof({argument}), (uint32_t)({bounds}), [](const void *args) {{\n        \
             {argument} a;\n        memcpy(&a, args, sizeof a);\n        {name}(a);\n    }}}},\n"
        )
    }
}

/// Kernels as ordinary functions, and the list of them.
fn with_table(text: &str, path: &Path) -> (String, Vec<Entry>) {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    let mut table = Vec::new();
    while let Some(at) = rest.find("__global__") {
        let before = rest[..at].trim_end();
        let after = &rest[at + "__global__".len()..];
        let Some(before) = before.strip_suffix("\"C\"").map(str::trim_end) else {
            // A template that kernels are made of.
            result.push_str(before);
            result.push(' ');
            let (head, body) = without_bounds(after).0;
            result.push_str(&head);
            rest = body;
            continue;
        };
        let Some(before) = before.strip_suffix("extern") else {
            refuse(path, "a kernel is `extern \"C\" __global__ void NAME(TYPE a)`");
        };
        let ((head, body), bounds) = without_bounds(after);
        let signature = head.trim().strip_prefix("void").unwrap_or_default();
        let Some((name, argument)) = parse_signature(signature) else {
            refuse(path, &format!("a kernel takes one structure by value: {}", head.trim()));
        };
        result.push_str(before);
        result.push(' ');
        result.push_str(&head);
        // A declaration and its definition are one kernel.
        if !table.iter().any(|entry: &Entry| entry.name == name) {
            table.push(Entry { name, argument, bounds });
        }
        rest = body;
    }
    (result + rest, table)
}

/// What stands before the body, without its launch bounds; the body and what follows; the bounds.
fn without_bounds(text: &str) -> ((String, &str), Option<String>) {
    let end = text.find(['{', ';']).unwrap_or(text.len());
    let (head, body) = text.split_at(end);
    let Some(at) = head.find("__launch_bounds__") else {
        return ((head.to_owned(), body), None);
    };
    let list = &head[at + "__launch_bounds__".len()..];
    let (mut depth, mut first_end, mut close) = (0, None, list.len());
    for (i, c) in list.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 1 && first_end.is_none() => first_end = Some(i),
            _ => {}
        }
        if depth == 0 && c == ')' {
            close = i;
            break;
        }
    }
    let open = list.find('(').map_or(0, |open| open + 1);
    let bounds = list[open..first_end.unwrap_or(close)].trim().to_owned();
    let rest = list.get(close + 1..).unwrap_or_default();
    ((format!("{}{rest}", &head[..at]), body), Some(bounds))
}

/// ` NAME(TYPE a)`.
fn parse_signature(text: &str) -> Option<(String, String)> {
    let (name, rest) = text.split_once('(')?;
    let name = name.trim();
    let parameter = rest.split_once(')')?.0.trim();
    let (argument, _) = parameter.rsplit_once(|c: char| !is_word(c))?;
    let argument = argument.trim().trim_start_matches("const ").trim();
    let good = !name.is_empty()
        && name.chars().all(is_word)
        && !argument.is_empty()
        && !argument.contains(['*', '&', ',']);
    good.then(|| (name.to_owned(), argument.to_owned()))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn refuse(path: &Path, what: &str) -> ! {
    eprintln!("error: {}: {what}", path.display());
    std::process::exit(1);
}
