//! Packed weights in a file of the cache directory, found again at the next start and mapped.
//!
//! ```text
//!  0  magic       8 bytes
//!  8  boot        40 bytes: the start of the system since which the data are known to be whole
//! 48  checksum    u64: of all that follows, up to the data
//! 56  time        u64, seconds since 1970: the file says that it was last changed then
//! 64  identity    format and layout version, the model's path, its fingerprint, the table of matrices
//!     checksums   u64 each matrix
//!     data        from a multiple of 4096 on, and of the system's pages, as `plan.rs` places them
//! ```
//!
//! Only the data are mapped: the header may be written anew while programs read the data.
//!
//! Numbers are little-endian. The identity is not parsed: it is compared with the one that this
//! program would write for this model, so that no offset or length in the file is ever believed.
//!
//! # When the data are believed
//! A file gets its header last and its name after that, so what a killed program leaves behind is
//! never taken for whole. Data that reached the disk in part can only be found after a crash of the
//! system, and damage from outside changes the time of the last change. So the checksums of the data
//! are compared when boot or time are not those of the header: once after each start of the system,
//! when the data have to be read from the disk anyway, or after the file was copied or touched. A warm
//! start reads the header alone, and nothing has to be forced to the disk while somebody waits.
//!
//! The file is named after the model's path: a model that has changed replaces its old sidecar. A
//! program that still maps the old one keeps it until it ends.

use super::plan::{Failure, PAGE, Plan, Run};
use crate::gguf::{FileBytes, Gguf};
use crate::temp_file::{self, Access, TempFile};
use crate::{file, machine};
use dovetail_kernels::cpu::LAYOUT_VERSION;
use rayon::prelude::*;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use twox_hash::XxHash3_64;

const MAGIC: &[u8; 8] = b"DOVEPACK";
/// The version of everything but the packed bits, whose own is [`LAYOUT_VERSION`].
const FORMAT_VERSION: u32 = 1;

/// Places in the header that no version moves.
const BOOT_AT: usize = 8;
const BOOT_LEN: usize = 40;
const CHECKSUM_AT: usize = 48;
const TIME_AT: usize = 56;
const IDENTITY_AT: usize = 64;
/// In the identity, behind the two versions: the length of the model's path, and the path.
const SOURCE_AT: usize = IDENTITY_AT + 8;

/// The ending of a sidecar's name.
const ENDING: &str = "packed";

/// The sidecar of one model: there, or not there yet.
pub(super) struct Sidecar<'a> {
    plan: &'a Plan,
    pool: &'a rayon::ThreadPool,
    path: PathBuf,
    identity: Vec<u8>,
}

impl<'a> Sidecar<'a> {
    /// The sidecar in `folder` of `gguf`, whose matrices are those of `plan`.
    pub(super) fn new(
        folder: &Path,
        gguf: &Gguf,
        plan: &'a Plan,
        pool: &'a rayon::ThreadPool,
    ) -> Sidecar<'a> {
        let source = fs::canonicalize(gguf.path()).unwrap_or_else(|_| gguf.path().to_owned());
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        // File names may have 255 bytes.
        let stem: String = stem.chars().take(50).collect();
        let hash = XxHash3_64::oneshot(source.as_os_str().as_encoded_bytes());
        let name = format!("{stem}-{hash:016x}.{ENDING}");
        let identity = identity(&source, gguf.fingerprint(), plan);
        Sidecar { plan, pool, path: folder.join(name), identity }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the data begin: they share no page of the system with the header.
    fn data_at(&self) -> usize {
        let header = IDENTITY_AT + self.identity.len() + 8 * self.plan.matrices().len();
        header.next_multiple_of(PAGE.max(machine::page_bytes()))
    }

    /// Bytes of the whole file.
    pub(super) fn len(&self) -> usize {
        self.data_at() + self.plan.len()
    }

