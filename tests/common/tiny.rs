//! Small models with random weights, made in memory: the same bytes on every run.

use super::gguf::{Parts, Tensor};
use super::random::Random;
use dovetail::gguf::{Array, Value};
use dovetail::model::block::QkNormPlace;
use dovetail_kernels::cpu::RopeStyle;
use half::f16;

/// Numbers of weight types in GGUF files.
pub mod types {
    pub const F32: u32 = 0;
    pub const F16: u32 = 1;
    pub const Q4_0: u32 = 2;
    pub const Q4_1: u32 = 3;
    pub const Q5_0: u32 = 6;
    pub const Q5_1: u32 = 7;
    pub const Q8_0: u32 = 8;
    pub const Q2_K: u32 = 10;
    pub const Q3_K: u32 = 11;
    pub const Q4_K: u32 = 12;
    pub const Q5_K: u32 = 13;
    pub const Q6_K: u32 = 14;
    pub const IQ2_XXS: u32 = 16;
    pub const IQ2_XS: u32 = 17;
    pub const IQ3_XXS: u32 = 18;
    pub const IQ1_S: u32 = 19;
    pub const IQ4_NL: u32 = 20;
    pub const IQ3_S: u32 = 21;
    pub const IQ2_S: u32 = 22;
    pub const IQ4_XS: u32 = 23;
    pub const I32: u32 = 26;
    pub const I64: u32 = 27;
    pub const BF16: u32 = 30;
    pub const TQ1_0: u32 = 34;
    pub const TQ2_0: u32 = 35;
    pub const MXFP4: u32 = 39;
    pub const NVFP4: u32 = 40;
    /// One that only ggml reads.
    pub const FOREIGN: u32 = NVFP4;
}
use types::*;

/// How positions are stretched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    None,
    Linear {
        factor: f64,
    },
    Yarn {
        factor: f64,
        original: u32,
    },
    /// Llama 3: frequencies have their divisors in the tensor `rope_freqs.weight`.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
}

/// The sizes and types of a model.
#[derive(Clone, Copy, Debug)]
pub struct Tiny {
    /// Its weights are random numbers from this seed.
    pub name: &'static str,
    pub arch: &'static str,
    pub n_layers: usize,
    pub n_embd: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub n_ff: usize,
    /// Types of the layers' matrices, in turn.
    pub layers: &'static [u32],
    pub embedding: u32,
    /// Type of the head; `None` ties it to the embedding.
    pub head: Option<u32>,
    /// Elements of a head that turn.
    pub n_rotated: usize,
    pub rope_base: f64,
    pub scaling: Scaling,
    pub extras: Extras,
}

/// A kind of layers.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Positions that a row sees.
    pub window: Option<usize>,
    pub style: RopeStyle,
    pub n_rotated: usize,
    pub base: f64,
    /// What cos and sin are multiplied by.
    pub factor: f64,
}

/// What a model has beside llama's blocks.
#[derive(Clone, Copy, Debug)]
pub struct Extras {
    /// Kinds of the layers, in turn; none where all are alike, as the model says it.
    pub kinds: &'static [Kind],
    /// A window of all layers, where there are no kinds.
    pub window: Option<usize>,
    /// Of all matrices but the head.
    pub biases: bool,
    /// Norms before each branch, and behind.
    pub norms: bool,
    pub post_norms: bool,
    /// Norms of queries and keys.
    pub qk_norms: Option<QkNormPlace>,
    /// Norms of each head of values, without weights.
    pub v_norms: bool,
    /// LayerNorm in place of RMSNorm, but for those of heads.
    pub layer_norms: bool,
    /// ε of norms behind, where it is another.
    pub post_eps: Option<f32>,
    /// Both branches read what enters the block.
    pub parallel: bool,
    /// The matrices of queries, keys and values are one, and those of gate and up.
    pub fused: bool,
    /// RMSNorm of embeddings, without weights.
    pub embedding_norm: bool,
    /// Queries grow with the logarithm of their position: by how much, and every how many positions.
    pub query_scale: Option<(f64, usize)>,
    pub sinks: bool,
    /// The heads are gated before they are multiplied.
    pub gate: bool,
    pub geglu: bool,
    /// 1 / √head_dim where it is not given.
    pub score_scale: Option<f64>,
    pub score_cap: Option<f64>,
    pub embedding_scale: f64,
    pub branch_scale: f64,
    pub logit_scale: f64,
    pub logit_cap: Option<f64>,
}

