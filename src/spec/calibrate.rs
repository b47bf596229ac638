//! What passes of a target and a drafter cost on this machine, measured once and kept.
//!
//! The target's passes are timed over many numbers of rows behind a short context, and over a few behind a long
//! one; a drafter's over trees of one level and of three. Times are those of made-up tokens: no pass depends on
//! which they are.

use super::json::{of_confidences, of_draft, of_verify, to_confidences, to_draft, to_verify};
use super::measure::{curve, median};
use super::store::Store;
use crate::draft::{Drafter, Guesser};
use crate::error::Result;
use crate::machine;
use crate::model::{Model, Place};
use crate::target::{CacheTypes, KvCache, Sequence, Target};
use crate::tree::confidence::ByTemperature;
use crate::tree::cost::{Costs, Curve, DraftCost, Table, VerifyCost};
use crate::tree::plan::{LARGEST, MAX_BATCH};
use crate::tree::{Growth, MAX_NODES, Tree};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Numbers of rows that a pass is timed over; where one row takes longer than [`SLOW`], half of them.
const ROWS: [usize; 22] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 56, 64];
const SLOW: Duration = Duration::from_millis(50);
/// Numbers of rows that a pass behind a long context is timed over.
const FEW_ROWS: [usize; 3] = [1, 4, 16];
/// The short context and the long one, if there is room for it.
const CONTEXTS: [usize; 2] = [64, 2048];
/// How long it takes to time all rows, passes behind a long context, and a drafter.
const BUDGETS: [Duration; 3] =
    [Duration::from_millis(2000), Duration::from_millis(700), Duration::from_millis(800)];
/// Widths of a drafter's levels.
const WIDTHS: [usize; 6] = [1, 2, 3, 4, 7, LARGEST.width];

/// Measures, or finds what was measured before.
pub struct Calibrator<'a> {
    target: &'a mut Target,
    types: CacheTypes,
    store: Option<Store>,
    anew: bool,
    kept: Vec<PathBuf>,
    progress: &'a mut dyn FnMut(f64) -> bool,
}

