//! The scripts as people call them: help without packages or a network, prompts with flags, a full disk.

#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A folder of stand-ins for programs, the first that are found.
fn stubs(programs: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, body) in programs {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    folder
}

fn run(script: &str, args: &[&str], stubs: &TempDir, env: &[(&str, &Path)]) -> Output {
    let path = std::env::var("PATH").unwrap();
    let path_of_script = scripts().join(script);
    let mut command = if script.ends_with(".py") {
        let mut python = Command::new(stubs.path().join("python3"));
        python.arg(path_of_script);
        python
    } else {
        Command::new(path_of_script)
    };
    command.args(args).env("PATH", format!("{}:{path}", stubs.path().display()));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DOVETAIL_") {
            command.env_remove(name);
        }
    }
    command.envs(env.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

/// Python without packages, and nothing that downloads, installs or builds.
#[test]
fn every_script_has_help() {
    let refuse = "echo \"$0 $* was called\" >&2; exit 9";
    let python = "PATH=${PATH#*:}; export PATH; exec python3 -S -E \"$@\"";
    let stubs = stubs(&[
        ("cargo", refuse),
        ("apt-get", refuse),
        ("rustup", refuse),
        ("pip", refuse),
        ("python3", python),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let mut n = 0;
    for entry in fs::read_dir(scripts()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        // Modules of the others.
        if path.is_dir() || ["environment.py", "local_server.py"].contains(&name) {
            continue;
        }
        for flag in ["--help", "-h"] {
            let output = run(name, &[flag], &stubs, &[("DOVETAIL_CACHE", cache.path())]);
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            assert_eq!((output.status.code(), stderr), (Some(0), ""), "{name} {flag}");
            assert!(stdout.contains(name) && stdout.lines().count() > 1, "{name}: {stdout}");
        }
        n += 1;
    }
    assert!(n > 16, "{n} scripts");
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0, "nothing was made");
    for name in ["neon", "test"] {
        let output = run(name, &["--nonsense"], &stubs, &[]);
        assert_eq!(output.status.code(), Some(1));
        let line = format!("error: unknown argument --nonsense; scripts/{name} takes none\n");
        assert_eq!(text(&output.stderr), line);
    }
}

#[test]
fn run_passes_flags_and_prompts_on() {
    let stubs = stubs(&[("cargo", "exit 0")]);
    let target = tempfile::tempdir().unwrap();
    let program = target.path().join("release/dovetail-run");
    fs::create_dir(program.parent().unwrap()).unwrap();
    fs::write(&program, "#!/bin/sh\nprintf '<%s>' \"$@\"\n").unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let model = Path::new("m.gguf");
    let env = [("CARGO_TARGET_DIR", target.path()), ("DOVETAIL_MODEL", model)];
    for (args, expected) in [
        (&[][..], "<m.gguf>"),
        (&["Why is the sky blue?"], "<m.gguf><Why is the sky blue?>"),
        (&["--temp", "0", "Hi"], "<m.gguf><--temp><0><Hi>"),
    ] {
        let output = run("run", args, &stubs, &env);
        assert_eq!((text(&output.stdout), text(&output.stderr)), (expected, ""));
    }
}

/// One line says what is needed and where, and nothing half-written stays.
#[test]
fn setup_says_that_the_disk_is_full() {
    let df = |kilobytes: u64| {
        format!("echo 'Filesystem 1024-blocks Used Available'; echo 'x 9 9 {kilobytes}'")
    };
    let pip = "case \"$*\" in *--version*) exit 0;; esac
               echo half >\"$TMPDIR/half\"
               echo 'Traceback (most recent call last):' >&2
               echo \"OSError: [Errno 28] No space left on device\" >&2; exit 2";
    let broken = "case \"$*\" in *--version*) exit 0;; esac
                  echo 'ERROR: no network' >&2; exit 1";
    for (free, python, part) in [
        (5000, "exit 0", " is full: 197 MB are needed there and 5 MB are free; make room, or set"),
        (99_999_999, pip, " is full: 197 MB are needed there"),
        (99_999_999, broken, "(ERROR: no network); check the network and run scripts/setup again"),
    ] {
        let stubs = stubs(&[("df", &df(free)), ("python3", python), ("sleep", "exit 0")]);
        let cache = tempfile::tempdir().unwrap();
        let output = run("setup", &[], &stubs, &[("DOVETAIL_CACHE", cache.path())]);
        let stderr = text(&output.stderr);
        let lines: Vec<_> = stderr.lines().filter(|line| !line.starts_with("fetching ")).collect();
        assert_eq!((output.status.code(), lines.len()), (Some(1), 1), "{stderr}");
        assert!(lines[0].starts_with("error: ") && lines[0].contains(part), "{stderr}");
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0, "nothing stays");
    }
    // The drafters are the last to be written.
    let full = "echo 'cp: No space left on device' >&2; echo half >\"$2\"; exit 1";
    let stubs =
        stubs(&[("cp", full), ("sha256sum", "echo $SHA256 ' -'"), ("stat", "echo 98362432")]);
    let manifest = include_str!("../models/manifest.toml");
    let key = |name: &str| {
        let line = manifest.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")));
        line.unwrap().split('"').next().unwrap()
    };
    let cache = tempfile::tempdir().unwrap();
    fs::write(cache.path().join(key("file")), "stands for the model").unwrap();
    let env = [("DOVETAIL_CACHE", cache.path()), ("SHA256", Path::new(key("sha256")))];
    let output = run("setup", &[], &stubs, &env);
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("error: the disk of ") && stderr.lines().count() == 1, "{stderr}");
    assert_eq!(fs::read_dir(cache.path().join("drafters")).unwrap().count(), 0, "{stderr}");
}