pub const LLAMA: Extras = Extras {
    kinds: &[],
    window: None,
    biases: false,
    norms: true,
    post_norms: false,
    qk_norms: None,
    v_norms: false,
    layer_norms: false,
    post_eps: None,
    parallel: false,
    fused: false,
    embedding_norm: false,
    query_scale: None,
    sinks: false,
    gate: false,
    geglu: false,
    score_scale: None,
    score_cap: None,
    embedding_scale: 1.0,
    branch_scale: 1.0,
    logit_scale: 1.0,
    logit_cap: None,
};

/// A window shorter than some trees are deep; no window and half of each head turned; no positions.
const KINDS: &[Kind] = &[
    Kind { window: Some(12), style: RopeStyle::Halves, n_rotated: 16, base: 500.0, factor: 1.25 },
    Kind { window: None, style: RopeStyle::Adjacent, n_rotated: 8, base: 10_000.0, factor: 1.0 },
    Kind { window: Some(300), style: RopeStyle::Halves, n_rotated: 0, base: 1.0, factor: 1.0 },
];

const EVERYTHING: Extras = Extras {
    kinds: KINDS,
    window: None,
    biases: true,
    norms: true,
    post_norms: true,
    qk_norms: Some(QkNormPlace::HeadsBeforeRope),
    v_norms: true,
    layer_norms: false,
    post_eps: Some(0.25),
    parallel: false,
    fused: false,
    embedding_norm: true,
    query_scale: Some((0.3, 16)),
    sinks: true,
    gate: true,
    geglu: true,
    score_scale: Some(0.375),
    score_cap: Some(4.0),
    embedding_scale: 8.0,
    branch_scale: 0.75,
    logit_scale: 0.5,
    logit_cap: Some(3.0),
};

/// What cannot be had together with [`EVERYTHING`].
const OTHERS: Extras = Extras {
    kinds: KINDS,
    qk_norms: Some(QkNormPlace::WholeRow),
    layer_norms: true,
    parallel: true,
    fused: true,
    biases: true,
    ..LLAMA
};

const BASE: Tiny = Tiny {
    name: "",
    arch: "llama",
    n_layers: 2,
    n_embd: 64,
    n_heads: 4,
    n_kv_heads: 2,
    head_dim: 16,
    n_ff: 96,
    layers: &[],
    embedding: F32,
    head: None,
    n_rotated: 16,
    rope_base: 10_000.0,
    scaling: Scaling::None,
    extras: LLAMA,
};

/// Superblocks are 256 weights long, and so must be every width.
const WIDE: Tiny =
    Tiny { n_embd: 256, n_heads: 4, n_kv_heads: 1, head_dim: 64, n_ff: 256, n_rotated: 64, ..BASE };

