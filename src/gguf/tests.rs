//! The format end to end: good files, every known bad one, and damage at random.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn sample() -> Vec<u8> {
    let keys = [
        ("general.architecture", Value::String("llama".into())),
        ("general.alignment", Value::U32(32)),
        ("a.u8", Value::U8(1)),
        ("a.i16", Value::I16(-2)),
        ("a.f64", Value::F64(0.25)),
        ("a.bool", Value::Bool(true)),
        ("list", Value::Array(Array::String(vec!["x".into(), "yz".into()]))),
        ("scores", Value::Array(Array::F32(vec![0.5; 40]))),
        ("deep", Value::Array(Array::Array(vec![Array::U8(vec![1, 2]), Array::I64(vec![])]))),
    ];
    let tensors: [writer::TensorEntry<'_>; 3] =
        [("w", &[32, 2], 3, 0), ("norm", &[8], 0, 64), ("one", &[], 28, 96)];
    writer::file(&keys, &tensors, 104)
}

#[test]
fn a_file_is_read_back() {
    let gguf = Gguf::from_bytes(sample()).unwrap();
    let meta = gguf.metadata();
    assert_eq!(meta.get_str("general.architecture").unwrap(), Some("llama"));
    assert_eq!(meta.get_u32("a.u8").unwrap(), Some(1));
    assert_eq!(meta.get_str_array("list").unwrap().unwrap(), ["x", "yz"]);
    assert_eq!(meta.get_f32_array("scores").unwrap().unwrap().len(), 40);
    assert_eq!(meta.iter().count(), 9);
    let w = gguf.require_tensor("w").unwrap();
    assert_eq!((w.shape(), w.type_name(), w.bytes().len()), (&[32, 2][..], "q4_1", 40));
    assert_eq!(w.bytes()[..3], [0, 1, 2]);
    assert_eq!(gguf.tensor("norm").unwrap().bytes()[0], 64);
    assert_eq!(gguf.tensors().len(), 3);
    assert_eq!(gguf.total_bytes(), 40 + 32 + 8);
    assert!(gguf.tensor("v").is_none());
    let error = gguf.require_tensor("v").unwrap_err().to_string();
    assert!(error.contains("`v` is missing"), "{error}");
    gguf.release(&w, 0..40);
    assert_eq!(w.bytes()[..3], [0, 1, 2]);
    let shared = gguf.share(&w);
    drop(gguf);
    assert_eq!((shared.len(), &shared[..3]), (40, &[0, 1, 2][..]));
}

#[test]
fn strings_that_are_no_text_keep_their_bytes() {
    let bytes = vec![b"\xe4\xb8".to_vec(), b"x".to_vec(), b"\xff".to_vec()];
    let keys = [
        ("bytes", Value::Array(Array::Bytes(bytes.clone()))),
        ("texts", Value::Array(Array::String(vec!["x".into()]))),
        ("numbers", Value::Array(Array::U8(vec![1]))),
    ];
    let gguf = Gguf::from_bytes(writer::file(&keys, &[], 0)).unwrap();
    let meta = gguf.metadata();
    assert_eq!(meta.get("bytes"), Some(&keys[0].1));
    assert_eq!(meta.require_byte_strings("bytes").unwrap(), bytes);
    assert_eq!(meta.require_byte_strings("texts").unwrap(), [b"x"]);
    let error = meta.get_str_array("bytes").unwrap_err().to_string();
    assert!(error.contains("`bytes`") && error.contains("not UTF-8"), "{error}");
    assert!(meta.get_byte_strings("numbers").is_err() && meta.require_byte_strings("no").is_err());
}

