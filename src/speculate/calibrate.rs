//! Costs of a target's and a drafter's passes on this machine, measured once and kept.
//!
//! The target's passes are timed over many numbers of rows after a short context, and over a few after a long one; the
//! drafter's over trees of one and of three levels. Tokens are made up: the time of a pass does not depend on them.

use super::json::{acceptance_from_json, acceptance_to_json};
use super::kept::{KeptMeasurement, TableKey, find_or_measure, is_steady};
use super::measure::{DraftPass, curve, levels};
use super::store::{Store, StoreEntry};
use crate::draft::{Drafter, SoloDraft};
use crate::error::Result;
use crate::infer::{CacheTypes, KvCache, KvSize, Sequence, Target};
use crate::model::{self, Model};
use crate::planner::acceptance::ByTemperature;
use crate::planner::cost::{Costs, Curve, DraftCost, TAKEN_IN, Table, VerifyCost};
use crate::planner::{LARGEST, MAX_BATCH};
use crate::tree::{MAX_NODES, Tree, TreeShape};
use crate::{file, machine};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Numbers of rows that passes are timed over; fewer if a pass over one row takes longer than [`SLOW`].
const ROWS: [usize; 22] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 56, 64];
const FEWER_ROWS: [usize; 12] = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32];
const SLOW: Duration = Duration::from_millis(50);
/// Numbers of rows that passes after a long context are timed over.
const FEW_ROWS: [usize; 3] = [1, 4, 16];
/// Lengths of the short and the long context, if they fit.
const CONTEXTS: [usize; 2] = [64, 2048];
/// Time for measuring all rows, passes after a long context, and a drafter.
const BUDGETS: [Duration; 3] =
    [Duration::from_millis(2000), Duration::from_millis(700), Duration::from_millis(800)];
/// Number of passes over one row that decide whether the machine is idle.
const STEADY_PASSES: usize = 5;
/// Widths of a drafter's levels; the last one is for several trees that grow side by side.
const WIDTHS: [usize; 7] = [1, 2, 3, 4, 7, LARGEST.width, 24];

/// Measures costs, or finds those that were measured before.
pub struct Calibrator<'a> {
    target: &'a mut Target,
    types: CacheTypes,
    store: Option<Store>,
    ignore_kept: bool,
    is_steady: fn(&[f64]) -> bool,
    saved_files: Vec<PathBuf>,
    progress: &'a mut dyn FnMut(f64) -> bool,
}