/// Every kind of weight, head and position that the tests walk.
pub const ALL: &[Tiny] = &[
    Tiny { name: "f32", layers: &[F32], ..BASE },
    Tiny { name: "f16", layers: &[F16], embedding: F16, head: Some(F16), ..BASE },
    Tiny { name: "bf16", layers: &[BF16], embedding: BF16, n_kv_heads: 4, ..BASE },
    Tiny { name: "q4_0", layers: &[Q4_0], embedding: Q8_0, n_kv_heads: 1, ..BASE },
    Tiny {
        name: "q4_1",
        layers: &[Q4_1],
        embedding: Q8_0,
        n_layers: 3,
        n_embd: 96,
        n_heads: 6,
        ..BASE
    },
    Tiny { name: "q5", layers: &[Q5_0, Q5_1], embedding: F16, head: Some(Q5_1), ..BASE },
    Tiny { name: "q8_0", layers: &[Q8_0], embedding: Q8_0, head_dim: 32, n_rotated: 32, ..BASE },
    Tiny { name: "q2_K", layers: &[Q2_K, Q3_K], embedding: Q4_K, head: Some(Q6_K), ..WIDE },
    Tiny { name: "q4_K", layers: &[Q4_K, Q6_K, Q5_K], embedding: Q6_K, ..WIDE },
    Tiny { name: "tables", layers: &[IQ4_NL, MXFP4], embedding: IQ4_NL, head: Some(MXFP4), ..BASE },
    Tiny { name: "iq4_xs", layers: &[IQ4_XS], embedding: IQ4_XS, ..WIDE },
    Tiny {
        name: "codebooks",
        layers: &[IQ3_XXS, IQ2_XXS, TQ1_0, IQ3_S, IQ2_XS, IQ2_S, IQ1_S, TQ2_0],
        embedding: IQ3_S,
        ..WIDE
    },
    Tiny { name: "foreign", layers: &[FOREIGN], embedding: FOREIGN, n_ff: 128, ..BASE },
    Tiny { name: "mixed", layers: &[Q4_K, FOREIGN, F16, Q4_1, Q6_K], embedding: Q5_0, ..WIDE },
    Tiny { name: "partly rotated", layers: &[F16], n_rotated: 8, rope_base: 500.0, ..BASE },
    Tiny { name: "linear", layers: &[F32], scaling: Scaling::Linear { factor: 4.0 }, ..BASE },
    Tiny {
        name: "yarn",
        layers: &[F32],
        head_dim: 64,
        n_rotated: 64,
        scaling: Scaling::Yarn { factor: 8.0, original: 256 },
        ..BASE
    },
    Tiny {
        name: "llama3",
        layers: &[F32],
        head_dim: 64,
        n_rotated: 64,
        rope_base: 500_000.0,
        scaling: Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 64.0 },
        ..BASE
    },
    Tiny {
        name: "window",
        layers: &[F16, F32],
        extras: Extras { window: Some(20), ..LLAMA },
        ..BASE
    },
    Tiny { name: "biases", layers: &[Q8_0, F32], extras: Extras { biases: true, ..LLAMA }, ..BASE },
    Tiny {
        name: "everything",
        arch: "everything",
        n_layers: 3,
        layers: &[F32],
        extras: EVERYTHING,
        ..BASE
    },
    Tiny {
        name: "everything, quantised",
        arch: "everything",
        n_layers: 3,
        n_kv_heads: 1,
        layers: &[Q4_0, Q8_0, Q5_1, F16],
        embedding: Q8_0,
        extras: EVERYTHING,
        ..BASE
    },
    Tiny { name: "others", arch: "everything", layers: &[F32], extras: OTHERS, ..BASE },
    Tiny {
        name: "others, quantised",
        arch: "everything",
        layers: &[Q8_0],
        embedding: Q8_0,
        extras: OTHERS,
        ..BASE
    },
    Tiny {
        name: "norms after rope",
        arch: "everything",
        layers: &[F32],
        extras: Extras {
            kinds: KINDS,
            qk_norms: Some(QkNormPlace::HeadsAfterRope),
            gate: true,
            ..LLAMA
        },
        head_dim: 24,
        ..BASE
    },
    Tiny { name: "odd widths", layers: &[F16, F32, BF16], n_embd: 44, n_ff: 53, ..BASE },
    Tiny {
        name: "odd heads",
        layers: &[F16, F32],
        head_dim: 8,
        n_kv_heads: 1,
        n_rotated: 6,
        ..BASE
    },
    Tiny {
        name: "scales",
        arch: "everything",
        layers: &[F32],
        extras: Extras { kinds: KINDS, embedding_scale: 0.5, branch_scale: 1.5, ..LLAMA },
        ..BASE
    },
    Tiny {
        name: "norms behind",
        arch: "everything",
        layers: &[F32],
        extras: Extras { kinds: KINDS, norms: false, post_norms: true, ..LLAMA },
        ..BASE
    },
];

/// Merges of the vocabulary, in GPT-2's characters.
const MERGES: &[&str] = &[
    "t h", "th e", "i n", "a n", "e r", "o n", "Ġ t", "Ġt he", "an d", "Ġ a", "Ġa nd", "in g",
    "Ġ Ġ", "Ã ©",
];
const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// Tokens of every tiny model: no multiple of 16, so that the head's last group is filled up.
pub const N_VOCAB: usize = 256 + MERGES.len() + SPECIAL.len();
/// Context of every tiny model.
pub const N_CTX: u32 = 512;
/// ε of every tiny model.
pub const RMS_EPS: f32 = 1e-5;

impl Tiny {
    /// Whether no matrix is multiplied by rounded activations.
    pub fn is_float(&self) -> bool {
        let float = |ty: &u32| [F32, F16, BF16, FOREIGN].contains(ty);
        self.layers.iter().chain([&self.embedding]).chain(&self.head).all(float)
    }

    /// Radians a position of pair `i`, before any scaling.
    pub fn frequency(&self, i: usize) -> f64 {
        self.rope_base.powf(-2.0 * i as f64 / self.n_rotated as f64)
    }

