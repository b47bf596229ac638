//! Models that are fetched from a hub, here one on this machine.

#![cfg(unix)]

mod common;
#[path = "common/dovetail_run.rs"]
mod dovetail_run;

use common::hub_server::{COMMIT, Fault, Hub, sha256};
use common::tiny::tiny;
use dovetail::hub::{self, Event, Fetched, FileChoice, Options, Repo};
use dovetail_run::{ANSWER, clean, program, stderr, stdout};
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A token as hubs give them.
const TOKEN: &str = "hf_secret";

/// Bytes that are all different from their neighbours, as many as several reads take.
fn bytes(n: usize) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// An empty cache, and a hub.
struct Place {
    hub: Hub,
    cache: TempDir,
}

impl Place {
    fn new(files: &[(&str, &[u8])]) -> Place {
        Place { hub: Hub::new(files), cache: tempfile::tempdir().unwrap() }
    }

    fn options(&self) -> Options {
        Options {
            endpoint: self.hub.endpoint.clone(),
            token: Some(TOKEN.into()),
            offline: false,
            cache: self.cache.path().to_owned(),
            pause: Duration::from_millis(1),
            silence: Duration::from_secs(10),
        }
    }

    fn fetch_with(
        &self,
        repo: &str,
        observer: &mut dyn FnMut(Event) -> bool,
    ) -> dovetail::Result<Fetched> {
        let repo: Repo = repo.parse().unwrap();
        hub::fetch(&repo, FileChoice::default(), &self.options(), observer)
    }

    fn fetch(&self) -> dovetail::Result<PathBuf> {
        self.fetch_with("u/r", &mut |_| true).map(|fetched| fetched.path)
    }

    fn error(&self) -> String {
        self.fetch().unwrap_err().to_string()
    }

    /// A file of the repository's folder in the cache.
    fn at(&self, path: &str) -> PathBuf {
        self.cache.path().join("models--u--r").join(path)
    }

    /// The file of some contents, before they are whole.
    fn incomplete(&self, contents: &[u8]) -> PathBuf {
        self.at(&format!("blobs/{}.incomplete", sha256(contents)))
    }