impl<'a> Calibrator<'a> {
    /// For this target, whose sequences are stored so; what is measured is kept in the cache directory.
    /// `progress` is told the part that is done, from 0 to 1, while something is measured; `false` ends it.
    pub(crate) fn new(
        target: &'a mut Target,
        types: CacheTypes,
        progress: &'a mut dyn FnMut(f64) -> bool,
    ) -> Calibrator<'a> {
        let store = Store::open();
        Calibrator { target, types, store, anew: false, kept: Vec::new(), progress }
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.target.model()
    }

    /// The files in which it is kept what was measured.
    pub fn kept(&self) -> &[PathBuf] {
        &self.kept
    }

    /// Measures what is known too.
    pub fn anew(self) -> Calibrator<'a> {
        Calibrator { anew: true, ..self }
    }

    /// What the target's passes cost with up to `batch` sequences, and the drafter's; none if the end came before.
    /// `about` tells the drafter from others.
    ///
    /// # Errors
    /// When the target or the drafter fails.
    pub fn costs(
        &mut self,
        batch: usize,
        drafter: &mut dyn Drafter,
        about: &str,
    ) -> Result<Option<Costs>> {
        let Some(verify) = self.verify(batch)? else { return Ok(None) };
        let draft = self.draft(drafter, about)?;
        Ok(draft.map(|draft| Costs { verify, draft }))
    }

    /// What the target's passes cost with up to `batch` sequences.
    ///
    /// # Errors
    /// When the target fails.
    pub fn verify(&mut self, batch: usize) -> Result<Option<VerifyCost>> {
        let key = self.target_key();
        let mut tables = Vec::new();
        let mut sizes: Vec<usize> =
            (0..).map(|i| 1 << i).take_while(|size| *size < batch).collect();
        sizes.push(batch.min(MAX_BATCH));
        for size in sizes {
            let key = format!("{key}, {size} in a pass");
            let name = format!("{}-{size}", self.target.model().config().name);
            if let Some(found) = self.find(&name, &key).and_then(|value| to_verify(&value).ok()) {
                tables.extend_from_slice(found.tables());
                continue;
            }
            let Some(measured) = self.measure_batch(size)? else { return Ok(None) };
            self.keep(&name, &key, &of_verify(&measured));
            tables.extend_from_slice(measured.tables());
        }
        Ok(Some(VerifyCost::new(tables).expect("there is one at least")))
    }

    /// What the drafter's passes cost.
    ///
    /// # Errors
    /// When the drafter fails.
    pub fn draft(&mut self, drafter: &mut dyn Drafter, about: &str) -> Result<Option<DraftCost>> {
        let key = format!("{} drafted by {about} {}", self.target_key(), drafter.place());
        let name = format!("{}-drafter", self.target.model().config().name);
        if let Some(found) = self.find(&name, &key).and_then(|value| to_draft(&value).ok()) {
            return Ok(Some(found));
        }
        let measured = self.measure_draft(drafter)?;
        if let Some(measured) = &measured {
            self.keep(&name, &key, &of_draft(measured));
        }
        Ok(measured)
    }

    /// All that the time of a pass depends on.
    fn target_key(&self) -> String {
        let (target, model) = (&self.target, self.target.model());
        format!(
            "model {:016x} {} on {}, {} threads, {}, keys {}, values {}, up to {} tokens",
            model.gguf().fingerprint(),
            if model.packing().place == Place::Native { "not packed" } else { "packed" },
            machine::cpu_name(),
            target.threads(),
            target.isa(),
            self.types.keys.name(),
            self.types.values.name(),
            target.n_ctx().min(CONTEXTS[1] + MAX_NODES),
        )
    }

    fn find(&self, name: &str, key: &str) -> Option<serde_json::Value> {
        self.store.as_ref().filter(|_| !self.anew)?.load(name, key)
    }

    fn keep(&mut self, name: &str, key: &str, data: &serde_json::Value) {
        // What cannot be kept is measured again the next time.
        if let Some(store) = &self.store
            && store.save(name, key, data).is_ok()
        {
            self.kept.push(store.path(name, key));
        }
    }

    /// Times passes of `batch` sequences.
    fn measure_batch(&mut self, batch: usize) -> Result<Option<VerifyCost>> {
        let [short, long] = CONTEXTS.map(|context| context.min(self.target.n_ctx() - MAX_NODES));
        let mut tables = Vec::new();
        let part = if batch == 1 { [0.0, 0.55, 0.8] } else { [0.0, 1.0, 1.0] };
        let all = self.passes(batch, short, &ROWS, BUDGETS[0], part[0]..part[1])?;
        let Some(all) = all else { return Ok(None) };
        tables.push(Table { batch, context: short, curve: all });
        let room =
            KvCache::check_memory(self.target.model().config(), long + MAX_NODES, self.types, 1);
        if batch == 1 && long > 2 * short && room.is_ok() {
            let few = self.passes(1, long, &FEW_ROWS, BUDGETS[1], part[1]..part[2])?;
            let Some(few) = few else { return Ok(None) };
            let curve = longer(&tables[0].curve, &few);
            tables.push(Table { batch, context: long, curve });
        }
        Ok(Some(VerifyCost::new(tables).expect("there is one at least")))
    }

    /// Times passes over these rows, shared out among sequences of `context` tokens.
    fn passes(
        &mut self,
        batch: usize,
        context: usize,
        rows: &[usize],
        budget: Duration,
        part: std::ops::Range<f64>,
    ) -> Result<Option<Curve>> {
        let mut sequences = Vec::new();
        for _ in 0..batch {
            let mut sequence = self.target.sequence(self.types)?;
            sequence.pretend(context);
            sequences.push(sequence);
        }
        let trees =
            |n: usize| (0..batch).map(move |i| chain(n / batch + usize::from(i < n % batch)));
        let (target, progress) = (&mut *self.target, &mut *self.progress);
        let mut pass = |n: usize| -> Result<()> {
            let trees: Vec<Tree> = trees(n).collect();
            let mut all: Vec<(&mut Sequence, &Tree, usize)> = sequences
                .iter_mut()
                .zip(&trees)
                .map(|(sequence, tree)| (sequence, tree, 0))
                .collect();
            target.verify_batch(&mut all)
        };
        pass(batch)?; // finds its memory
        let start = Instant::now();
        pass(batch)?;
        let slow = start.elapsed() > SLOW;
        let fits = |n: &usize| *n >= batch && *n <= batch * MAX_NODES;
        let wanted: Vec<usize> = match batch {
            1 => rows.iter().copied().filter(fits).collect(),
            // Where sequences are many, rows are.
            _ => (0..8).map(|i| batch + batch * i * (i + 1) / 8).filter(fits).collect(),
        };
        let wanted: Vec<usize> = match slow && wanted.len() > FEW_ROWS.len() {
            true => wanted.iter().copied().filter(|n| *n <= 4 || n % 4 == 0).collect(),
            false => wanted,
        };
        let mut progress = |done: f64| progress(part.start + (part.end - part.start) * done);
        curve(&wanted, budget, &mut progress, pass)
    }

    /// Times a drafter's first level and its others, by width.
    fn measure_draft(&mut self, drafter: &mut dyn Drafter) -> Result<Option<DraftCost>> {
        let n_vocab = self.target.model().config().n_vocab as u32;
        let mut tokens: Vec<u32> =
            (0..CONTEXTS[0] as u32).map(|i| (i * 31 + 7) % n_vocab).collect();
        let width = drafter.taps().len() * self.target.model().config().n_embd;
        let feature: Vec<f32> = (0..width).map(|i| libm::sinf(i as f32)).collect();
        let mut told = 0;
        let target = &mut *self.target;
        let mut sequence = target.sequence(self.types)?;
        let start = Instant::now();
        target.verify(&mut sequence, &Tree::new(1))?;
        let slow = start.elapsed() > SLOW;
        // Two guesses were accepted since the last tree.
        let mut timed = |depth: usize, width: usize| -> Result<f64> {
            // A pass of the target has taken the caches.
            if !slow {
                target.verify(&mut sequence, &Tree::new(1))?;
            }
            let n = tokens.len() as u32;
            tokens.extend([n % n_vocab, (n + 5) % n_vocab]);
            let last = tokens.len() - 1;
            let start = Instant::now();
            let mut features = (told..last).map(|_| &feature[..]);
            drafter.commit(told, &tokens[told..last], &mut features, target.team())?;
            told = last;
            let growth = Growth { depth, width, nodes: MAX_NODES };
            let mut tree = Tree::new(tokens[last]);
            drafter.expand(&tokens, &mut Guesser::new(growth), &mut tree, target.team())?;
            Ok(start.elapsed().as_secs_f64())
        };
        let mut firsts = Vec::new();
        let mut levels = WIDTHS.map(|width| (width, Vec::new()));
        timed(1, 1)?;
        timed(3, LARGEST.width)?;
        let start = Instant::now();
        let spent = |start: Instant| start.elapsed().as_secs_f64() / BUDGETS[2].as_secs_f64();
        for round in 0.. {
            if round > 1 && spent(start) > 1.0 || round > 20 {
                break;
            }
            for (width, times) in &mut levels {
                if !(self.progress)(0.8 + 0.2 * spent(start).min(1.0)) {
                    return Ok(None);
                }
                let [one, three] = [timed(1, *width)?, timed(3, *width)?];
                firsts.push(one);
                times.push((three - one) / 2.0);
            }
        }
        let levels: Vec<(usize, f64)> =
            levels.iter_mut().map(|(width, times)| (*width, median(times))).collect();
        let level = Curve::new(&levels).expect("times are positive");
        Ok(Some(DraftCost { first: median(&mut firsts), level }))
    }
}