    /// The file.
    pub fn parts(&self) -> Parts {
        let mut random = Random(
            self.name
                .bytes()
                .fold(1u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte))),
        );
        let mut tensors = Vec::new();
        let mut add = |name: &str, ty: u32, shape: &[usize], mean: f64, deviation: f64| {
            tensors.push(random_tensor(&mut random, name, ty, shape, (mean, deviation)));
        };
        let (q, kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let extras = &self.extras;
        let [q_norm, k_norm] = match extras.qk_norms {
            Some(QkNormPlace::WholeRow) => [q, kv],
            _ => [self.head_dim; 2],
        };
        let (e, ff) = (self.n_embd, self.n_ff);
        // Products of normalised rows then have deviation `gain`; queries and logits stand out.
        let scale = |gain: f64, n_in: usize| gain / (n_in as f64).sqrt();
        let mut types = self.layers.iter().cycle().copied();
        for i in 0..self.n_layers {
            let (whole, fused) = (!extras.fused, extras.fused);
            for (there, part, n_out, n_in, gain) in [
                (whole, "attn_q", q, e, 2.0),
                (whole, "attn_k", kv, e, 1.0),
                (whole, "attn_v", kv, e, 1.0),
                (fused, "attn_qkv", q + 2 * kv, e, 1.5),
                (true, "attn_output", e, q, 1.0),
                (whole, "ffn_gate", ff, e, 1.0),
                (whole, "ffn_up", ff, e, 1.0),
                (fused, "ffn_up", 2 * ff, e, 1.0),
                (true, "ffn_down", e, ff, 1.0),
                (extras.gate, "attn_gate", q, e, 1.0),
            ] {
                if !there {
                    continue;
                }
                let ty = types.next().expect("the cycle has no end");
                let name = format!("blk.{i}.{part}");
                add(&format!("{name}.weight"), ty, &[n_in, n_out], 0.0, scale(gain, n_in));
                if extras.biases {
                    add(&format!("{name}.bias"), F32, &[n_out], 0.0, 0.3);
                }
            }
            for (there, part, n, mean, deviation) in [
                (extras.norms, "attn_norm", e, 1.0, 0.2),
                (extras.norms, "ffn_norm", e, 1.0, 0.2),
                (extras.post_norms, "post_attention_norm", e, 1.0, 0.2),
                (extras.post_norms, "post_ffw_norm", e, 1.0, 0.2),
                (extras.qk_norms.is_some(), "attn_q_norm", q_norm, 1.5, 0.2),
                (extras.qk_norms.is_some(), "attn_k_norm", k_norm, 1.0, 0.2),
                (extras.sinks, "attn_sinks", self.n_heads, 0.0, 1.0),
            ] {
                if there {
                    add(&format!("blk.{i}.{part}.weight"), F32, &[n], mean, deviation);
                }
            }
        }
        add("output_norm.weight", F32, &[e], 1.0, 0.2);
        add("token_embd.weight", self.embedding, &[e, N_VOCAB], 0.0, scale(3.0, e));
        if let Some(head) = self.head {
            add("output.weight", head, &[e, N_VOCAB], 0.0, scale(3.0, e));
        }
        if let Some(factors) = self.llama3_factors() {
            tensors.push(tensor("rope_freqs.weight", F32, &[factors.len()], &factors));
        }
        Parts { keys: self.keys(), tensors }
    }

    fn keys(&self) -> Vec<(String, Value)> {
        let size = |n: usize| Value::U32(n as u32);
        let text = |text: &str| Value::String(text.to_owned());
        let mut keys = vec![
            ("general.architecture", text(self.arch)),
            ("general.name", text(self.name)),
            ("llama.block_count", size(self.n_layers)),
            ("llama.context_length", Value::U32(N_CTX)),
            ("llama.embedding_length", size(self.n_embd)),
            ("llama.feed_forward_length", size(self.n_ff)),
            ("llama.attention.head_count", size(self.n_heads)),
            ("llama.attention.head_count_kv", size(self.n_kv_heads)),
            ("llama.attention.key_length", size(self.head_dim)),
            ("llama.attention.value_length", size(self.head_dim)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(RMS_EPS)),
            ("llama.rope.dimension_count", size(self.n_rotated)),
            ("llama.rope.freq_base", Value::F32(self.rope_base as f32)),
        ];
        match self.scaling {
            Scaling::Linear { factor } => keys.extend([
                ("llama.rope.scaling.type", text("linear")),
                ("llama.rope.scaling.factor", Value::F32(factor as f32)),
            ]),
            Scaling::Yarn { factor, original } => keys.extend([
                ("llama.rope.scaling.type", text("yarn")),
                ("llama.rope.scaling.factor", Value::F32(factor as f32)),
                ("llama.rope.scaling.original_context_length", Value::U32(original)),
            ]),
            Scaling::None | Scaling::Llama3 { .. } => {}
        }
        if let Some(window) = self.extras.window {
            keys.push(("llama.attention.sliding_window", size(window)));
        }
        let key = |key: &str| match key.strip_prefix("llama.") {
            Some(key) => format!("{}.{key}", self.arch),
            None => key.to_owned(),
        };
        let keys = keys.into_iter().map(|(name, value)| (key(name), value));
        keys.chain(tokenizer_keys()).collect()
    }

    /// The divisors that Llama 3's converter writes.
    fn llama3_factors(&self) -> Option<Vec<f32>> {
        let Scaling::Llama3 { factor, low, high, original } = self.scaling else { return None };
        let divisor = |i| {
            let wavelength = std::f64::consts::TAU / self.frequency(i);
            if wavelength < original / high {
                1.0
            } else if wavelength > original / low {
                factor
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        };
        Some((0..self.n_rotated / 2).map(|i| divisor(i) as f32).collect())
    }
}