    /// The names in the folder of contents.
    fn blobs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.at("blobs")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

fn ranges(place: &Place) -> Vec<String> {
    let range = |request: common::hub_server::Request| {
        request.headers.get("range").cloned().unwrap_or_default()
    };
    place.hub.fetched().into_iter().map(range).collect()
}

#[test]
fn a_model_is_fetched_once_and_lies_where_other_programs_look() {
    let model = bytes(3_000_000);
    let place = Place::new(&[
        ("README.md", b"text"),
        ("sub/m Q4_K_M.gguf", b"x"),
        ("m-Q4_K_M.gguf", &model),
    ]);
    let mut shown = Vec::new();
    let fetched = place.fetch_with("u/r:q4_k_m", &mut |event| {
        let Event::Progress { file, done, total } = event else { panic!("{event:?}") };
        assert_eq!((file, total), ("m-Q4_K_M.gguf", model.len() as u64));
        shown.push(done);
        true
    });
    let path = fetched.unwrap().path;
    assert_eq!(path, place.at(&format!("snapshots/{COMMIT}/m-Q4_K_M.gguf")));
    assert_eq!(fs::read(&path).unwrap(), model);
    assert!(shown.is_sorted() && shown.len() > 1 && shown.last() == Some(&(model.len() as u64)));
    assert_eq!(
        fs::canonicalize(&path).unwrap(),
        fs::canonicalize(place.at(&format!("blobs/{}", sha256(&model)))).unwrap()
    );
    assert_eq!(fs::read_to_string(place.at("refs/main")).unwrap(), COMMIT);
    assert_eq!(place.blobs(), [sha256(&model)]);
    assert_eq!(ranges(&place), [""]);
    // The token is for the hub alone, not for the server that it redirects to.
    for request in [place.hub.listings(), place.hub.resolved()].concat() {
        assert_eq!(request.headers["authorization"], format!("Bearer {TOKEN}"), "{request:?}");
    }
    assert_eq!(place.fetch().unwrap(), path);
    assert_eq!((place.hub.fetched().len(), place.hub.listings().len()), (0, 1));
    // Names are escaped on their way.
    let choice = FileChoice { file: Some("sub/m Q4_K_M.gguf"), ..FileChoice::default() };
    let other =
        hub::fetch(&"u/r".parse().unwrap(), choice, &place.options(), &mut |_| true).unwrap();
    assert_eq!(fs::read(other.path).unwrap(), b"x");
    let requests = place.hub.fetched();
    assert!(requests[0].path.ends_with("/sub/m%20Q4_K_M.gguf"), "{requests:?}");
    assert!(requests.iter().all(|request| !request.headers.contains_key("authorization")));
}

#[test]
fn a_download_goes_on_where_it_ended() {
    let model = bytes(1_000_000);
    let place = Place::new(&[("m.gguf", &model)]);
    fs::create_dir_all(place.at("blobs")).unwrap();
    fs::write(place.incomplete(&model), &model[..400_000]).unwrap();
    place.hub.fail(&[
        Fault::Cut(100_000),
        Fault::Cut(0),
        Fault::Status(503, ""),
        Fault::Cut(100_000),
    ]);
    let mut said = Vec::new();
    let path = place.fetch_with("u/r", &mut |event| {
        if let Event::Retry { what, .. } = event {
            said.push(what.to_owned());
        }
        true
    });
    assert_eq!(fs::read(path.unwrap().path).unwrap(), model);
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[2].contains("503"), "{said:?}");
    let requests = place.hub.fetched();
    let asked = |name: &str| -> Vec<_> {
        requests
            .iter()
            .map(|request| request.headers.get(name).cloned().unwrap_or_default())
            .collect()
    };
    let ranges =
        [400_000, 500_000, 500_000, 500_000, 600_000].map(|start| format!("bytes={start}-"));
    assert_eq!(asked("range"), ranges);
    // Of the first part nobody knows which server sent it; its checksum is looked at in the end.
    let etag = format!("\"{}\"", sha256(&model));
    assert_eq!(asked("if-range"), ["", &etag, &etag, &etag, &etag].map(str::to_owned));
    assert_eq!(place.blobs(), [sha256(&model)]);
}

#[test]
fn a_server_that_cannot_go_on_begins_anew() {
    let model = bytes(500_000);
    let place = Place::new(&[("m.gguf", &model)]);
    place.hub.fail(&[Fault::Cut(300_000), Fault::Whole]);
    assert_eq!(fs::read(place.fetch().unwrap()).unwrap(), model);
    assert_eq!(ranges(&place), ["", "bytes=300000-"]);
}

/// A captive portal, or a hub that has another file by now, costs none of the bytes that have arrived.
#[test]
fn an_answer_that_is_not_the_file_changes_nothing() {
    let model = bytes(1000);
    for (fault, part) in [
        (Fault::Status(200, ""), "the hub sends 0 bytes in place of 1000"),
        (Fault::Page("Log in"), "the hub sends 6 bytes in place of 1000"),
        (Fault::Status(416, ""), "the hub does not send the bytes that were asked for"),
        (Fault::OtherStart, "the hub does not send the bytes that were asked for"),
    ] {
        let place = Place::new(&[("m.gguf", &model)]);
        fs::create_dir_all(place.at("blobs")).unwrap();
        fs::write(place.incomplete(&model), &model[..400]).unwrap();
        place.hub.fail(&[fault; 6]);
        let error = place.error();
        assert!(error.contains(part), "{fault:?}: {error}");
        assert_eq!(fs::read(place.incomplete(&model)).unwrap(), model[..400], "{fault:?}");
        let permanent = part.contains("in place of");
        assert_eq!(ranges(&place).len(), if permanent { 1 } else { 6 }, "{fault:?}");
    }
}

