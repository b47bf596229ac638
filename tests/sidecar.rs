//! A sidecar gives the bits of the model it was packed from, and is never believed when it is not
//! whole or not this model's.

mod common;

use common::gguf::Parts;
use common::place::{Folder, logits, rewrite, time_of};
use common::tiny::{ALL, tensor, types};
use dovetail::gguf::Value;
use dovetail::model::{Repack, WeightStorage};
use dovetail::{Error, Model};
use std::fs;
use std::path::{Path, PathBuf};

fn tiny(name: &str) -> Parts {
    ALL.iter().find(|tiny| tiny.name == name).unwrap().parts()
}

/// Where the data of a small model's sidecar begin.
const DATA: usize = 4096;
/// Where a sidecar says since which start of the system it is known to be whole.
const BOOT: std::ops::Range<usize> = 8..48;

#[test]
fn packed_found_packed_and_not_packed_give_the_same_bits() {
    for tiny in ALL {
        let folder = Folder::new(&tiny.parts());
        let expected = logits(folder.load(Repack::Memory));
        let native = folder.load(Repack::Off);
        assert_eq!(native.packing().storage, WeightStorage::Native);
        assert!(logits(native) == expected, "{}: native rows", tiny.name);
        assert!(!folder.cache().exists(), "nobody asked for a file");
        for is_new in [true, false] {
            let (found, new, reason) = folder.load_sidecar();
            assert_eq!((new, &*reason), (is_new, ""), "{}", tiny.name);
            assert!(found == expected, "{}: from a sidecar, new: {new}", tiny.name);
        }
    }
}

#[test]
fn what_is_not_whole_is_packed_anew() {
    let folder = Folder::new(&tiny("mixed"));
    let (expected, ..) = folder.load_sidecar();
    let whole = fs::read(folder.sidecar()).unwrap();
    let len = whole.len();
    assert!(whole[DATA..][..64].iter().any(|byte| *byte != 0), "the data begin at {DATA}");

    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        bytes
    };
    let cut = [0, 1, 63, 64, DATA - 1, DATA, len / 2, len - 1].map(|n| whole[..n].to_vec());
    let flipped = |at: usize| with(&|bytes| bytes[at] ^= 0x10);
    let mut damaged: Vec<(Vec<u8>, &str)> = cut.map(|bytes| (bytes, "right size")).into();
    damaged.push((with(&|bytes| bytes.push(0)), "right size"));
    damaged.push((with(&|bytes| bytes[..DATA].fill(0)), "not finished"));
    damaged.push((flipped(0), "not finished"));
    damaged.push((flipped(48), "damaged header"));
    damaged.push((flipped(56), "damaged header"));
    // Versions, path, fingerprint and table.
    damaged.extend([64, 68, 72, 80, 150, 300].map(|at| (flipped(at), "another version")));
    damaged.extend([DATA, DATA + 777, len / 2].map(|at| (flipped(at), "the weights of `")));
    damaged.push((with(&|bytes| bytes[len - DATA..].fill(0)), "the weights of `"));
    for (bytes, part) in damaged {
        fs::write(folder.sidecar(), bytes).unwrap();
        let (found, new, reason) = folder.load_sidecar();
        assert!(new && reason.contains(part), "{reason:?} does not say {part:?}");
        assert!(found == expected, "{reason}");
        let (found, new, _) = folder.load_sidecar();
        assert!(!new && found == expected, "after {reason}");
    }
}