    /// Maps the data, if the file is there and whole.
    pub(super) fn open(
        &self,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<FileBytes, Failure> {
        let refused = |what: &str| Failure::Refused(format!("{}: {what}", self.path.display()));
        let failed = |error: io::Error| refused(&error.to_string());
        let mut file = self.open_file().map_err(failed)?;
        let info = file.metadata().map_err(failed)?;
        let mut header = vec![0; self.data_at()];
        if file.read_exact(&mut header).is_err() || info.len() != self.len() as u64 {
            return Err(refused("is not of the right size"));
        }
        if header[..MAGIC.len()] != *MAGIC {
            return Err(refused("was not finished"));
        }
        let (identity, checksums) = header[IDENTITY_AT..].split_at(self.identity.len());
        if *identity != *self.identity {
            return Err(refused("is for another version of the model or of this program"));
        }
        if header[CHECKSUM_AT..TIME_AT] != checksum(&header).to_le_bytes() {
            return Err(refused("has a damaged header"));
        }
        let bytes = self.map(&file).map_err(failed)?;
        let (boot, time) = (boot(), time(&header));
        let untouched = boot.is_some_and(|boot| header[BOOT_AT..CHECKSUM_AT] == boot)
            && info.modified().is_ok_and(|modified| modified == time);
        if !untouched {
            let mut done = 0;
            for (matrix, checksum) in self.plan.matrices().iter().zip(checksums.as_chunks().0) {
                let data = &bytes.bytes()[matrix.at..][..matrix.rows.packed_len()];
                let found = self.pool.install(|| sum(matrix.rows.packed_group_len(), 0, data));
                if found.to_le_bytes() != *checksum {
                    return Err(refused(&format!("the weights of `{}` are damaged", matrix.place)));
                }
                done += data.len();
                if !progress(done as u64, self.plan.len() as u64) {
                    return Err(Failure::Cancelled);
                }
            }
            // Where that may not be written, the next start checks again.
            let _ = stamp(&mut file, time);
        }
        Ok(bytes)
    }

    /// The file, which can be written where that is allowed.
    fn open_file(&self) -> io::Result<File> {
        let read = || File::options().read(true).clone();
        file::open_with(&self.path, read().write(true)).or_else(|_| file::open(&self.path))
    }

    /// The data of the file.
    fn map(&self, file: &File) -> io::Result<FileBytes> {
        FileBytes::map(file, self.data_at() as u64)
    }

    /// Packs the model into the file, for which there must be room and `spare_bytes` more, and maps it.
    pub(super) fn create(
        &self,
        gguf: &Gguf,
        spare_bytes: u64,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<FileBytes, Failure> {
        let folder = self.path.parent().expect("the path was joined to a folder");
        let failed = |error: io::Error| Failure::Refused(format!("{}: {error}", folder.display()));
        fs::create_dir_all(folder).map_err(failed)?;
        tidy(folder);
        let needed = self.len() as u64 + spare_bytes;
        let mut free = machine::free_disk(folder);
        if free.is_some_and(|free| free < needed) {
            // What could not be used is replaced in the end, but may be in the way until then.
            let _ = fs::remove_file(&self.path);
            free = machine::free_disk(folder);
        }
        if let Some(free) = free.filter(|free| *free < needed) {
            let [needed, free] = [needed, free].map(|bytes| bytes as f64 / 1e9);
            let folder = folder.display();
            let what = format!("{folder}: {free:.1} GB are free and {needed:.1} GB needed");
            return Err(Failure::Refused(what));
        }
        // Who may read the model may read what was made of it.
        let mut new = TempFile::new(&self.path, Access::Like(gguf.path())).map_err(failed)?;
        new.reserve(self.len() as u64).map_err(failed)?;
        let checksums = self.write_data(gguf, new.file(), progress)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let header = self.header(&checksums, now.map_or(0, |now| now.as_secs()));
        new.file().seek(SeekFrom::Start(0)).map_err(failed)?;
        new.file().write_all(&header).map_err(failed)?;
        new.file().set_modified(time(&header)).map_err(failed)?;
        let bytes = self.map(new.file()).map_err(failed)?;
        new.publish().map_err(failed)?;
        Ok(bytes)
    }

    /// Packs one run while the one before is being written. Returns the checksums.
    fn write_data(
        &self,
        gguf: &Gguf,
        file: &mut File,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Vec<u64>, Failure> {
        let failed =
            |error: io::Error| Failure::Refused(format!("{}: {error}", self.path.display()));
        let mut checksums = vec![0u64; self.plan.matrices().len()];
        let (mut whole, mut next) = (vec![0; self.data_at()], Vec::new());
        self.plan.pack(gguf, progress, |run: &Run| {
            next.resize(run.padded, 0);
            let (packed, padding) = next.split_at_mut(run.len);
            padding.fill(0);
            let (written, checksum) = self.pool.install(|| {
                rayon::join(
                    || write(file, &whole),
                    || {
                        run.rows.pack(run.first, packed);
                        sum(run.rows.packed_group_len(), run.first, packed)
                    },
                )
            });
            checksums[run.matrix] = checksums[run.matrix].wrapping_add(checksum);
            std::mem::swap(&mut whole, &mut next);
            written.map_err(failed)
        })?;
        write(file, &whole).map_err(failed)?;
        Ok(checksums)
    }

    /// The first bytes of a file with these data, written now.
    fn header(&self, checksums: &[u64], seconds: u64) -> Vec<u8> {
        let mut header = vec![0; IDENTITY_AT];
        header[..BOOT_AT].copy_from_slice(MAGIC);
        header[BOOT_AT..CHECKSUM_AT].copy_from_slice(&boot().unwrap_or([0; BOOT_LEN]));
        header[TIME_AT..IDENTITY_AT].copy_from_slice(&seconds.to_le_bytes());
        header.extend(&self.identity);
        header.extend(checksums.iter().flat_map(|checksum| checksum.to_le_bytes()));
        header.resize(self.data_at(), 0);
        let checksum = checksum(&header);
        header[CHECKSUM_AT..TIME_AT].copy_from_slice(&checksum.to_le_bytes());
        header
    }
}

/// Writes in pieces for which the system has pages at hand: it keeps what is written at once in one
/// piece of memory, and looking for megabytes in a row takes several times as long as copying them.
fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    const PIECE_BYTES: usize = 64 << 10;
    bytes.chunks(PIECE_BYTES).try_for_each(|piece| file.write_all(piece))
}

/// What the file of a plan must say of itself.
fn identity(source: &Path, fingerprint: u64, plan: &Plan) -> Vec<u8> {
    let mut out = Vec::new();
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    out.extend(FORMAT_VERSION.to_le_bytes());
    out.extend(LAYOUT_VERSION.to_le_bytes());
    text(&mut out, source.to_str().unwrap_or_default());
    out.extend(fingerprint.to_le_bytes());
    for matrix in plan.matrices() {
        let rows = &matrix.rows;
        text(&mut out, &matrix.place.to_string());
        out.extend(rows.type_id().to_le_bytes());
        for number in [rows.n_rows(), rows.n_cols(), matrix.at, rows.packed_len()] {
            out.extend((number as u64).to_le_bytes());
        }
    }
    out
}

/// Notes that the data of this file are known to be whole.
fn stamp(file: &mut File, time: SystemTime) -> io::Result<()> {
    let Some(boot) = boot() else { return Ok(()) };
    file.seek(SeekFrom::Start(BOOT_AT as u64))?;
    file.write_all(&boot)?;
    file.set_modified(time)
}

/// Removes what killed programs left behind, and sidecars of models that are gone from their folders.
fn tidy(folder: &Path) {
    temp_file::remove_leftovers(folder, |_| true);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_sidecar = path.extension().is_some_and(|ending| ending == ENDING);
        if is_sidecar && source_of(&path).is_some_and(|model| is_gone(&model)) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Whether a file was there and is no more: not merely on a disk that is not mounted.
fn is_gone(file: &Path) -> bool {
    file.try_exists().is_ok_and(|exists| !exists) && file.parent().is_some_and(Path::is_dir)
}

/// The path of the model that a sidecar was packed from, if `path` is a sidecar that says so.
fn source_of(path: &Path) -> Option<PathBuf> {
    let mut start = Vec::new();
    file::open(path).ok()?.take(SOURCE_AT as u64 + 4096).read_to_end(&mut start).ok()?;
    start.strip_prefix(MAGIC)?;
    let (len, source) = start.get(SOURCE_AT..)?.split_first_chunk()?;
    let source = source.get(..u32::from_le_bytes(*len) as usize)?;
    std::str::from_utf8(source).ok().filter(|source| !source.is_empty()).map(PathBuf::from)
}

/// Of a header: all but its changeable beginning.
fn checksum(header: &[u8]) -> u64 {
    XxHash3_64::oneshot(&header[TIME_AT..])
}

/// The sum of the checksums of all groups, of which `first` is the number of the first: parts of a
/// matrix can be added up.
fn sum(group_len: usize, first: usize, groups: &[u8]) -> u64 {
    let groups = groups.par_chunks(group_len).enumerate();
    let each = groups.map(|(i, group)| XxHash3_64::oneshot_with_seed((first + i) as u64, group));
    each.reduce(|| 0, u64::wrapping_add)
}

/// When the file says that it was written.
fn time(header: &[u8]) -> SystemTime {
    let seconds = header[TIME_AT..].first_chunk().expect("a header has a time");
    // As many seconds as can be added: the number may be anything.
    let seconds = u64::from_le_bytes(*seconds).min(u64::from(u32::MAX) << 2);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The start of the system as it stands in the header.
fn boot() -> Option<[u8; BOOT_LEN]> {
    let id = machine::boot_id()?;
    let mut out = [0; BOOT_LEN];
    out.get_mut(..id.len())?.copy_from_slice(id.as_bytes());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::writer;
    use crate::model::weights::{Matrix, MatrixPlace};
    use dovetail_kernels::cpu::GgufMatrix;
    use tempfile::TempDir;

    /// A model of one matrix, in a folder of its own.
    struct Small {
        folder: TempDir,
        gguf: Gguf,
        plan: Plan,
        pool: rayon::ThreadPool,
    }

    impl Small {
        fn new() -> Small {
            let folder = tempfile::tempdir().unwrap();
            let model = folder.path().join("model.gguf");
            std::fs::write(&model, writer::file(&[], &[("w", &[32, 16], 0, 0)], 2048)).unwrap();
            let gguf = Gguf::open(&model).unwrap();
            let tensor = gguf.require_tensor("w").unwrap();
            let ty = dovetail_kernels::quant::type_info(0).unwrap();
            let rows = GgufMatrix::new(ty, 16, 32, gguf.share(&tensor)).unwrap();
            let plan = Plan::new(vec![Matrix {
                place: MatrixPlace { tensor: "w".into(), first: 0 },
                rows,
            }]);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            Small { folder, gguf, plan, pool }
        }

        fn cache(&self) -> PathBuf {
            self.folder.path().join("cache")
        }

        fn sidecar(&self) -> Sidecar<'_> {
            Sidecar::new(&self.cache(), &self.gguf, &self.plan, &self.pool)
        }
    }

    #[test]
    fn a_full_disk_is_told_before_anything_is_written() {
        let small = Small::new();
        let sidecar = small.sidecar();
        let create = |spare_bytes| sidecar.create(&small.gguf, spare_bytes, &mut |_, _| true);
        if machine::free_disk(small.folder.path()).is_some() {
            let Err(Failure::Refused(why)) = create(1 << 60) else { panic!("there was room") };
            assert!(why.contains("GB are free") && why.contains("cache"), "{why}");
            assert_eq!(fs::read_dir(small.cache()).unwrap().count(), 0);
        }
        let bytes = create(0).unwrap();
        let model = fs::canonicalize(small.gguf.path()).unwrap();
        assert_eq!(source_of(sidecar.path()), Some(model));
        assert!(bytes.bytes() == sidecar.open(&mut |_, _| false).unwrap().bytes());
    }

    #[test]
    fn the_header_is_never_mapped() {
        let small = Small::new();
        let sidecar = small.sidecar();
        let new = sidecar.create(&small.gguf, 0, &mut |_, _| true).unwrap();
        let found = sidecar.open(&mut |_, _| true).unwrap();
        for bytes in [new, found] {
            assert_eq!(bytes.bytes().len(), small.plan.len());
        }
        assert_eq!(sidecar.data_at() % machine::page_bytes(), 0);
    }

    /// Another file may take the name while the data of the one that was opened are looked at.
    #[test]
    fn what_was_looked_at_is_what_is_stamped() {
        let small = Small::new();
        let sidecar = small.sidecar();
        sidecar.create(&small.gguf, 0, &mut |_, _| true).unwrap();
        let Some(now) = boot() else { return };
        let mut stale = fs::read(sidecar.path()).unwrap();
        stale[BOOT_AT..CHECKSUM_AT].fill(b'x');
        fs::write(sidecar.path(), &stale).unwrap();
        let [looked_at, other] = ["looked at", "other"].map(|name| small.cache().join(name));
        fs::hard_link(sidecar.path(), &looked_at).unwrap();
        let mut take_name = |_, _| {
            fs::write(&other, &stale).unwrap();
            fs::rename(&other, sidecar.path()).unwrap();
            true
        };
        sidecar.open(&mut take_name).unwrap();
        let boot_of = |path: &Path| fs::read(path).unwrap()[BOOT_AT..CHECKSUM_AT].to_vec();
        assert_eq!(boot_of(&looked_at), now);
        assert_eq!(boot_of(sidecar.path()), [b'x'; BOOT_LEN]);
    }

    #[test]
    fn tidying_removes_what_the_dead_left_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let alive = TempFile::new(&place("alive.packed"), Access::Usual).unwrap();
        fs::write(place("dead.packed.1-0.part"), "half").unwrap();
        fs::write(place("other.packed"), "no sidecar").unwrap();
        fs::write(place("note.txt"), "somebody's").unwrap();
        #[cfg(unix)]
        file::tests::make_pipe(&place("pipe.packed"));
        tidy(folder.path());
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut left: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert!(left[0].starts_with("alive.packed."), "{left:?}");
        let expected = ["note.txt", "other.packed", "pipe.packed"];
        assert_eq!(left[1..], expected[..expected.len() - usize::from(!cfg!(unix))]);
        drop(alive);
    }
}
