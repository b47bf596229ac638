//! Compiles ggml 0.26.0 out of the registry crate that `Cargo.toml` pins; no line of it is in this
//! repository. No cmake, no libclang, and without `cpu-backend` no C++ either.
//!
//! Both builds share one rule: everything that decides the *value* of a weight (quantise,
//! dequantise) is compiled for the baseline CPU without fused multiply-add, so that all machines
//! and all features give the same bits. Only the CPU backend, the rival that benches measure, is
//! compiled for the machine at hand.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What both builds need: types, quantise, dequantise.
const BASE_C: &[&str] = &["ggml.c", "ggml-quants.c"];

/// The rest of the base library, which the CPU backend stands on.
const BACKEND_BASE_C: &[&str] = &["ggml-alloc.c"];
const BACKEND_BASE_CPP: &[&str] = &[
    "ggml.cpp",
    "ggml-backend.cpp",
    "ggml-backend-meta.cpp",
    "ggml-backend-reg.cpp",
    "ggml-backend-dl.cpp",
    "ggml-opt.cpp",
    "ggml-threading.cpp",
    "gguf.cpp",
];

/// The CPU backend itself, without the file for its instruction set.
const BACKEND_CPU_C: &[&str] = &["ggml-cpu/ggml-cpu.c", "ggml-cpu/quants.c"];
const BACKEND_CPU_CPP: &[&str] = &[
    "ggml-cpu/ggml-cpu.cpp",
    "ggml-cpu/repack.cpp",
    "ggml-cpu/hbm.cpp",
    "ggml-cpu/traits.cpp",
    "ggml-cpu/binary-ops.cpp",
    "ggml-cpu/unary-ops.cpp",
    "ggml-cpu/vec.cpp",
    "ggml-cpu/ops.cpp",
    "ggml-cpu/amx/amx.cpp",
    "ggml-cpu/amx/mmq.cpp",
    "ggml-cpu/tiled/tiled.cpp",
    "ggml-cpu/tiled/tiled-kernel.cpp",
    "ggml-cpu/llamafile/sgemm.cpp",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/shim.c");
    println!("cargo:rerun-if-changed=Cargo.toml");

    let ggml = ggml_directory().unwrap_or_else(|message| {
        // A panic would bury the next step under a backtrace note.
        eprintln!("error: {message}");
        std::process::exit(1);
    });
    println!("cargo:rerun-if-changed={}", ggml.display());
    println!("cargo:rustc-env=GGML_DIRECTORY={}", ggml.display());
    println!("cargo:include={}", ggml.join("include").display());

    let build = Compilation::new(ggml);
    if env::var_os("CARGO_FEATURE_CPU_BACKEND").is_some() {
        build.cpu_backend();
    } else {
        build.small();
    }
}

struct Compilation {
    ggml: PathBuf,
    out: PathBuf,
    arch: String,
    native: bool,
}

impl Compilation {
    fn new(ggml: PathBuf) -> Self {
        let variable = |name| env::var(name).expect("cargo sets it for build scripts");
        let out = PathBuf::from(variable("OUT_DIR"));
        // ggml's own build writes this header; the two names are all that ggml.c wants of it.
        let header = "#define GGML_VERSION \"0.26.0\"\n#define GGML_COMMIT \"unknown\"\n";
        fs::write(out.join("ggml-version.h"), header).expect("OUT_DIR is writable");
        let arch = variable("CARGO_CFG_TARGET_ARCH");
        Self { ggml, out, arch, native: variable("HOST") == variable("TARGET") }
    }

    /// Quantise, dequantise and plain-C dot products.
    fn small(&self) {
        let mut c = self.portable(Language::C, "small-c");
        // ggml's name for "take the plain-C kernels": no file for the instruction set, same bits everywhere.
        c.define("GGML_CPU_GENERIC", None);
        c.files(BASE_C.iter().map(|file| self.source(file)));
        c.file(self.source("ggml-cpu/quants.c")).file("src/shim.c");
        self.archive(&[c]);
        self.link(&["m", "pthread"]);
    }

    /// The base library for every machine and the CPU backend for this one.
    fn cpu_backend(&self) {
        let mut base_c = self.portable(Language::C, "base-c");
        base_c.files(BASE_C.iter().chain(BACKEND_BASE_C).map(|file| self.source(file)));
        let mut base_cpp = self.portable(Language::Cpp, "base-cpp");
        base_cpp.files(BACKEND_BASE_CPP.iter().map(|file| self.source(file)));

        let mut cpu_c = self.native(Language::C, "cpu-c");
        cpu_c.files(BACKEND_CPU_C.iter().map(|file| self.source(file)));
        let mut cpu_cpp = self.native(Language::Cpp, "cpu-cpp");
        cpu_cpp.files(BACKEND_CPU_CPP.iter().map(|file| self.source(file)));
        let folder = match self.arch.as_str() {
            "x86" | "x86_64" => Some("x86"),
            "aarch64" => Some("arm"),
            _ => None,
        };
        match folder {
            Some(folder) => {
                cpu_c.file(self.source(&format!("ggml-cpu/arch/{folder}/quants.c")));
                cpu_cpp.file(self.source(&format!("ggml-cpu/arch/{folder}/repack.cpp")));
            }
            None => {
                cpu_c.define("GGML_CPU_GENERIC", None);
                cpu_cpp.define("GGML_CPU_GENERIC", None);
            }
        }
        self.archive(&[base_c, base_cpp, cpu_c, cpu_cpp]);
        self.link(&["m", "pthread", "dl"]);
    }

