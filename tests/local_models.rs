//! Models that this program and others have left on the disk: their list, their names, drafters beside them.

#![cfg(unix)]

mod common;
#[path = "common/dovetail_run.rs"]
mod dovetail_run;

use common::gguf::Parts;
use common::hub_server::COMMIT;
use common::tiny::tiny;
use dovetail::gguf::Value;
use dovetail::hub::{self, Folder, Layout};
use dovetail_run::{ANSWER, program, stderr, stdout};
use serde_json::json;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A home with a model of each program, and one of them broken.
fn home_of_all(model: &[u8]) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let put = |path: &str, bytes: &[u8]| {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    put(".cache/dovetail/Own.Q4_1.gguf", model);
    put(".cache/dovetail/drafters/own.dgf.gguf", model);
    put(".cache/llama.cpp/user_flat-Q8_0.gguf", &model[..model.len() / 2]);
    put(".cache/llama.cpp/user_flat-Q8_0.gguf.downloadInProgress", b"");
    put(".lmstudio/models/maker/Studio-GGUF/Studio-Q5_K_M.gguf", model);
    put(".lmstudio/models/maker/Studio-GGUF/mmproj-Studio-f16.gguf", model);
    let hub = ".cache/huggingface/hub/models--u--r";
    put(&format!("{hub}/refs/main"), COMMIT.as_bytes());
    put(&format!("{hub}/snapshots/{COMMIT}/m-Q4_0.gguf"), model);
    put(&format!("{hub}/snapshots/{COMMIT}/m-Q6_K.gguf"), model);
    put(&format!("{hub}/snapshots/{COMMIT}/evil\u{1b}[2J-Q2_K.gguf"), b"no model");
    put(&format!("{hub}/snapshots/{}/old-Q3_K_S.gguf", "f".repeat(40)), model);
    let digest = "a".repeat(64);
    let layers = json!([
        {"mediaType": "application/vnd.ollama.image.license", "digest": format!("sha256:{}", "b".repeat(64))},
        {"mediaType": "application/vnd.ollama.image.model", "digest": format!("sha256:{digest}")},
    ]);
    let manifest = json!({"schemaVersion": 2, "layers": layers}).to_string();
    let manifests = ".ollama/models/manifests/registry.ollama.ai";
    put(&format!(".ollama/models/blobs/sha256-{digest}"), model);
    put(&format!("{manifests}/library/llama3.2/1b"), manifest.as_bytes());
    put(&format!("{manifests}/library/tiny/latest"), manifest.as_bytes());
    put(&format!("{manifests}/someone/theirs/7b"), manifest.as_bytes());
    put(&format!("{manifests}/library/broken/latest"), b"{");
    let outside = json!({"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../x"}]});
    put(&format!("{manifests}/library/outside/latest"), outside.to_string().as_bytes());
    home
}

/// All but what lies outside of the home.
fn folders(home: &Path) -> Vec<Folder> {
    let variable = |name: &str| (name == "HOME").then(|| home.as_os_str().to_owned());
    let mut folders = hub::folders(&variable);
    folders.retain(|folder| folder.path.starts_with(home));
    folders
}

#[test]
fn models_of_all_programs_have_a_name() {
    let home = home_of_all(&tiny("q8_0").parts().bytes());
    let models = hub::models(&folders(home.path()));
    let names: Vec<_> = models.iter().map(|model| model.name.as_str()).collect();
    let expected = [
        "Own.Q4_1",
        "u/r:Q2_K",
        "u/r:Q3_K_S",
        "u/r:Q4_0",
        "u/r:Q6_K",
        "user_flat-Q8_0",
        "llama3.2:1b",
        "someone/theirs:7b",
        "tiny:latest",
        "maker/Studio-GGUF:Q5_K_M",
    ];
    assert_eq!(names, expected);
    let path = |name: &str| hub::find(name, &models).unwrap();
    for model in &models {
        assert_eq!(path(&model.name).as_ref(), Some(&model.path), "{}", model.name);
    }
    for (name, same) in [
        ("own.q4_1", "Own.Q4_1"),
        ("Own.Q4_1.gguf", "Own.Q4_1"),
        ("tiny", "tiny:latest"),
        ("U/R:q6_k", "u/r:Q6_K"),
        ("maker/Studio-GGUF", "maker/Studio-GGUF:Q5_K_M"),
    ] {
        assert_eq!(path(name), path(same), "{name}");
    }
    assert_eq!((path("llama3.2"), path("nobody/nothing"), path("")), (None, None, None));
    let error = hub::find("u/r:Q3_K", &models).unwrap_err().to_string();
    assert!(error.starts_with("u/r on the disk: has no model Q3_K; there are "), "{error}");
    assert!(!error.contains('\u{1b}'), "{error}");
    // A folder that is named twice changes nothing; of two with the same names the first one's count.
    let twice = |other: &Path| hub::models(&[folders(home.path()), folders(other)].concat());
    assert_eq!(twice(home.path()), models);
    let other = home_of_all(b"other");
    let both = twice(other.path());
    let names: std::collections::HashSet<_> = both.iter().map(|model| &model.name).collect();
    // Three names of Ollama's are one file.
    assert_eq!((names.len(), both.len()), (2 * expected.len() - 2, 2 * expected.len() - 2));
    for model in &models {
        assert_eq!(hub::find(&model.name, &both).unwrap().as_ref(), Some(&model.path));
    }
    let nowhere = Folder { layout: Layout::Ollama, path: home.path().join("nowhere") };
    assert_eq!(hub::models(&[nowhere]), []);
}