#[test]
fn a_server_that_never_ends_is_not_asked_for_ever() {
    let model = bytes(1000);
    let place = Place::new(&[("m.gguf", &model)]);
    place.hub.fail(&[Fault::Status(500, ""); 10]);
    let error = place.error();
    assert!(error.contains("u/r/m.gguf: the hub answers 500"), "{error}");
    assert!(error.ends_with("try again later"), "{error}");
    assert_eq!(place.hub.fetched().len(), 6);
    // Nor one that begins anew each time and never gets further.
    let place = Place::new(&[("m.gguf", &model)]);
    place.hub.fail(&[Fault::WholeAndCut(500); 20]);
    assert!(place.error().contains("try again later"));
    assert_eq!(place.hub.fetched().len(), 6);
}

#[test]
fn a_server_that_falls_silent_is_asked_again() {
    let model = bytes(500_000);
    let place = Place::new(&[("m.gguf", &model)]);
    place.hub.fail(&[Fault::Stall(200_000)]);
    let options = Options { silence: Duration::from_millis(300), ..place.options() };
    let start = Instant::now();
    let fetched =
        hub::fetch(&"u/r".parse().unwrap(), FileChoice::default(), &options, &mut |_| true);
    assert_eq!(fs::read(fetched.unwrap().path).unwrap(), model);
    assert_eq!(ranges(&place), ["", "bytes=200000-"]);
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_file_longer_than_the_hub_says_is_refused_at_once() {
    let model = bytes(1000);
    let place = Place::new(&[("m.gguf", &model)]);
    place.hub.fail(&[Fault::Longer]);
    let error = place.error();
    assert!(error.contains("the hub sends 1001 bytes in place of 1000"), "{error}");
    assert_eq!(place.hub.fetched().len(), 1);
}

#[test]
fn damaged_bytes_are_deleted() {
    let model = bytes(1000);
    let place = Place::new(&[("m.gguf", &model)]);
    place.hub.fail(&[Fault::OtherBytes]);
    let error = place.error();
    assert!(error.contains("damaged on the way") && error.contains(&sha256(&model)), "{error}");
    assert!(error.ends_with("fetch it again"), "{error}");
    assert_eq!((place.blobs(), place.at("refs/main").exists()), (vec![], false));
    // So are those that an earlier program left.
    fs::write(place.incomplete(&model), "others").unwrap();
    assert!(place.error().contains("damaged"));
    assert_eq!(fs::read(place.fetch().unwrap()).unwrap(), model);
}

#[test]
fn the_hub_is_asked_again_when_it_says_so() {
    let place = Place::new(&[("m.gguf", b"x")]);
    place.hub.fail_listing(&[(429, "0"), (500, "soon"), (503, "")]);
    place.hub.fail(&[Fault::Status(429, "0")]);
    let mut pauses = Vec::new();
    let fetched = place.fetch_with("u/r", &mut |event| {
        if let Event::Retry { after, .. } = event {
            pauses.push(after.as_millis());
        }
        true
    });
    fetched.unwrap();
    assert_eq!(pauses, [0, 2, 4, 0]);
    // What was fetched is there without it, and nothing is waited for.
    place.hub.listings();
    for status in [429, 503] {
        place.hub.fail_listing(&[(status, "0")]);
        let mut said = Vec::new();
        let fetched = place.fetch_with("u/r", &mut |event| {
            let Event::Unreachable { what } = event else { panic!("{event:?}") };
            said.push(what.to_owned());
            true
        });
        assert!(fetched.is_ok() && said.len() == 1, "{said:?}");
        assert!(said[0].starts_with(&format!("the hub answers {status}")), "{said:?}");
        assert_eq!(place.hub.listings().len(), 1);
    }
    let empty = Place::new(&[]);
    empty.hub.fail_listing(&[(429, "86400")]);
    assert!(empty.error().contains("429"));
}

#[test]
fn what_the_hub_refuses_is_one_line() {
    for (status, part) in [
        (401, "u/r: the hub does not have it, or asks for a token; give another with"),
        (403, "u/r: the hub refuses it; accept the model's terms on its page or give another with"),
        (404, "u/r: the hub does not have it; check the name"),
        (418, "u/r: the hub answers 418"),
    ] {
        let place = Place::new(&[("m.gguf", b"x")]);
        place.hub.fail_listing(&[(status, "")]);
        let error = place.error();
        assert!(error.starts_with(part) && !error.contains(TOKEN), "{error}");
        assert_eq!(place.hub.listings().len(), 1, "{status} is not asked again");
    }
    let place = Place::new(&[("m.gguf", b"x")]);
    place.hub.fail_listing(&[(401, "")]);
    let options = Options { token: None, ..place.options() };
    let error = hub::fetch(&"u/r".parse().unwrap(), FileChoice::default(), &options, &mut |_| true);
    assert!(error.unwrap_err().to_string().contains("give one with"));
    assert!(!place.hub.listings()[0].headers.contains_key("authorization"));
    let gone = Options { endpoint: "http://127.0.0.1:1".into(), ..place.options() };
    let start = Instant::now();
    let error = hub::fetch(&"u/r".parse().unwrap(), FileChoice::default(), &gone, &mut |_| true);
    assert!(error.unwrap_err().to_string().starts_with("u/r: cannot reach 127.0.0.1"));
    assert!(start.elapsed() < Duration::from_secs(10));
    let wrong = Options { endpoint: "not a hub".into(), ..place.options() };
    let error = hub::fetch(&"u/r".parse().unwrap(), FileChoice::default(), &wrong, &mut |_| true);
    assert!(error.unwrap_err().to_string().contains("is no address of a hub"));
}

#[test]
fn names_that_lead_elsewhere_are_not_there() {
    let place = Place::new(&[]);
    for name in ["../../../evil.gguf", "/evil.gguf", "a/../../evil.gguf", "evil\u{1b}[2J.gguf"] {
        place.hub.list(json!({"rfilename": name, "lfs": {"sha256": sha256(b""), "size": 0}}));
    }
    place.hub.list(json!({"rfilename": "m.gguf", "lfs": {"sha256": "../../../evil", "size": 0}}));
    assert_eq!(
        place.error(),
        "u/r: has no model, and no GGUF file at all; give another with the option for the file of a repository"
    );
    assert_eq!(fs::read_dir(place.cache.path()).unwrap().count(), 0);
}

#[test]
fn all_parts_of_a_model_are_fetched() {
    let names = [1, 2, 3].map(|part| format!("q/m-Q8_0-0000{part}-of-00003.gguf"));
    let parts: Vec<_> = [10, 20, 30].map(bytes).into();
    let mut files: Vec<_> =
        names.iter().map(String::as_str).zip(parts.iter().map(Vec::as_slice)).collect();
    files.push(("eagle3-m-Q8_0.gguf", b"drafter"));
    files.push(("mmproj-Q4_K_M.gguf", b"images"));
    let place = Place::new(&files);
    let fetched = place.fetch_with("u/r", &mut |_| true).unwrap();
    for (name, part) in names.iter().zip(&parts) {
        assert_eq!(fs::read(place.at(&format!("snapshots/{COMMIT}/{name}"))).unwrap(), *part);
    }
    assert!(fetched.path.ends_with(&names[0]));
    assert_eq!(fetched.drafters, ["eagle3-m-Q8_0.gguf"]);
    assert_eq!(place.blobs().len(), 3);
    let repo = "u/r".parse().unwrap();
    let choice = FileChoice { drafter: true, ..FileChoice::default() };
    let drafter = hub::fetch(&repo, choice, &place.options(), &mut |_| true).unwrap();
    assert_eq!(fs::read(drafter.path).unwrap(), b"drafter");
}

#[test]
fn what_does_not_fit_the_disk_is_not_begun() {
    let place = Place::new(&[("m-00001-of-00002.gguf", b"this part would fit")]);
    let lfs = json!({"sha256": sha256(b""), "size": 1u64 << 60});
    place.hub.list(json!({"rfilename": "m-00002-of-00002.gguf", "lfs": lfs}));
    let error = place.error();
    assert!(
        error.contains("u/r: 1152921504.61 GB are to be fetched and ")
            && error.contains("make room"),
        "{error}"
    );
    assert_eq!(place.hub.fetched().len(), 0);
}

#[test]
fn two_at_once_fetch_a_file_once() {
    let model = bytes(400_000);
    let place = Place::new(&[("m.gguf", &model)]);
    // The first is slow: it has to ask again after the second has come.
    place.hub.fail(&[Fault::Status(503, "1")]);
    let mut waited = [false; 2];
    std::thread::scope(|scope| {
        for waited in &mut waited {
            let place = &place;
            scope.spawn(move || {
                let fetched = place.fetch_with("u/r", &mut |event| {
                    *waited |= matches!(event, Event::Waiting { file: "m.gguf" });
                    true
                });
                assert_eq!(fs::read(fetched.unwrap().path).unwrap().len(), 400_000);
            });
        }
    });
    assert!(waited[0] != waited[1], "one of them waits");
    assert_eq!(ranges(&place), ["", ""], "one that failed, and one");
    assert_eq!(place.blobs(), [sha256(&model)]);
    let link = fs::symlink_metadata(place.at(&format!("snapshots/{COMMIT}/m.gguf")));
    assert!(link.unwrap().is_symlink());
}

#[test]
fn what_was_fetched_is_used_without_the_hub() {
    let place = Place::new(&[("m-Q8_0.gguf", b"x")]);
    let repo: Repo = "u/r".parse().unwrap();
    let offline = Options { offline: true, ..place.options() };
    let error =
        hub::fetch(&repo, FileChoice::default(), &offline, &mut |_| true).unwrap_err().to_string();
    assert!(error.contains("was not fetched yet"), "{error}");
    let path = place.fetch().unwrap();
    place.hub.listings();
    let found = hub::fetch(&repo, FileChoice::default(), &offline, &mut |_| true).unwrap();
    assert_eq!((found.path, place.hub.listings().len()), (path.clone(), 0));
    let gone = Options { endpoint: "http://127.0.0.1:1".into(), ..place.options() };
    let mut told = 0;
    let found = hub::fetch(&repo, FileChoice::default(), &gone, &mut |event| {
        told += usize::from(matches!(event, Event::Unreachable { .. }));
        true
    });
    assert_eq!((found.unwrap().path, told), (path, 1));
    // Another commit has become the newest since.
    fs::write(place.at("refs/main"), "f".repeat(40)).unwrap();
    assert!(hub::fetch(&repo, FileChoice::default(), &offline, &mut |_| true).is_ok());
    let missing: Repo = "u/r:Q2_K".parse().unwrap();
    let error = hub::fetch(&missing, FileChoice::default(), &offline, &mut |_| true);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("has no model Q2_K; there are m-Q8_0.gguf"), "{error}");
}