impl<'a> Calibrator<'a> {
    /// For this target and these cache types; results are kept in the cache directory. During a measurement `progress`
    /// receives the fraction that is done, from 0 to 1; it returns false to cancel.
    pub(crate) fn new(
        target: &'a mut Target,
        types: CacheTypes,
        progress: &'a mut dyn FnMut(f64) -> bool,
    ) -> Calibrator<'a> {
        let store = Store::open();
        Calibrator {
            target,
            types,
            store,
            ignore_kept: false,
            is_steady,
            saved_files: Vec::new(),
            progress,
        }
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.target.model()
    }

    /// The files in which this calibrator saved results.
    pub fn saved_files(&self) -> &[PathBuf] {
        &self.saved_files
    }

    /// Keeps results in this store.
    pub fn with_store(self, store: Store) -> Calibrator<'a> {
        Calibrator { store: Some(store), ..self }
    }

    /// Measures all costs, even those that are kept.
    pub fn ignore_kept(self) -> Calibrator<'a> {
        Calibrator { ignore_kept: true, ..self }
    }

    /// Decides whether the machine is idle by `is_steady` of the seconds of some passes over one row. Tables that were
    /// measured under load are measured again only on an idle machine.
    pub fn with_idle_test(self, is_steady: fn(&[f64]) -> bool) -> Calibrator<'a> {
        Calibrator { is_steady, ..self }
    }

    /// Costs of the target's passes with up to `batch` sequences, and of the drafter's; `None` if it was cancelled.
    /// The function [`drafter_id`] gives `drafter_id`.
    ///
    /// # Errors
    /// If the target or the drafter fails.
    pub fn costs(
        &mut self,
        batch: usize,
        drafter: &mut dyn Drafter,
        drafter_id: &str,
    ) -> Result<Option<Costs>> {
        let Some(verify) = self.verify(batch)? else { return Ok(None) };
        let draft = self.draft(drafter, drafter_id)?;
        Ok(draft.map(|draft| Costs { verify, draft }))
    }

    /// Costs of the target's passes with one sequence and with `batch`; `None` if it was cancelled.
    ///
    /// # Errors
    /// If the target fails.
    pub fn verify(&mut self, batch: usize) -> Result<Option<VerifyCost>> {
        let Some(mut tables) = self.tables(1, Calibrator::measure_alone)? else { return Ok(None) };
        if batch > 1 {
            let alone = tables[0].curve.clone();
            let measure = |this: &mut Self| this.measure_batch(batch.min(MAX_BATCH), &alone);
            let Some(more) = self.tables(batch, measure)? else { return Ok(None) };
            tables.extend(more);
        }
        Ok(Some(VerifyCost::new(tables).expect("there is one at least")))
    }

    /// The tables for `batch` sequences, found or measured.
    fn tables(
        &mut self,
        batch: usize,
        measure: impl FnOnce(&mut Self) -> Result<Option<Vec<Table>>>,
    ) -> Result<Option<Vec<Table>>> {
        let key = format!("{}, {batch} in a pass", self.target_key());
        let name = format!("{}-{batch}", self.target.model().config().name);
        let measure = |this: &mut Self| {
            let tables = measure(this)?;
            Ok(tables.map(|tables| VerifyCost::new(tables).expect("there is one at least")))
        };
        let cost = self.find_or_measure((&name, &key), measure)?;
        Ok(cost.map(|cost| cost.tables().to_vec()))
    }

    /// Costs of the drafter's passes; `None` if it was cancelled.
    ///
    /// # Errors
    /// If the drafter fails.
    pub fn draft(
        &mut self,
        drafter: &mut dyn Drafter,
        drafter_id: &str,
    ) -> Result<Option<DraftCost>> {
        let key = format!("{} drafted by {drafter_id} {}", self.target_key(), drafter.place());
        let name = format!("{}-drafter", self.target.model().config().name);
        self.find_or_measure((&name, &key), |this| this.measure_draft(drafter))
    }

    /// All that the time of a pass depends on.
    fn target_key(&self) -> String {
        let (target, model) = (&self.target, self.target.model());
        format!(
            "model {:016x} {} on {}, {} threads, {}, keys {}, values {}, up to {} tokens",
            model.gguf().fingerprint(),
            if model.packing().storage == model::WeightStorage::Native {
                "not packed"
            } else {
                "packed"
            },
            machine::cpu_name(),
            target.threads(),
            target.isa(),
            self.types.keys.name(),
            self.types.values.name(),
            target.n_ctx().min(CONTEXTS[1] + MAX_NODES),
        )
    }

    /// Finds kept results. Measures them if there are none, if kept ones are ignored, or if they are in doubt.
    fn find_or_measure<T: KeptMeasurement>(
        &mut self,
        (name, key): (&str, &str),
        measure: impl FnOnce(&mut Self) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let store = self.store.clone();
        let table_key =
            TableKey { store: store.as_ref(), name, key, ignore_kept: self.ignore_kept };
        let (found, saved) = find_or_measure(&table_key, self, Self::is_idle, measure)?;
        self.saved_files.extend(store.filter(|_| saved).map(|store| store.path(name, key)));
        Ok(found)
    }

    /// Whether the machine seems to have no other load.
    fn is_idle(&mut self) -> Result<bool> {
        let mut sequence = self.target.sequence(self.types)?;
        let mut times = Vec::new();
        for _ in 0..=STEADY_PASSES {
            let start = Instant::now();
            self.target.verify(&mut sequence, &Tree::new(1))?;
            times.push(start.elapsed().as_secs_f64());
        }
        // The first pass allocates memory.
        Ok((self.is_steady)(&times[1..]))
    }

    /// Times passes of one sequence.
    fn measure_alone(&mut self) -> Result<Option<Vec<Table>>> {
        let [short, long] = self.contexts();
        let rows: &[usize] = if self.is_slow()? { &FEWER_ROWS } else { &ROWS };
        let Some(all) = self.passes(1, short, rows, BUDGETS[0], 0.0..0.55)? else {
            return Ok(None);
        };
        let mut tables = vec![Table { batch: 1, context: short, curve: all.clone() }];
        let (config, rows) = (self.target.model().config(), self.target.max_rows());
        let size = KvSize { n_ctx: long + MAX_NODES, rows, types: self.types };
        if long > 2 * short && KvCache::check_memory(config, size, 1).is_ok() {
            let few = self.passes(1, long, &FEW_ROWS, BUDGETS[1], 0.55..0.8)?;
            let Some(few) = few else { return Ok(None) };
            tables.push(Table { batch: 1, context: long, curve: interpolate(&all, &few) });
        }
        Ok(Some(tables))
    }

    /// Times passes of `batch` sequences. They take longer than those of one sequence over as many rows (`alone`),
    /// since each sequence has its own keys.
    fn measure_batch(&mut self, batch: usize, alone: &Curve) -> Result<Option<Vec<Table>>> {
        let [context, _] = self.contexts();
        let rows = [1, 2, 4].map(|each| each * batch);
        let few = self.passes(batch, context, &rows, BUDGETS[1], 0.0..0.8)?;
        let table = |few: Curve| Table { batch, context, curve: interpolate(alone, &few) };
        Ok(few.map(|few| vec![table(few)]))
    }

    /// The lengths of the short and the long context, with room for a tree after them.
    fn contexts(&self) -> [usize; 2] {
        CONTEXTS.map(|context| context.min(self.target.n_ctx().saturating_sub(MAX_NODES)))
    }

    /// Whether a pass takes so long that fewer sizes are measured.
    fn is_slow(&mut self) -> Result<bool> {
        let mut sequence = self.target.sequence(self.types)?;
        self.target.verify(&mut sequence, &Tree::new(1))?; // finds its memory
        let start = Instant::now();
        self.target.verify(&mut sequence, &Tree::new(1))?;
        Ok(start.elapsed() > SLOW)
    }

    /// Times passes over these numbers of rows, divided among sequences of `context` tokens.
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
        let (target, progress) = (&mut *self.target, &mut *self.progress);
        let (room, most) = (target.n_ctx() - context, target.max_rows());
        let fits = |n: &usize| n.div_ceil(batch) <= room && *n <= most;
        let rows: Vec<usize> = rows.iter().copied().filter(fits).collect();
        let mut pass = |n: usize| -> Result<()> {
            let tree = |i: usize| chain(n / batch + usize::from(i < n % batch));
            let trees: Vec<Tree> = (0..batch).map(tree).collect();
            let all = sequences.iter_mut().zip(&trees);
            let mut all: Vec<(&mut Sequence, &Tree, usize)> =
                all.map(|(sequence, tree)| (sequence, tree, 0)).collect();
            target.verify_batch(&mut all)
        };
        pass(batch)?; // finds its memory
        let mut progress = |done: f64| progress(part.start + (part.end - part.start) * done);
        curve(&rows, budget, &mut progress, pass)
    }

    /// Times a drafter's first level and its further levels by width.
    fn measure_draft(&mut self, drafter: &mut dyn Drafter) -> Result<Option<DraftCost>> {
        let n_vocab = self.target.model().config().n_vocab as u32;
        let n = CONTEXTS[0].min(self.target.n_ctx());
        let tokens: Vec<u32> = (0..n as u32).map(|i| (i * 31 + 7) % n_vocab).collect();
        let width = drafter.taps().len() * self.target.model().config().n_embd;
        let feature: Vec<f32> = (0..width).map(|i| libm::sinf(i as f32)).collect();
        let (slow, side_by_side) = (self.is_slow()?, drafter.is_side_by_side());
        let target = &mut *self.target;
        let mut sequence = target.sequence(self.types)?;
        let last = tokens.len() - 1;
        let mut solo = SoloDraft::new(drafter)?;
        let features = (0..last).map(|_| &feature[..]);
        solo.commit(drafter, 0, &tokens[..last], features, target.pool())?;
        let first = last.saturating_sub(TAKEN_IN);
        let mut pass = |work: DraftPass| -> Result<()> {
            let DraftPass::Tree { depth, width } = work else {
                return if slow { Ok(()) } else { target.verify(&mut sequence, &Tree::new(1)) };
            };
            let features = (first..last).map(|_| &feature[..]);
            solo.commit(drafter, first, &tokens[first..last], features, target.pool())?;
            let shape = TreeShape { depth, width, nodes: MAX_NODES };
            solo.expand(drafter, &tokens, shape, target.pool()).map(drop)
        };
        let widths = WIDTHS.into_iter().filter(|width| side_by_side || *width <= LARGEST.width);
        let widths: Vec<usize> = widths.collect();
        let mut progress = |done: f64| (self.progress)(0.8 + 0.2 * done);
        levels(&widths, BUDGETS[2], &mut progress, &mut pass)
    }
}