    /// For the baseline CPU: no fused multiply-add, which would change the last bit of a weight.
    fn portable(&self, language: Language, folder: &str) -> cc::Build {
        let mut build = self.common(language, folder);
        build.flag_if_supported("-ffp-contract=off");
        build
    }

    /// For the CPU at hand, as anyone would build the rival.
    fn native(&self, language: Language, folder: &str) -> cc::Build {
        let mut build = self.common(language, folder);
        build.opt_level(3);
        if self.native {
            build.flag_if_supported("-march=native");
        }
        build
    }

    /// The folder of the objects is per language and flags, because `ggml.c` and `ggml.cpp` would
    /// both become `ggml.o`.
    fn common(&self, language: Language, folder: &str) -> cc::Build {
        let mut build = cc::Build::new();
        match language {
            Language::C => build.std("c11"),
            Language::Cpp => build.cpp(true).std("c++17"),
        };
        build
            .out_dir(self.out.join(folder))
            .include(&self.out)
            .include(self.ggml.join("include"))
            .include(self.ggml.join("src"))
            .include(self.ggml.join("src/ggml-cpu"))
            .opt_level(2)
            .debug(false)
            .warnings(false)
            .define("_GNU_SOURCE", None)
            .define("_XOPEN_SOURCE", "600")
            .define("NDEBUG", None)
            .define("GGML_SCHED_MAX_COPIES", "4");
        if env::var_os("CARGO_FEATURE_CPU_BACKEND").is_some() {
            build
                .define("GGML_USE_CPU", None)
                .define("GGML_USE_LLAMAFILE", None)
                .define("GGML_USE_CPU_REPACK", None);
        }
        build
    }

    /// One archive of all objects: the backend's parts call each other in circles.
    fn archive(&self, builds: &[cc::Build]) {
        let objects = builds.iter().flat_map(cc::Build::compile_intermediates);
        let mut archive = cc::Build::new();
        // Links the C++ runtime where any of the objects needs it.
        archive.cpp(builds.len() > 1).objects(objects).compile("ggml");
    }

    fn source(&self, file: &str) -> PathBuf {
        self.ggml.join("src").join(file)
    }

    /// Elsewhere than on Unix the C runtime holds all of these.
    fn link(&self, libraries: &[&str]) {
        if env::var_os("CARGO_CFG_UNIX").is_some() {
            for library in libraries {
                println!("cargo:rustc-link-lib={library}");
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Language {
    C,
    Cpp,
}

/// Where cargo unpacked the pinned crate: the folder of its `llama.cpp/ggml`.
fn ggml_directory() -> Result<PathBuf, String> {
    // Offline first: an ordinary build has the archive and must not touch the network. The second
    // try lets cargo fetch it, because a build for one platform skips the never-built dependency.
    let mut reasons = String::new();
    for arguments in [&["--offline", "--locked"][..], &["--locked"], &[]] {
        match metadata(arguments) {
            Ok(json) => {
                return manifest_directories(&json)
                    .map(|directory| directory.join("llama.cpp").join("ggml"))
                    .find(|ggml| ggml.join("src").join("ggml-quants.c").is_file())
                    .ok_or_else(|| {
                        "the crate llama-cpp-sys-2 in Cargo.lock holds no ggml sources; \
                         it must be version 0.1.161, see vendor/ggml-sys/Cargo.toml"
                            .to_owned()
                    });
            }
            Err(reason) => reasons = reason,
        }
    }
    Err(format!(
        "ggml-sys found no ggml sources: cargo could not list the packages.\n\
         Next step: run `cargo fetch` once with a network connection, or vendor the crate \
         llama-cpp-sys-2 0.1.161 with `cargo vendor`, and build again.\n\
         What cargo said:\n{reasons}"
    ))
}

fn metadata(arguments: &[&str]) -> Result<String, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let folder = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts");
    let manifest = Path::new(&folder).join("Cargo.toml");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--manifest-path"])
        .arg(manifest)
        .args(arguments)
        .output()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if output.status.success() {
        String::from_utf8(output.stdout).map_err(|error| format!("cargo metadata: {error}"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The folder of every package. A JSON parser would be a dependency for this one key.
fn manifest_directories(json: &str) -> impl Iterator<Item = PathBuf> {
    json.split("\"manifest_path\":\"").skip(1).filter_map(|rest| {
        let path = rest.split('"').next()?.replace("\\\\", "\\");
        Path::new(&path).parent().map(Path::to_path_buf)
    })
}