#[test]
fn a_download_that_is_cancelled_leaves_its_part() {
    let model = bytes(2_000_000);
    let place = Place::new(&[("m.gguf", &model)]);
    let cancelled = place.fetch_with(
        "u/r",
        &mut |event| !matches!(event, Event::Progress { done, .. } if done > 500_000),
    );
    assert!(matches!(cancelled, Err(dovetail::Error::Cancelled(_))));
    let part = fs::read(place.incomplete(&model)).unwrap();
    assert!(part.len() > 500_000 && model.starts_with(&part));
    assert!(!place.at(&format!("snapshots/{COMMIT}/m.gguf")).exists());
    place.hub.fetched();
    assert_eq!(fs::read(place.fetch().unwrap()).unwrap(), model);
    assert_eq!(ranges(&place), [format!("bytes={}-", part.len())]);
}

#[test]
fn the_environment_names_hub_token_and_cache() {
    let home = tempfile::tempdir().unwrap();
    let options = |set: &[(&str, &str)]| {
        let variable = |name: &str| match name {
            "HOME" => Some(home.path().as_os_str().to_owned()),
            name => set.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into()),
        };
        Options::from_env(&variable).unwrap()
    };
    let plain = options(&[]);
    assert!(plain.endpoint.starts_with("https://") && plain.token.is_none() && !plain.offline);
    assert_eq!(plain.cache, home.path().join(".cache/huggingface/hub"));
    let login = home.path().join(".cache/huggingface/token");
    fs::create_dir_all(login.parent().unwrap()).unwrap();
    fs::write(&login, "hf_login\n").unwrap();
    fs::write(home.path().join("t"), "hf_named").unwrap();
    let named = home.path().join("t");
    let named = named.to_str().unwrap();
    for (set, expected) in [
        (&[][..], "hf_login"),
        (&[("HF_TOKEN_PATH", named)], "hf_named"),
        (&[("HF_TOKEN_PATH", named), ("HF_TOKEN", "hf_x")], "hf_x"),
        (&[("HF_ENDPOINT", "http://127.0.0.1:80")], "hf_login"),
        (&[("HF_ENDPOINT", "https://hub.example")], "hf_login"),
    ] {
        assert_eq!(options(set).token, Some(expected.into()), "{set:?}");
    }
    // Whoever listens on the way would learn it.
    for token in [("HF_TOKEN", ""), ("HF_TOKEN", "hf_x")] {
        assert_eq!(options(&[token, ("HF_ENDPOINT", "http://hub.example")]).token, None);
    }
    // It would end the header and begin another.
    assert_eq!(options(&[("HF_TOKEN", "a\r\nHost: b")]).token, None);
    for (set, expected) in [
        (&[("HF_ENDPOINT", "http://a")][..], "http://a"),
        (&[("HF_ENDPOINT", "http://a"), ("MODEL_ENDPOINT", "http://b/")], "http://b/"),
    ] {
        assert_eq!(options(set).endpoint, expected);
    }
    for (value, offline) in [("1", true), ("True", true), ("ON", true), ("0", false), ("", false)] {
        assert_eq!(options(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
    }
    let error = Options::from_env(&|_| None).err().unwrap().to_string();
    assert!(error.contains("set HOME or HF_HOME"), "{error}");
}

#[test]
fn the_programs_fetch_and_run_a_model() {
    let model = tiny("q8_0").parts().bytes();
    let hub = Hub::new(&[("m-Q8_0.gguf", &model), ("eagle3-m.gguf", b"drafter")]);
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = program(home.path());
        command.env("HF_ENDPOINT", &hub.endpoint).env("HF_TOKEN", TOKEN);
        command.args(ANSWER).args(args).output().unwrap()
    };
    let log = home.path().join("log");
    let first = run(&["-hf", "u/r:Q8_0", "-v", "--log-file", log.to_str().unwrap()]);
    let expected = stdout(&first).to_owned();
    assert!(stderr(&first).contains("fetching m-Q8_0.gguf, "), "{}", stderr(&first));
    for said in [stderr(&first), &fs::read_to_string(log).unwrap()] {
        assert!(!said.contains(TOKEN) && !said.contains('\r'), "{said:?}");
    }
    assert_eq!(hub.listings()[0].headers["authorization"], format!("Bearer {TOKEN}"));
    for args in
        [&["-hfr", "u/r", "-hff", "m-q8_0.gguf"][..], &["-hf", "u/r", "--offline"], &["u/r"]]
    {
        let output = run(args);
        assert_eq!((stdout(&output), stderr(&output)), (&*expected, ""), "{args:?}");
    }
    assert_eq!(hub.fetched().len(), 1);
    run(&["-hf", "u/r", "-hft", "hf_other"]);
    assert_eq!(hub.listings().last().unwrap().headers["authorization"], "Bearer hf_other");
    let output = run(&["-hf", "u/r", "-hft", "hf_s\u{e9}cret"]);
    assert_eq!(
        (output.status.code(), stderr(&output)),
        (
            Some(2),
            "error: --hf-token is no text of letters and digits; give another with --hf-token TOKEN\n"
        )
    );
    // The repository's drafter is offered, fetched if asked for, and refused as the file that it is.
    let output = run(&["-hf", "u/r", "--spec-type", "auto"]);
    assert_eq!(stdout(&output), expected);
    assert!(
        stderr(&output).contains("u/r has a drafter, eagle3-m.gguf; -hfd u/r uses it"),
        "{}",
        stderr(&output)
    );
    let output = run(&["-hf", "u/r", "-hfd", "u/r", "--spec-type", "auto"]);
    assert!(stderr(&output).contains("eagle3-m.gguf: is not a GGUF file"), "{}", stderr(&output));
    for (args, part) in [
        (
            &["-hf", "u/r:Q2_K"][..],
            "u/r: has no model Q2_K; there are m-Q8_0.gguf, eagle3-m.gguf; give another with --hf-file FILE",
        ),
        (&["-hf", "u/other"], "u/other: the hub does not have it; check the name"),
    ] {
        let output = run(args);
        let line = stderr(&output);
        assert!(output.status.code() == Some(1) && line.ends_with(&format!("{part}\n")), "{line}");
    }
    let mut bench = Command::new(env!("CARGO_BIN_EXE_dovetail-bench"));
    clean(&mut bench, home.path());
    bench.env_remove("DOVETAIL_SPEC_TYPE").env("HF_ENDPOINT", &hub.endpoint);
    let output = bench.args(["curve", "-hf", "u/r", "-t", "1", "-o", "json"]).output().unwrap();
    assert!(
        stdout(&output).starts_with('{') || stdout(&output).starts_with('['),
        "{}",
        stdout(&output)
    );
}

