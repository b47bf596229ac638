//! Whether the files of a model are still the same, told without reading them whole.
//!
//! What was derived from a file of gigabytes must be found again in milliseconds. So a number is made
//! of what changes with a file: its length, the time of its last change, the bytes before the data
//! (keys and the table of tensors), and samples of the data in case somebody set the time back. The
//! path is no part of it.

use super::file::FileBytes;
use std::hash::Hasher;
use std::time::SystemTime;
use twox_hash::XxHash3_64;

/// Samples of each file's data, evenly spread, and the bytes of one.
const SAMPLES: usize = 32;
const SAMPLE_BYTES: usize = 4096;

/// The fingerprint of some files, with the times of their last change or without; each with the place where its data
/// begin, if it has data.
pub(super) fn of<'a>(
    files: impl Iterator<Item = (&'a FileBytes, Option<usize>)>,
    times: bool,
) -> u64 {
    let mut hash = XxHash3_64::new();
    for (file, data) in files {
        let bytes = file.bytes();
        let data = data.unwrap_or(bytes.len());
        hash.write_u64(bytes.len() as u64);
        if times {
            hash.write_u128(nanoseconds(file.modified()));
        }
        hash.write(&bytes[..data]);
        let step = ((bytes.len() - data) / SAMPLES).max(SAMPLE_BYTES);
        for at in (data..bytes.len()).step_by(step) {
            let len = SAMPLE_BYTES.min(bytes.len() - at);
            hash.write(&bytes[at..][..len]);
            // With each sample the system has mapped megabytes around it.
            file.release(at, len);
        }
    }
    hash.finish()
}

/// Since 1970; 0 before it, or where the system does not tell.
fn nanoseconds(time: Option<SystemTime>) -> u128 {
    let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos())
}

#[cfg(test)]
mod tests {
    use crate::gguf::{Gguf, Value, writer};
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    #[test]
    fn every_change_shows_and_the_path_does_not() {
        const DATA: usize = 1 << 20;
        let folder = tempfile::tempdir().unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let of = |name: &str, bytes: &[u8], time: SystemTime| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            let gguf = Gguf::open(&path).unwrap();
            (gguf.fingerprint(), gguf.content_fingerprint())
        };
        let with = |value| {
            let tensors: [writer::TensorEntry<'_>; 1] = [("w", &[DATA as u64], 24, 0)];
            writer::file(&[("key", Value::U32(value))], &tensors, DATA)
        };
        let bytes = with(1);
        let first = of("a.gguf", &bytes, time);
        assert_eq!(of("b.gguf", &bytes, time), first, "another path");
        let later = of("a.gguf", &bytes, time + Duration::from_nanos(1000));
        assert!(later.0 != first.0 && later.1 == first.1, "another time");
        let differs = |other: (u64, u64)| other.0 != first.0 && other.1 != first.1;
        assert!(differs(of("a.gguf", &with(2), time)), "another key");
        assert!(differs(of("a.gguf", &[&bytes[..], &[0]].concat(), time)), "another length");
        // All weights are new and the time was set back.
        let (head, data) = bytes.split_at(bytes.len() - DATA);
        let other: Vec<u8> = data.iter().map(|byte| byte ^ 1).collect();
        assert!(differs(of("a.gguf", &[head, &other].concat(), time)), "other data");
        assert_eq!(of("a.gguf", &bytes, time), first, "the same again");
    }
}