#[test]
fn no_byte_of_the_header_changes_unseen() {
    let folder = Folder::new(&tiny("q8_0"));
    folder.load_sidecar();
    let (path, whole) = (folder.sidecar(), fs::read(folder.sidecar()).unwrap());
    let time = time_of(&path);
    for at in (0..BOOT.start).chain(BOOT.end..DATA).step_by(13) {
        fs::write(&path, &whole).unwrap();
        rewrite(&path, Some(time), |bytes| bytes[at] ^= 1);
        let (_, new, reason) = folder.load_sidecar();
        assert!(new && !reason.is_empty(), "byte {at}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn weights_are_checked_once_after_each_start_of_the_system() {
    let folder = Folder::new(&tiny("q4_K"));
    let (expected, ..) = folder.load_sidecar();
    let (path, time) = (folder.sidecar(), time_of(&folder.sidecar()));
    let is_checked = || {
        let mut calls = 0;
        let mut options = folder.options(Repack::Cache);
        options.progress = Box::new(|_, _| {
            calls += 1;
            true
        });
        let model = Model::load(&folder.model(), options).unwrap();
        assert!(matches!(model.packing().storage, WeightStorage::Sidecar { new: false, .. }));
        assert!(logits(model) == expected);
        calls > 0
    };
    assert!(!is_checked(), "known to be whole");
    rewrite(&path, Some(time), |bytes| bytes[BOOT].fill(b'x'));
    assert_eq!([is_checked(), is_checked()], [true, false], "the system was started");
    rewrite(&path, None, |_| {});
    assert_eq!([is_checked(), is_checked()], [true, false], "the file was copied");
    assert_eq!(time_of(&path), time);

    // A crash: the time is right, the data are not.
    rewrite(&path, Some(time), |bytes| {
        bytes[BOOT].fill(b'x');
        bytes[DATA..].fill(0);
    });
    let (found, new, reason) = folder.load_sidecar();
    assert!(new && found == expected && reason.contains("the weights of `"), "{reason}");
}

#[test]
fn a_model_that_changed_replaces_its_sidecar() {
    let mut parts = tiny("f16");
    let folder = Folder::new(&parts);
    let (first, ..) = folder.load_sidecar();
    let (model, sidecar) = (folder.model(), folder.sidecar());
    let time = time_of(&model);
    let running = folder.load(Repack::Cache);

    // Other weights of the same length at the same time.
    for name in ["blk.0.attn_q.weight", "blk.1.ffn_down.weight"] {
        let weights = parts.tensor(name);
        let shape: Vec<usize> = weights.shape.iter().map(|n| *n as usize).collect();
        *weights = tensor(name, types::F16, &shape, &vec![0.02; shape.iter().product()]);
    }
    rewrite(&model, Some(time), |bytes| *bytes = parts.bytes());
    let (second, new, reason) = folder.load_sidecar();
    assert!(new && reason.contains("another version of the model"), "{reason}");
    assert_eq!(folder.sidecar(), sidecar, "in its place");
    assert!(second != first && second == logits(folder.load(Repack::Memory)));
    assert!(logits(running) == first, "who runs the old one goes on");

    // The same bytes at another time may be others where nothing looked.
    rewrite(&model, None, |_| {});
    assert!(folder.load_sidecar().1);
    // Another vocabulary and the same weights.
    parts.set("general.name", Some(Value::String("other".into())));
    rewrite(&model, Some(time), |bytes| *bytes = parts.bytes());
    assert!(folder.load_sidecar().1);
}

#[test]
fn another_path_has_a_sidecar_of_its_own() {
    let folder = Folder::new(&tiny("f32"));
    folder.load_sidecar();
    let copy = folder.model().with_file_name("copy.gguf");
    fs::copy(folder.model(), &copy).unwrap();
    let loaded = Model::load(&copy, folder.options(Repack::Cache)).unwrap();
    assert!(matches!(loaded.packing().storage, WeightStorage::Sidecar { new: true, .. }));
    assert_eq!(folder.files().len(), 2);
    #[cfg(unix)]
    {
        let link = folder.model().with_file_name("link.gguf");
        std::os::unix::fs::symlink(&copy, &link).unwrap();
        let linked = Model::load(&link, folder.options(Repack::Cache)).unwrap();
        assert_eq!(
            linked.packing().storage,
            match &loaded.packing().storage {
                WeightStorage::Sidecar { path, .. } =>
                    WeightStorage::Sidecar { path: path.clone(), new: false },
                other => panic!("{other:?}"),
            }
        );
    }
    // The first one is packed again when the model has changed, and finds the copy gone.
    fs::remove_file(&copy).unwrap();
    rewrite(&folder.model(), None, |_| {});
    assert!(folder.load_sidecar().1, "and it is alone");
}

#[test]
fn nothing_is_left_of_what_was_not_finished() {
    let folder = Folder::new(&tiny("q5"));
    let dead = folder.cache().join("packed/model-0.packed.1-0.part");
    fs::create_dir_all(dead.parent().unwrap()).unwrap();
    fs::write(&dead, "half").unwrap();
    for calls in 0..3 {
        let mut left = calls;
        let mut options = folder.options(Repack::Cache);
        options.progress = Box::new(move |_, _| {
            left -= 1;
            left >= 0
        });
        let Err(error) = Model::load(&folder.model(), options) else { panic!("not cancelled") };
        assert!(matches!(&error, Error::Cancelled("loading")), "{error}");
        assert_eq!(folder.files(), [] as [PathBuf; 0]);
    }
    assert!(folder.load_sidecar().1);
}

#[test]
fn programs_that_pack_at_once_do_not_meet() {
    let folder = Folder::new(&tiny("q4_1"));
    let expected = logits(folder.load(Repack::Memory));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(logits(folder.load(Repack::Cache)) == expected));
        }
    });
    let (found, new, _) = folder.load_sidecar();
    assert!(!new && found == expected);
}

#[test]
#[cfg(unix)]
fn who_may_read_the_model_may_read_the_sidecar() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for (model, sidecar) in [(0o600, 0o600), (0o644, 0o644), (0o440, 0o640)] {
        let folder = Folder::new(&tiny("f32"));
        fs::set_permissions(folder.model(), PermissionsExt::from_mode(model)).unwrap();
        folder.load_sidecar();
        assert_eq!(mode(&folder.sidecar()), sidecar, "{model:o}");
    }
}