#[test]
fn the_hub_is_reached_through_a_proxy() {
    let model = tiny("q8_0").parts().bytes();
    let hub = Hub::new(&[("m-Q8_0.gguf", &model)]);
    let home = tempfile::tempdir().unwrap();
    let mut run = program(home.path());
    // Nobody has this host's address but the proxy; the server with files is reached directly.
    run.env("HF_ENDPOINT", "http://hub.invalid").env("http_proxy", &hub.endpoint);
    run.env("NO_PROXY", "127.0.0.1").args(["-hf", "u/r"]).args(ANSWER);
    let output = run.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(hub.listings()[0].headers["host"], "hub.invalid");
    assert_eq!(hub.fetched().len(), 1);
}

#[test]
fn ctrl_c_leaves_the_part_for_the_next_time() {
    use rustix::process::{Pid, Signal, kill_process};
    let model = tiny("q8_0").parts().bytes();
    let place = Place::new(&[("m-Q8_0.gguf", &model)]);
    place.hub.fail(&[Fault::Stall(1000)]);
    let run = || {
        let mut command = program(place.cache.path());
        command.env("HF_ENDPOINT", &place.hub.endpoint).env("HF_HUB_CACHE", place.cache.path());
        command.args(["-hf", "u/r"]).args(ANSWER).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut child = run();
    let part = place.incomplete(&model);
    let start = Instant::now();
    while fs::metadata(&part).map_or(0, |about| about.len()) < 1000 {
        assert!(start.elapsed() < Duration::from_secs(30), "nothing arrives");
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(fs::read(&part).unwrap(), model[..1000]);
    place.hub.fetched();
    let output = run().wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(ranges(&place), ["bytes=1000-"]);
}
