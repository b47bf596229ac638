//! What a GPU can do for a drafter: latency of a message and its answer, bandwidth of products, time of a round.
//!
//! Weights are read from memory, not from a cache: each product of a run has its own matrix, half a gigabyte in all.
//! The share is relative to a copy inside the GPU's memory, counting bytes read and written.

use crate::common_options::{Format, at_least_one};
use crate::median::median;
use clap::Args;
use dovetail::draft::{self, DraftDevice, Drafter, DrafterContext, Placement, SoloDraft};
use dovetail::gpu::{self, Cuda, measure};
use dovetail::tree::TreeShape;
use dovetail::{Error, LoadOptions, Model, Result};
use dovetail_kernels::cpu::ThreadPool;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Options of `gpu`.
#[derive(Args)]
pub struct Options {
    /// The GPU's number, as dovetail-run --list-devices shows it
    #[arg(long, value_name = "N", default_value_t = 0)]
    gpu: usize,
    /// Width and feed-forward width of the drafter whose products are measured; 0 for none
    #[arg(long, value_name = "N", num_args = 2, default_values_t = [5120, 13824])]
    shape: Vec<usize>,
    /// A target, for rounds of its drafter
    #[arg(short, long, value_name = "FILE", requires = "model_draft")]
    model: Option<PathBuf>,
    /// The drafter
    #[arg(long, value_name = "FILE", requires = "model")]
    model_draft: Option<PathBuf>,
    /// The size of its trees
    #[arg(long, value_name = "SHAPE", default_value = "beam:7,10,16")]
    tree: TreeShape,
    /// Tokens in the context of the rounds
    #[arg(short, long, default_value_t = 500, value_parser = at_least_one())]
    context: usize,
    /// Output format
    #[arg(short, long, value_enum, default_value = "md")]
    output: Format,
}

/// Measures and prints.
pub fn run(o: &Options) -> Result<()> {
    let found = gpu::list().map_err(Error::Unsupported)?;
    let Some(chosen) = found.iter().find(|gpu| gpu.ordinal == o.gpu) else {
        return Err(Error::Invalid(format!("there is no GPU {}", o.gpu)));
    };
    let mut cuda = Cuda::open(o.gpu, usize::MAX)?;
    let ring = measure::ring_latency(&mut cuda)?;
    let copy = cuda.copy_rate()?;
    let products = match o.shape[..] {
        [0, _] | [_, 0] => Vec::new(),
        [width, n_ff] => measure::products(&mut cuda, width, n_ff)?,
        _ => return Err(Error::Invalid("--shape takes two numbers".into())),
    };
    drop(cuda);
    let rounds = match (&o.model, &o.model_draft) {
        (Some(model), Some(drafter)) => Some(rounds(o, model, drafter)?),
        _ => None,
    };
    let us = |time: std::time::Duration| time.as_secs_f64() * 1e6;
    if o.output == Format::Json {
        let products: Vec<Value> = products
            .iter()
            .map(|p| {
                json!({"weights": p.format, "rows": p.rows, "columns": p.columns, "n": p.n,
                    "us": us(p.time), "gb_per_s": p.bytes as f64 / p.time.as_secs_f64() / 1e9})
            })
            .collect();
        let rounds = rounds.map(|(gpu, cpu)| json!({"gpu_us": gpu * 1e6, "cpu_us": cpu * 1e6}));
        println!(
            "{}",
            json!({"gpu": chosen.name, "copy_gb_per_s": copy / 1e9, "products": products,
                "ring_us": {"polling": us(ring.polling), "doorbells": us(ring.doorbells),
                    "kernel": us(ring.kernel), "launch": us(ring.launch)},
                "round": rounds})
        );
        return Ok(());
    }
    println!("{}: a copy moves {:.0} GB/s\n", chosen.name, copy / 1e9);
    println!("| message and answer | median, us |\n|---|---:|");
    for (what, time) in [
        ("a kernel that spins", ring.polling),
        ("doorbells of the queue", ring.doorbells),
        ("the same, a kernel between", ring.kernel),
        ("launch and wait", ring.launch),
    ] {
        println!("| {what} | {:.1} |", us(time));
    }
    if !products.is_empty() {
        println!(
            "\n| weights | matrix | rows | us | GB/s | share of a copy |\n|---|---|---:|---:|---:|---:|"
        );
    }
    for p in products {
        let rate = p.bytes as f64 / p.time.as_secs_f64();
        println!(
            "| {} | {} x {} | {} | {:.1} | {:.0} | {:.2} |",
            p.format,
            p.rows,
            p.columns,
            p.n,
            us(p.time),
            rate / 1e9,
            rate / copy
        );
    }
    if let Some((gpu, cpu)) = rounds {
        println!("\n| round, {} behind {} tokens | median, us |\n|---|---:|", o.tree, o.context);
        println!("| GPU | {:.0} |\n| CPU, 2 threads | {:.0} |", gpu * 1e6, cpu * 1e6);
    }
    Ok(())
}

/// Median seconds of a round on the GPU and on the CPU.
fn rounds(o: &Options, model: &Path, path: &Path) -> Result<(f64, f64)> {
    let target =
        Arc::new(Model::load(model, LoadOptions { threads: 2, ..LoadOptions::default() })?);
    let mut times = [0.0; 2];
    for (time, device) in times.iter_mut().zip([DraftDevice::Gpu(Some(o.gpu)), DraftDevice::Cpu]) {
        let placement = Placement { device, growth: Some(o.tree), ..Placement::default() };
        let n_ctx = o.context + 1024;
        let setup =
            DrafterContext { target: &target, n_ctx, threads: 2, path: Some(path), placement };
        let kind = draft::kind_of(path)?;
        let mut drafter = (kind.open)(&setup)?;
        *time = round(&mut *drafter, &target, o)?;
    }
    Ok((times[0], times[1]))
}

/// Seconds of a round in which two draft tokens are accepted.
fn round(drafter: &mut dyn Drafter, target: &Model, o: &Options) -> Result<f64> {
    const ROUNDS: usize = 60;
    const ACCEPTED: usize = 3;
    let c = target.config();
    let width = drafter.taps().len() * c.n_embd;
    let mut state = 1u64;
    let mut draw = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 33
    };
    let n = o.context + ROUNDS * ACCEPTED + 1;
    let tokens: Vec<u32> = (0..n).map(|_| (draw() % c.n_vocab as u64) as u32).collect();
    let feature: Vec<f32> = (0..width).map(|_| draw() as f32 / (1u64 << 30) as f32 - 1.0).collect();
    let (mut pool, mut solo) = (ThreadPool::new(2), SoloDraft::new(drafter)?);
    let mut times = Vec::new();
    let mut known = 0;
    for round in 0..ROUNDS {
        let len = o.context + round * ACCEPTED;
        let new = &tokens[known..len];
        solo.commit(drafter, known, new, new.iter().map(|_| &feature[..]), &mut pool)?;
        known = len;
        let start = Instant::now();
        let tree = solo.expand(drafter, &tokens[..=len], o.tree, &mut pool)?;
        if round > 5 {
            times.push(start.elapsed().as_secs_f64());
        }
        if tree.len() < o.tree.nodes {
            return Err(Error::Invalid("the drafter grew no whole tree".into()));
        }
        // In place of the target's pass, during which the GPU queues its next round.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Ok(median(times))
}
