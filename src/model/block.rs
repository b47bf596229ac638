//! A decoder block as data: what an architecture's file fills in and a pass carries out.
//!
//! ```text
//! x += scale · post_norm(mixer(norm(x)))
//! x += scale · post_norm(ffn(norm(x)))
//! x += scale · post_norm(per_layer(norm(x)))
//! x *= output_scale
//! ```
//!
//! Most blocks end with the second line. In a parallel block both branches read the `x` that enters it.
//!
//! New mathematics is a field or a case here. Whoever works through blocks (packing, a pass, a pass's
//! buffers, an upload to a GPU) destructures them without `..`, so that the compiler names all who have
//! to say what they do with it.

use dovetail_kernels::cpu::{ActivationFormats, Kernels, LANES, WeightMatrix};

/// One decoder block.
pub struct Block {
    /// What mixes a row with those that it sees.
    pub mixer: Branch<Mixer>,
    /// What works on each row alone.
    pub ffn: Branch<FeedForward>,
    /// Whether the feed-forward layer reads what enters the block, not what the mixer has added to.
    pub parallel: bool,
    /// What adds the embeddings of this block: see [`PerLayer`].
    pub per_layer: Option<Branch<PerLayer>>,
    /// What the hidden state is multiplied by in the end: 1 in most models.
    pub output_scale: f32,
}

/// A layer and its way out of and back into the hidden state.
pub struct Branch<T> {
    /// Norm of what the layer reads, (n_embd); none where it reads the hidden state as it is.
    pub norm: Option<Norm>,
    /// The layer.
    pub layer: T,
    /// Norm of what the layer leaves: (n_embd).
    pub post_norm: Option<Norm>,
    /// What that is multiplied by before it is added to the hidden state: 1 in most models.
    pub scale: f32,
}

/// A norm of rows, without a bias.
#[derive(Clone)]
pub struct Norm {
    /// What is computed.
    pub kind: NormKind,
    /// (n).
    pub weight: Vec<f32>,
    /// ε.
    pub eps: f32,
}

/// Kinds of norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// arXiv 1910.07467.
    Rms,
    /// arXiv 1607.06450.
    Layer,
}

impl Norm {
    /// RMSNorm with these weights.
    pub fn rms(weight: Vec<f32>, eps: f32) -> Norm {
        Norm { kind: NormKind::Rms, weight, eps }
    }

    /// Computes the norm of `x`: (n).
    pub fn apply(&self, kernels: &Kernels, x: &[f32], out: &mut [f32]) {
        let Norm { kind, weight, eps } = self;
        let norm = match kind {
            NormKind::Rms => kernels.rms_norm,
            NormKind::Layer => kernels.layer_norm,
        };
        norm(x, weight, *eps, out);
    }
}

/// How rows are mixed.
pub enum Mixer {
    /// Attention with grouped heads.
    Attention(Attention),
}

/// Attention with grouped heads.
pub struct Attention {
    /// Queries: (n_heads · head_dim, n_in). `n_in` is n_embd, or the width of the rows that a drafter gives its first
    /// block.
    pub q: Linear,
    /// Keys and values; none where the block reads those of another ([`kv_layers`](crate::model::Config::kv_layers)).
    pub kv: Option<KeysValues>,
    /// Norms of queries and keys.
    pub qk_norm: Option<QkNorm>,
    /// What scores are multiplied by.
    pub scale: f32,
    /// Scores become `cap · tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    /// One more score for each head, which has a share of the softmax and no value: (n_heads).
    pub sinks: Option<Vec<f32>>,
    /// What the heads are multiplied by after a sigmoid: (n_heads · head_dim, n_in).
    pub gate: Option<Linear>,
    /// (n_embd, n_heads · head_dim).
    pub output: Linear,
}

/// Keys and values of a block.
pub struct KeysValues {
    /// (n_kv_heads · head_dim, n_in).
    pub k: Linear,
    /// (n_kv_heads · head_dim, n_in); none where the products of `k` are values too.
    pub v: Option<Linear>,
    /// Norm of each head of values, (head_dim): all ones where it has no weights.
    pub v_norm: Option<Norm>,
}

