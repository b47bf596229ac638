//! Where weights go, what is said about it, and how much memory it takes.

mod common;

use common::gguf::{Parts, Tensor};
use common::place::{Folder, logits};
use common::tiny::{ALL, Tiny};
use dovetail::gguf::Value;
use dovetail::model::{Repack, WeightStorage};
use dovetail::setting::Plain;
use dovetail::{LoadOptions, Model, OpenOptions};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn tiny(name: &str) -> Parts {
    ALL.iter().find(|tiny| tiny.name == name).unwrap().parts()
}

#[test]
fn a_small_model_leaves_no_file_unless_that_is_asked_for() {
    let folder = Folder::new(&tiny("f16"));
    for repack in [Repack::Auto, Repack::Memory, LoadOptions::default().repack] {
        let packing = folder.load(repack).packing().clone();
        assert_eq!(
            (&packing.storage, packing.notice(&Plain)),
            (&WeightStorage::Memory, None),
            "{repack:?}"
        );
        assert!(!folder.cache().exists());
    }
}

#[test]
fn without_a_place_for_a_sidecar_memory_is_used_and_that_is_told() {
    let folder = Folder::new(&tiny("q4_0"));
    let expected = logits(folder.load(Repack::Memory));
    // A file is in the way; nobody, not even root, can write there; there is none at all.
    fs::write(folder.cache(), "a file").unwrap();
    let file = folder.cache();
    for (cache, part) in [
        (Some(file.clone()), file.to_str().unwrap()),
        (Some("/proc/x".into()), "/proc/x"),
        (None, "HOME"),
    ] {
        let mut options = folder.options(Repack::Cache);
        options.cache = cache;
        let model = Model::load(&folder.model(), options).unwrap();
        let packing = model.packing().clone();
        assert_eq!(packing.storage, WeightStorage::Memory);
        let notice = packing.notice(&Plain).unwrap();
        assert!(notice.contains(part) && notice.contains("DOVETAIL_CACHE"), "{notice}");
        assert!(!notice.contains('\n'), "{notice}");
        assert!(logits(model) == expected);
    }
}

#[test]
fn held_in_memory_a_model_does_not_need_its_file() {
    for repack in [Repack::Auto, Repack::Memory, Repack::Off] {
        // The embedding is tied to the head in one and has a type of its own in the other.
        for name in ["q4_K", "q2_K"] {
            let folder = Folder::new(&tiny(name));
            let expected = logits(folder.load(Repack::Memory));
            let mut options = folder.options(repack);
            options.open = OpenOptions { no_mmap: true, mlock: false };
            let model = Model::load(&folder.model(), options).unwrap();
            assert!(!folder.cache().exists());
            File::create(folder.model()).unwrap();
            assert!(logits(model) == expected, "{name}, {repack:?}");
        }
    }
    let folder = Folder::new(&tiny("f32"));
    let mut options = folder.options(Repack::Cache);
    options.open.no_mmap = true;
    let Err(error) = Model::load(&folder.model(), options) else { panic!("mapped all the same") };
    let line = "a sidecar is always mapped; leave out the wish to map no file or the place of packed weights (cache)";
    assert_eq!((error.is_usage(), &error.to_string()[..]), (true, line));
}

#[test]
fn weights_can_be_locked_wherever_they_are() {
    for repack in [Repack::Memory, Repack::Cache, Repack::Off] {
        let folder = Folder::new(&tiny("q8_0"));
        let expected = logits(folder.load(Repack::Memory));
        let mut options = folder.options(repack);
        options.open.mlock = true;
        match Model::load(&folder.model(), options) {
            Ok(model) => assert!(logits(model) == expected, "{repack:?}"),
            Err(error) => assert!(error.to_string().contains("ulimit -l"), "{error}"),
        }
    }
}

/// A model of 279 MB, large enough for a sidecar without asking: one layer many times.
fn large() -> Parts {
    let large = Tiny { name: "large", n_layers: 1, n_embd: 512, n_heads: 8, n_ff: 4096, ..ALL[1] };
    let mut parts = Tiny { head_dim: 64, n_kv_heads: 8, n_rotated: 64, ..large }.parts();
    const LAYERS: u32 = 19;
    parts.set("llama.block_count", Some(Value::U32(LAYERS)));
    let layer: Vec<Tensor> =
        parts.tensors.iter().filter(|t| t.name.starts_with("blk.0.")).cloned().collect();
    for i in 1..LAYERS {
        parts.tensors.extend(layer.iter().cloned().map(|mut tensor| {
            tensor.name = tensor.name.replace("blk.0.", &format!("blk.{i}."));
            tensor
        }));
    }
    parts
}

/// Where a child process finds the model and leaves its figures, and how it packs.
const CHILD: &str = "DOVETAIL_PACKING_CHILD";
const CHILD_REPACK: &str = "DOVETAIL_PACKING_CHILD_REPACK";

/// Most bytes that this process has had in memory so far.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