/// A chain of `n` nodes, which costs as much as any other tree.
fn chain(n: usize) -> Tree {
    let mut tree = Tree::new(1);
    for node in 1..n {
        tree.push(node - 1, 1, 0.0);
    }
    tree
}

/// The curve of passes with longer attention than those of `all`, from a few measured sizes: the additional time is
/// interpolated between them.
fn interpolate(all: &Curve, few: &Curve) -> Curve {
    let (first, _) = few.measured().next().expect("a curve is not empty");
    let more = few.measured().map(|(n, seconds)| (n, (seconds - all.seconds(n)).max(1e-9)));
    let more = Curve::new(&more.collect::<Vec<_>>()).expect("they ascend");
    let places = all.measured().filter(|(n, _)| *n > first).map(|(n, _)| n);
    let seconds = |n: usize| (n, all.seconds(n) + more.seconds(n));
    let measured: Vec<_> = [first].into_iter().chain(places).map(seconds).collect();
    Curve::new(&measured).expect("they ascend")
}

/// Identifies a drafter by its kind and its file.
///
/// # Errors
/// If it cannot be read.
pub fn drafter_id(kind: &str, path: Option<&Path>) -> Result<String> {
    let Some(path) = path else { return Ok(kind.to_owned()) };
    let gguf = crate::gguf::Gguf::open_with(path, crate::gguf::OpenOptions::default())?;
    Ok(format!("{kind} {:016x}", gguf.fingerprint()))
}