/// The model of this name.
pub fn tiny(name: &str) -> &'static Tiny {
    ALL.iter().find(|tiny| tiny.name == name).unwrap()
}

/// A tensor of random values, quantised.
pub fn random_tensor(
    random: &mut Random,
    name: &str,
    type_id: u32,
    shape: &[usize],
    (mean, deviation): (f64, f64),
) -> Tensor {
    let n = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|_| (mean + deviation * random.normal()) as f32).collect();
    tensor(name, type_id, shape, &values)
}

/// A tensor of the given values, quantised.
pub fn tensor(name: &str, type_id: u32, shape: &[usize], values: &[f32]) -> Tensor {
    let bytes = match type_id {
        IQ2_XXS..=IQ1_S | IQ3_S | IQ2_S => random_blocks(type_id, values),
        _ => ggml_sys::quantize(type_id, values, shape[0]).unwrap(),
    };
    let shape = shape.iter().map(|&n| n as u64).collect();
    Tensor { name: name.to_owned(), shape, type_id, bytes }
}

/// Blocks of random codes with about the deviation of `values`, for types with a codebook: before it quantises to one,
/// ggml makes tables for seconds.
fn random_blocks(type_id: u32, values: &[f32]) -> Vec<u8> {
    let deviation = |values: &[f32]| {
        (values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    let mut random = Random(u64::from(values[0].to_bits()));
    let ggml_sys::TypeInfo { block_len, block_bytes, .. } = ggml_sys::type_info(type_id).unwrap();
    let mut bytes = Vec::new();
    for values in values.chunks(block_len) {
        let mut block: Vec<u8> = (0..block_bytes).map(|_| random.bits() as u8).collect();
        // They begin with the scale.
        block[..2].copy_from_slice(&f16::ONE.to_le_bytes());
        let mut weights = vec![0.0; block_len];
        ggml_sys::dequantize(type_id, &block, &mut weights).unwrap();
        let scale = f16::from_f64(deviation(values) / deviation(&weights));
        block[..2].copy_from_slice(&scale.to_le_bytes());
        bytes.extend(block);
    }
    bytes
}

/// Byte-level BPE: all bytes, a few merges, three special tokens.
/// The keys of the tokenizer of every tiny model.
pub fn tokenizer_keys() -> impl Iterator<Item = (String, Value)> {
    let text = |text: &str| Value::String(text.to_owned());
    let keys = [
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.bos_token_id", Value::U32(N_VOCAB as u32 - 2)),
        ("tokenizer.ggml.eos_token_id", Value::U32(N_VOCAB as u32 - 1)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
    ];
    keys.into_iter().chain(vocabulary()).map(|(key, value)| (key.to_owned(), value))
}

fn vocabulary() -> [(&'static str, Value); 3] {
    let mut others = '\u{100}'..;
    let mut tokens: Vec<String> = (0..=255u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae.. => char::from(byte).to_string(),
            _ => others.next().unwrap().to_string(),
        })
        .collect();
    tokens.extend(MERGES.iter().map(|merge| merge.replace(' ', "")));
    tokens.extend(SPECIAL.map(str::to_owned));
    let mut kinds = vec![1; tokens.len()];
    kinds[N_VOCAB - SPECIAL.len()..].fill(3);
    let merges = MERGES.iter().map(|merge| (*merge).to_owned()).collect();
    [
        ("tokenizer.ggml.tokens", Value::Array(Array::String(tokens))),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds))),
        ("tokenizer.ggml.merges", Value::Array(Array::String(merges))),
    ]
}