#[test]
fn bad_files_are_refused_by_name() {
    let nested = (0..6).fold(Array::U8(vec![]), |inner, _| Array::Array(vec![inner]));
    let meta = |key, value| writer::file(&[(key, value)], &[], 0);
    let tensors = |entries: &[writer::TensorEntry<'_>]| writer::file(&[], entries, 64);
    let mut bad_key = writer::header(3, 0, 1);
    bad_key.extend([1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 0]);
    let mut unknown_type = writer::header(3, 0, 1);
    writer::string(&mut unknown_type, "k");
    unknown_type.extend([13, 0, 0, 0, 0]);
    let twice = [("k", Value::U8(1)), ("k", Value::U8(1))];
    for (bytes, part) in [
        (vec![], "empty"),
        (b"GG".to_vec(), "too short"),
        (b"PK\x03\x04 and so on".to_vec(), "not a GGUF"),
        (b"ggjt and so on".to_vec(), "old GGML"),
        (writer::header(1, 0, 0), "version 1"),
        (writer::header(3 << 24, 0, 0), "big-endian"),
        (b"FUGG and so on".to_vec(), "big-endian"),
        (writer::header(4, 0, 0), "version 4"),
        (writer::header(3, u64::MAX, 0), "claims 18446744073709551615 tensors"),
        (writer::header(3, 0, u64::MAX), "keys"),
        (bad_key, "not UTF-8"),
        (unknown_type, "`k`: has the unknown value type 13"),
        (writer::file(&twice, &[], 0), "`k` occurs twice"),
        (meta("k", Value::Array(nested)), "deep"),
        (meta("general.alignment", Value::U32(0)), "general.alignment"),
        (meta("general.alignment", Value::U32(48)), "general.alignment"),
        (meta("general.alignment", Value::String("x".into())), "general.alignment"),
        (meta("split.count", Value::U16(2)), "split.no"),
        (meta("split.count", Value::U32(u32::MAX)), "4294967295 files"),
        (tensors(&[("t", &[1, 1, 1, 1, 1], 24, 0)]), "5 dimensions"),
        (tensors(&[("t", &[0], 24, 0)]), "empty shape"),
        (tensors(&[("t", &[1 << 33, 1 << 33], 24, 0)]), "too large"),
        (tensors(&[("t", &[31], 2, 0)]), "multiple of q4_0's 32"),
        (tensors(&[("t", &[8], 77, 0)]), "element type 77"),
        (tensors(&[("t", &[65], 24, 0)]), "incomplete"),
        (tensors(&[("t", &[8], 24, u64::MAX - 31)]), "incomplete"),
        (tensors(&[("t", &[8], 24, 8)]), "not a multiple"),
        (tensors(&[("t", &[33], 24, 0), ("u", &[8], 24, 32)]), "`u` overlaps `t`"),
        (tensors(&[("t", &[8], 24, 0), ("t", &[8], 24, 32)]), "`t` occurs twice"),
    ] {
        let error = Gguf::from_bytes(bytes).expect_err(part).to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{part}: {error}");
    }
}

#[test]
fn every_truncation_is_refused() {
    let whole = sample();
    for len in 0..whole.len() {
        assert!(Gguf::from_bytes(&whole[..len]).is_err(), "{len} bytes of {}", whole.len());
    }
}

proptest! {
    #[test]
    fn damage_never_panics(flips in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
        let mut bytes = sample();
        for (at, byte) in flips {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(gguf) = Gguf::from_bytes(bytes) {
            gguf.tensors().for_each(|tensor| drop(tensor.bytes().to_vec()));
        }
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = writer::header(3, 2, 2);
        bytes.extend(noise);
        let _ = Gguf::from_bytes(bytes);
    }
}

/// The default model, or `None`, said aloud.
pub(crate) fn real_model() -> Option<PathBuf> {
    let named = std::env::var_os("DOVETAIL_TEST_MODEL").map(PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let default = cache.map(|dir| dir.join("dovetail/SmolLM2-135M-Instruct.Q4_1.gguf"));
    let path = named.or(default)?;
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is absent; set DOVETAIL_TEST_MODEL", path.display());
    None
}

#[test]
fn the_real_model_opens_mapped_and_read() {
    let Some(path) = real_model() else { return };
    let mapped = Gguf::open(&path).unwrap();
    let read = Gguf::open_with(&path, OpenOptions { no_mmap: true, mlock: false }).unwrap();
    assert_eq!(mapped.metadata().require_u32("llama.block_count").unwrap(), 30);
    assert_eq!(mapped.tensors().len(), 272);
    for (a, b) in mapped.tensors().zip(read.tensors()) {
        mapped.will_need(&a);
        assert_eq!(a.info(), b.info());
        assert_eq!(a.bytes().as_ptr() as usize % 8, 0);
        mapped.release(&a, 0..a.bytes().len());
        read.release(&b, 0..b.bytes().len());
        assert!(a.bytes() == b.bytes(), "{}", a.name());
    }
}

#[test]
fn the_real_header_survives_damage() {
    let Some(path) = real_model() else { return };
    // The vocabulary makes up the header: the tensor directory begins before 2 MiB.
    let whole = std::fs::read(&path).unwrap();
    let header = &whole[..2 << 20];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(48));
    let damage = (0..header.len(), prop::collection::vec((0..1usize << 16, any::<u8>()), 0..6));
    runner
        .run(&damage, |(len, flips)| {
            let mut bytes = header.to_vec();
            for (at, byte) in flips {
                bytes[at] = byte;
            }
            bytes.truncate(len);
            prop_assert!(Gguf::from_bytes(bytes).is_err());
            Ok(())
        })
        .unwrap();
}

#[test]
fn files_that_are_no_models_are_named() {
    let dir = std::env::temp_dir();
    let error = Gguf::open(&dir).unwrap_err().to_string();
    assert!(error.contains("is a directory"), "{error}");
    let error = Gguf::open(dir.join("dovetail no such file.gguf")).unwrap_err().to_string();
    assert!(error.contains("no such file"), "{error}");
}

#[test]
fn split_models_are_opened_from_any_part() {
    let dir = std::env::temp_dir().join(format!("dovetail-split-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let name = |part: usize| dir.join(format!("m-{part:05}-of-00002.gguf"));
    let keys = |part| {
        vec![
            ("split.count", Value::U16(2)),
            ("split.no", Value::U16(part)),
            ("split.tensors.count", Value::I32(2)),
        ]
    };
    std::fs::write(name(1), writer::file(&keys(0), &[("a", &[8], 24, 0)], 8)).unwrap();
    let error = Gguf::open(name(1)).unwrap_err().to_string();
    assert!(error.contains("m-00002-of-00002.gguf") && error.contains("missing"), "{error}");

    std::fs::write(name(2), writer::file(&keys(1), &[("b", &[4], 24, 32)], 64)).unwrap();
    for part in [1, 2] {
        let gguf = Gguf::open(name(part)).unwrap();
        assert_eq!(gguf.path(), name(1));
        assert_eq!(gguf.tensor("a").unwrap().bytes().len(), 8);
        assert_eq!(gguf.tensor("b").unwrap().bytes(), [32, 33, 34, 35]);
    }

    std::fs::write(name(2), writer::file(&keys(0), &[("b", &[4], 24, 32)], 64)).unwrap();
    assert!(Gguf::open(name(1)).unwrap_err().to_string().contains("not part 2 of 2"));
    std::fs::write(name(2), writer::file(&keys(1), &[("a", &[4], 24, 32)], 64)).unwrap();
    assert!(Gguf::open(name(1)).unwrap_err().to_string().contains("`a` occurs twice"));
    std::fs::write(name(2), writer::file(&keys(1), &[], 64)).unwrap();
    assert!(Gguf::open(name(1)).unwrap_err().to_string().contains("1 tensors"));
    std::fs::remove_dir_all(&dir).unwrap();
}