#[test]
fn the_program_lists_models_and_runs_them_by_their_names() {
    let mut parts: Parts = tiny("q8_0").parts();
    parts.set("general.file_type", Some(Value::U32(7)));
    let home = home_of_all(&parts.bytes());
    let mut unknown = parts.clone();
    unknown.set("general.architecture", Some(Value::String("mamba".into())));
    unknown.set("general.file_type", None);
    fs::write(home.path().join(".cache/dovetail/Other.gguf"), unknown.bytes()).unwrap();
    let output = program(home.path()).arg("--list-models").output().unwrap();
    let table = stdout(&output);
    let line = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name} in {table}")).split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(line("NAME"), ["NAME", "SIZE", "QUANT", "ARCHITECTURE", "PATH"]);
    let path = home.path().join(".cache/dovetail/Own.Q4_1.gguf");
    assert_eq!(line("Own.Q4_1")[2..], ["MB", "Q8_0", "llama", path.to_str().unwrap()]);
    assert_eq!(line("Other")[3..7], ["Q8_0", "mamba", "(cannot", "be"]);
    assert!(line("llama3.2:1b").last().unwrap().contains("/blobs/sha256-aaa"));
    let broken = line("user_flat-Q8_0").join(" ");
    assert!(broken.contains("- broken: ") && broken.contains("incomplete"), "{broken}");
    assert!(table.contains(r"evil\u{1b}[2J-Q2_K") && !table.contains('\u{1b}'), "{table}");
    assert!(!table.contains("mmproj") && !table.contains("dgf"), "{table}");
    let run = |name: &str| program(home.path()).arg(name).args(ANSWER).output().unwrap();
    let expected = stdout(&run(path.to_str().unwrap())).to_owned();
    for name in ["Own.Q4_1", "tiny", "llama3.2:1b", "u/r:q4_0", "maker/studio-gguf"] {
        assert_eq!(stdout(&run(name)), expected, "{name}");
    }
    // A file that is there comes before a name.
    fs::write(home.path().join("tiny"), "a file").unwrap();
    let output =
        program(home.path()).arg("tiny").current_dir(home.path()).args(ANSWER).output().unwrap();
    assert!(stderr(&output).contains("GGUF file"), "{}", stderr(&output));
    for (name, part) in [
        (
            "nothing",
            "nothing: no such file, and no model on the disk has this name; --list-models shows",
        ),
        ("u/r:Q3_K", "u/r on the disk: has no model Q3_K"),
    ] {
        let output = run(name);
        let line = stderr(&output);
        assert!(
            !output.status.success() && line.contains(part) && line.matches('\n').count() == 1,
            "{line}"
        );
    }
    // What cannot be looked at is no name: the system says why.
    std::os::unix::fs::symlink("loop", home.path().join("loop")).unwrap();
    let output = run(home.path().join("loop").to_str().unwrap());
    assert!(stderr(&output).contains("symbolic links"), "{}", stderr(&output));
    let empty = tempfile::tempdir().unwrap();
    let output = program(empty.path()).arg("--list-models").output().unwrap();
    assert!(stdout(&output).contains("-hf USER/REPO fetches one"));
    let output = program(empty.path()).args(["-p", "x"]).output().unwrap();
    assert!(stderr(&output).contains("--list-models shows, or fetch one with -hf USER/REPO"));
}

#[test]
fn a_drafter_beside_the_model_is_named_and_not_loaded() {
    let home = tempfile::tempdir().unwrap();
    let model = home.path().join("m.gguf");
    fs::write(&model, tiny("q8_0").parts().bytes()).unwrap();
    let run = |kind: &str| {
        let mut command = program(home.path());
        command.arg(&model).args(ANSWER).args(["--spec-type", kind]).output().unwrap()
    };
    let alone = run("auto");
    assert_eq!(stderr(&alone), "");
    // It has no tensors, so that opening it as a drafter would fail.
    let arch = ("general.architecture".to_owned(), Value::String("eagle3".into()));
    let drafter = Parts { keys: vec![arch], tensors: Vec::new() };
    fs::write(home.path().join("m-EAGLE3.gguf"), drafter.bytes()).unwrap();
    let offered = run("auto");
    assert_eq!(stdout(&offered), stdout(&alone));
    let path = home.path().join("m-EAGLE3.gguf");
    let line =
        format!("a drafter lies beside the model, {}; take it with -md FILE\n", path.display());
    assert_eq!(stderr(&offered), line);
    assert_eq!(stderr(&run("none")), "");
}