#[test]
#[ignore = "the body of never_are_two_copies_in_memory, run in a process of its own"]
fn child() {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let repack = std::env::var(CHILD_REPACK).unwrap().parse().unwrap();
    let cache = Some(folder.join("cache"));
    let options = LoadOptions { repack, cache, threads: 2, ..LoadOptions::default() };
    let before = peak();
    let model = Model::load(&folder.join("model.gguf"), options).unwrap();
    let loaded = peak() - before;
    let weights = model.weights().bytes();
    logits(model);
    let figures = format!("{weights} {loaded} {}", peak() - before);
    fs::write(folder.join("figures"), figures).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn never_are_two_copies_in_memory() {
    let folder = Folder::new(&large());
    let figures = folder.model().with_file_name("figures");
    for (repack, is_streamed) in [("memory", false), ("auto", true), ("auto", true), ("off", true)]
    {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(CHILD, figures.parent().unwrap())
            .env(CHILD_REPACK, repack)
            .status();
        assert!(status.unwrap().success());
        let text = fs::read_to_string(&figures).unwrap();
        let numbers: Vec<u64> = text.split(' ').map(|n| n.parse().unwrap()).collect();
        let [weights, loaded, ran] = numbers[..] else { panic!("{text}") };
        println!("{repack}: {weights} bytes of weights, peaks {loaded} loading, {ran} running");
        assert!(weights > 256 << 20 && ran > weights / 10 * 9, "the weights were read");
        assert!(ran < weights / 10 * 11, "{repack}: {ran} bytes for {weights}");
        assert!(!is_streamed || loaded < weights / 5, "{repack}: {loaded} bytes to load");
    }
    assert!(folder.sidecar().exists(), "the disk of a test machine has room");
}

/// The program with this model, its cache directory there, and nothing else of the environment.
fn program(folder: &Folder, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail-run"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DOVETAIL_") {
            command.env_remove(name);
        }
    }
    command.env("DOVETAIL_CACHE", folder.cache()).stdin(Stdio::null()).arg(folder.model());
    command.args(["--raw", "-p", "ab", "-s", "1", "--ignore-eos"]).args(args);
    command
}

fn run(folder: &Folder, args: &[&str]) -> Output {
    program(folder, args).args(["-n", "8"]).output().unwrap()
}

#[test]
fn the_program_says_once_where_packed_weights_lie() {
    let folder = Folder::new(&tiny("q4_K"));
    let answer = |args: &[&str]| {
        let output = run(&folder, args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        (output.stdout, stderr)
    };
    let (expected, said) = answer(&["--repack", "memory"]);
    assert!(!expected.is_empty() && said.is_empty(), "{said}");
    let (text, said) = answer(&["--repack", "cache"]);
    let (path, size) = (folder.sidecar(), fs::metadata(folder.sidecar()).unwrap().len());
    let size = format!("packed {:.1} MB", size as f64 / 1e6);
    assert!(said.contains(path.to_str().unwrap()) && said.contains(&size), "{said}");
    assert!(text == expected && said.matches('\n').count() == 1, "{said}");
    assert_eq!(answer(&["--repack", "cache"]), (expected.clone(), String::new()), "once");
    for (args, part) in [
        (&["--repack", "cache"][..], path.to_str().unwrap()),
        (&["--repack", "memory"], "packed in memory"),
        (&["--repack", "auto"], "packed in memory"),
        (&["--repack", "off"], "as in the model's file"),
        (&["-nr"], "as in the model's file"),
    ] {
        let (text, said) = answer(&[args, &["-v"]].concat());
        let line = said.lines().find(|line| line.starts_with("weights ")).unwrap();
        assert!(line.contains(part) && text == expected, "{args:?}: {said}");
    }
    fs::write(&path, "damaged").unwrap();
    let (text, said) = answer(&["--repack", "cache", "-v"]);
    assert!(text == expected && said.contains("is not of the right size"), "{said}");
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let folder = Folder::new(&tiny("f32"));
    for (args, part) in [
        (&["--repack", "maybe"][..], "auto, cache, memory or off"),
        (&["--repack", "cache", "--no-mmap"], "--no-mmap"),
        (&["--repack", "cache", "-nr"], "--no-repack"),
    ] {
        let output = run(&folder, args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(part) && stderr.matches('\n').count() == 1, "{stderr}");
    }
}

#[test]
#[cfg(unix)]
fn an_interrupt_leaves_no_part_of_a_file() {
    let folder = Folder::new(&large());
    let mut child = program(&folder, &["--repack", "cache"]).stdout(Stdio::null()).spawn().unwrap();
    while folder.files().is_empty() {
        assert_eq!(child.try_wait().unwrap(), None, "it packs");
        std::thread::sleep(Duration::from_millis(1));
    }
    let signal = format!("kill -INT {}", child.id());
    assert!(Command::new("sh").args(["-c", &signal]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let is_part = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "part");
    assert!(!folder.files().iter().any(is_part), "{:?}", folder.files());
}