/// Norms of queries and keys.
pub struct QkNorm {
    /// (head_dim), or (n_heads · head_dim) where all heads are normed together.
    pub q: Norm,
    /// (head_dim), or (n_kv_heads · head_dim); none where the block has no keys.
    pub k: Option<Norm>,
    /// What is normed, and when.
    pub place: QkNormPlace,
}

/// What norms of queries and keys are applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNormPlace {
    /// Each head, before positions are embedded.
    HeadsBeforeRope,
    /// Each head, after positions are embedded.
    HeadsAfterRope,
    /// All heads of a row together, before positions are embedded.
    WholeRow,
}

/// What works on each row alone.
pub enum FeedForward {
    /// All of its weights take part for every row.
    Dense(Dense),
}

/// `down · (activation(gate · x) ⊙ (up · x))`
pub struct Dense {
    /// Between the products.
    pub activation: Activation,
    /// (n_ff, n_in).
    pub gate: Linear,
    /// (n_ff, n_in).
    pub up: Linear,
    /// (n_embd, n_ff).
    pub down: Linear,
}

/// Adds embeddings that a token has for this block alone, p: `projection · (GELU(gate · x) ⊙ p)`.
pub struct PerLayer {
    /// (n_embd_per_layer, n_embd).
    pub gate: Linear,
    /// (n_embd, n_embd_per_layer).
    pub projection: Linear,
}

/// A gated activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · σ(x)`, arXiv 2002.05202.
    SwiGlu,
    /// GELU in its tanh form, arXiv 1606.08415.
    GeGlu,
}

/// A matrix, and what is added to its products.
pub struct Linear {
    /// (n_out, n_in).
    pub matrix: WeightMatrix,
    bias: Option<Vec<f32>>, // (n_out), zeros up to whole groups
}

impl Linear {
    /// A matrix with a bias, (n_out), or without.
    pub fn new(matrix: WeightMatrix, bias: Option<Vec<f32>>) -> Linear {
        let bias = bias.map(|mut bias| {
            assert_eq!(bias.len(), matrix.n_rows(), "a bias has an element for each output");
            bias.resize(matrix.n_groups() * LANES, 0.0);
            bias
        });
        Linear { matrix, bias }
    }

    /// The bias, with zeros up to whole groups of 16.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }
}

impl Block {
    /// All matrices, in the order in which a pass reads them.
    pub fn matrices(&self) -> impl Iterator<Item = &WeightMatrix> {
        let Block { mixer, ffn, parallel: _, per_layer, output_scale: _ } = self;
        let (Mixer::Attention(attention), FeedForward::Dense(dense)) = (&mixer.layer, &ffn.layer);
        let per_layer = per_layer.iter().flat_map(|branch| branch.layer.linears());
        let linears = attention.linears().chain(dense.linears()).chain(per_layer);
        linears.map(|linear| &linear.matrix)
    }
}

impl Attention {
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        let Attention { q: _, kv: _, qk_norm: _, scale: _, soft_cap: _, sinks: _, gate: _, output } =
            self;
        self.inputs().chain([output])
    }

    /// Matrices that read the row as it enters, in the order of their products.
    pub fn inputs(&self) -> impl Iterator<Item = &Linear> + Clone {
        let keys_values =
            self.kv.iter().flat_map(|KeysValues { k, v, v_norm: _ }| std::iter::once(k).chain(v));
        std::iter::once(&self.q).chain(keys_values).chain(&self.gate)
    }
}

impl PerLayer {
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        let PerLayer { gate, projection } = self;
        [gate, projection].into_iter()
    }
}

impl Dense {
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        let Dense { activation: _, gate, up, down } = self;
        [gate, up, down].into_iter()
    }
}

/// Formats of activations that matrices with the same input read.
pub fn formats<'a>(linears: impl IntoIterator<Item = &'a Linear>) -> ActivationFormats {
    let each = linears.into_iter().map(|linear| linear.matrix.formats());
    each.fold(ActivationFormats::default(), |all, formats| all | formats)
}