/// A tree of `n` nodes that costs what any other does.
fn chain(n: usize) -> Tree {
    let mut tree = Tree::new(1);
    for node in 1..n {
        tree.push(node - 1, 1, 0.0);
    }
    tree
}

/// All of a curve behind a longer context, of which a few places were measured: attention takes longer, by an amount
/// between those of the places around.
fn longer(all: &Curve, few: &Curve) -> Curve {
    let more: Vec<(usize, f64)> =
        few.measured().map(|(n, seconds)| (n, (seconds - all.seconds(n)).max(1e-9))).collect();
    let more = Curve::new(&more).expect("they ascend");
    let measured: Vec<_> =
        all.measured().map(|(n, seconds)| (n, seconds + more.seconds(n))).collect();
    Curve::new(&measured).expect("they ascend")
}

/// What tells a drafter's file from others.
///
/// # Errors
/// When it cannot be read.
pub fn about_drafter(kind: &str, path: Option<&Path>) -> Result<String> {
    let Some(path) = path else { return Ok(kind.to_owned()) };
    let gguf = crate::gguf::Gguf::open_with(path, crate::gguf::OpenOptions::default())?;
    Ok(format!("{kind} {:016x}", gguf.fingerprint()))
}

/// How often a drafter's guesses were right, kept from run to run.
pub struct Counts {
    store: Option<Store>,
    name: String,
    key: String,
}

impl Counts {
    /// Of the drafter that `about` tells from others, for this model; kept in the cache directory.
    pub fn of(about: &str, model: &Model) -> Counts {
        let name = format!("{}-counts", model.config().name);
        let key = format!("{about} for {}", model.fingerprint());
        Counts { store: Store::open(), name, key }
    }

    /// What was counted; at first what the file beside the drafter's has.
    pub fn load(&self, drafter: Option<&Path>) -> ByTemperature {
        let kept = self.store.as_ref().and_then(|store| store.load(&self.name, &self.key));
        let shipped = || serde_json::from_slice(&std::fs::read(prior(drafter?)).ok()?).ok();
        let counts = kept.or_else(shipped).and_then(|value| to_confidences(&value).ok());
        counts.unwrap_or_default()
    }

    /// Keeps them.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn save(&self, counts: &ByTemperature) -> std::io::Result<()> {
        let data = of_confidences(counts);
        self.store.as_ref().map_or(Ok(()), |store| store.save(&self.name, &self.key, &data))
    }
}

/// Where a drafter's first counts lie: `NAME.counts.json` beside `NAME.gguf`.
pub fn prior(drafter: &Path) -> PathBuf {
    drafter.with_extension("counts.json")
}