/// Acceptance counts of a drafter, kept from run to run.
pub struct AcceptanceCounts {
    store: Option<Store>,
    name: String,
    key: String,
}

impl AcceptanceCounts {
    /// The counts of this drafter for this model, in the cache directory.
    pub fn of(drafter_id: &str, model: &Model) -> AcceptanceCounts {
        let name = format!("{}-counts", model.config().name);
        let key = format!("{drafter_id} for {}", model.fingerprint());
        AcceptanceCounts { store: Store::open(), name, key }
    }

    /// The kept counts; if there are none, those of the file beside the drafter's.
    pub fn load(&self, drafter: Option<&Path>) -> ByTemperature {
        let kept = self
            .store
            .as_ref()
            .and_then(|store| store.load(&self.name, &self.key))
            .map(|entry| entry.data);
        let shipped =
            || serde_json::from_slice(&file::read(&initial_counts_path(drafter?)).ok()?).ok();
        let counts = kept.or_else(shipped).and_then(|value| acceptance_from_json(&value).ok());
        counts.unwrap_or_default()
    }

    /// Keeps the counts.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn save(&self, counts: &ByTemperature) -> std::io::Result<()> {
        let entry = StoreEntry::new(acceptance_to_json(counts));
        self.store.as_ref().map_or(Ok(()), |store| store.save(&self.name, &self.key, &entry))
    }
}

/// The file of a drafter's initial counts: `NAME.counts.json` beside `NAME.gguf`.
pub fn initial_counts_path(drafter: &Path) -> PathBuf {
    drafter.with_extension("counts.json")
}
