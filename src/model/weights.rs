//! Matrices and norms, taken out of the file tensor by tensor.

use super::block::{Block, Linear, Norm};
use crate::error::{Error, Result};
use crate::gguf::{Gguf, TensorView};
use dovetail_kernels::cpu::{GgufMatrix, ProductScratch, WeightMatrix};
use dovetail_kernels::{SharedBytes, quant};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

/// The embedding's name; also the head of models that have no `output.weight`.
pub(crate) const EMBEDDING: &str = "token_embd.weight";

/// The embeddings of tokens for each block: (n_vocab, n_layers · n_embd_per_layer).
pub(crate) const PER_LAYER_EMBEDDING: &str = "per_layer_token_embd.weight";

/// All weights but the embeddings, whose rows are read from the file as they are needed.
pub struct Weights {
    /// What makes the embeddings that enter each block; none in most models.
    pub per_layer: Option<PerLayerInput>,
    /// Decoder blocks, in order.
    pub blocks: Vec<Block>,
    /// Last norm: (n_embd).
    pub output_norm: Norm,
    /// The head: (n_vocab, n_embd).
    pub output: WeightMatrix,
}

impl Weights {
    /// Bytes that one pass reads, of one row or many.
    pub fn bytes(&self) -> usize {
        self.matrices().map(WeightMatrix::bytes).sum()
    }

    /// Number of weights that one pass multiplies each row by.
    pub fn count(&self) -> usize {
        self.matrices().map(|w| w.n_rows() * w.n_cols()).sum()
    }

    /// What a thread needs to multiply by any of them.
    pub fn scratch(&self) -> ProductScratch {
        ProductScratch::for_matrices(self.matrices())
    }

    fn matrices(&self) -> impl Iterator<Item = &WeightMatrix> {
        let Weights { per_layer, blocks, output_norm: _, output } = self;
        let per_layer = per_layer.iter().map(|PerLayerInput { projection, norm: _ }| projection);
        per_layer.chain(blocks.iter().flat_map(Block::matrices)).chain([output])
    }
}

/// Makes what enters each block beside the hidden state, from a token's embedding e and its embedding for that block,
/// b: `(norm(projection · e / √n_embd) + √n_embd_per_layer · b) / √2`.
///
/// # Source
/// Gemma 3n and 4.
pub struct PerLayerInput {
    /// (n_layers · n_embd_per_layer, n_embd).
    pub projection: WeightMatrix,
    /// (n_embd_per_layer).
    pub norm: Norm,
}

/// A matrix that an architecture asked for, as it lies in the file.
pub(super) struct Matrix {
    pub(super) place: MatrixPlace,
    pub(super) rows: GgufMatrix,
}

/// Where a matrix lies in the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct MatrixPlace {
    pub(super) tensor: String,
    /// Its first row in the tensor, which holds other matrices too where that is not 0.
    pub(super) first: usize,
}

impl fmt::Display for MatrixPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MatrixPlace { tensor, first } = self;
        match first {
            0 => write!(f, "{tensor}"),
            _ => write!(f, "{tensor} from row {first}"),
        }
    }
}

/// Where an architecture takes its tensors from; in the end none may be left over.
///
/// A model is taken twice: first with native rows, which checks everything and costs nothing, then
/// with what was packed in between.
pub struct Source<'a> {
    gguf: &'a Gguf,
    packed: HashMap<MatrixPlace, SharedBytes>,
    used: HashSet<String>,
    native: Vec<Matrix>,
    /// The first matrix of each name within a block, and whether it has a bias.
    biased: HashMap<String, (String, bool)>,
}

impl<'a> Source<'a> {
    /// Matrices come from `packed`, by name, or else as native rows.
    pub(super) fn new(gguf: &'a Gguf, packed: HashMap<MatrixPlace, SharedBytes>) -> Self {
        // Read while configuring, or worth nothing at run time.
        let used = [
            EMBEDDING,
            "rope_freqs.weight",
            "rope_factors_long.weight",
            "rope_factors_short.weight",
        ];
        let used = used.map(str::to_owned).into();
        Source { gguf, packed, used, native: Vec::new(), biased: HashMap::new() }
    }

    /// Checks that the file has the tensor `name`.
    pub fn require(&self, name: &str) -> Result<()> {
        self.gguf.require_tensor(name).map(drop)
    }

    /// The matrix `name` of `n_out` rows and `n_in` columns.
    pub fn matrix(&mut self, name: &str, n_out: usize, n_in: usize) -> Result<WeightMatrix> {
        self.rows(name, 0..n_out, n_out, n_in)
    }

    /// These rows of the matrix `name` of `n_out` rows and `n_in` columns.
    fn rows(
        &mut self,
        name: &str,
        rows: Range<usize>,
        n_out: usize,
        n_in: usize,
    ) -> Result<WeightMatrix> {
        let tensor = self.gguf.require_tensor(name)?;
        expect_shape(self.gguf, &tensor, &[n_in, n_out])?;
        let error = |what: String| {
            Error::Unsupported(format!("{}: tensor `{name}`: {what}", self.gguf.path().display()))
        };
        let ty = quant::type_info(tensor.type_id())
            .ok_or_else(|| error(format!("{} weights cannot be run", tensor.type_name())))?;
        let bytes = self.gguf.share(&tensor);
        let row = bytes.len() / n_out;
        let part = bytes.part(rows.start * row..rows.end * row).expect("rows of the matrix");
        let native = GgufMatrix::new(ty, rows.len(), n_in, part).map_err(error)?;
        self.used.insert(name.to_owned());
        let place = MatrixPlace { tensor: name.to_owned(), first: rows.start };
        if let Some(bytes) = self.packed.get(&place) {
            return WeightMatrix::from_packed(&native, bytes.clone()).map_err(error);
        }
        self.native.push(Matrix { place, rows: native.clone() });
        Ok(WeightMatrix::native(native))
    }

    /// The matrix `NAME.weight` of `n_out` rows and `n_in` columns, with the bias `NAME.bias` if the file has
    /// one: all matrices `blk.N.PART` of one part have a bias, or none.
    pub fn linear(&mut self, name: &str, n_out: usize, n_in: usize) -> Result<Linear> {
        let matrix = self.matrix(&format!("{name}.weight"), n_out, n_in)?;
        Ok(Linear::new(matrix, self.bias(name, n_out)?))
    }

    /// The bias `NAME.bias`, (n_out), if the file has one.
    fn bias(&mut self, name: &str, n_out: usize) -> Result<Option<Vec<f32>>> {
        let bias = format!("{name}.bias");
        let has_bias = self.gguf.tensor(&bias).is_some();
        let in_block = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let part = in_block.map_or(name, |(_, part)| part).to_owned();
        let (first, first_has) = self.biased.entry(part).or_insert((name.to_owned(), has_bias));
        if *first_has != has_bias {
            let missing = if has_bias { first } else { name };
            let what = "though other blocks have one; convert the model anew";
            let what = format!("tensor `{missing}.bias` is missing, {what}");
            return Err(Error::gguf(self.gguf.path(), what));
        }
        has_bias.then(|| self.vector(&bias, n_out)).transpose()
    }

    /// The matrices whose rows follow one another in the matrix `NAME.weight`, `n_out` rows each, and their parts of the
    /// bias `NAME.bias` if the file has one.
    pub fn split_linear<const N: usize>(
        &mut self,
        name: &str,
        n_out: [usize; N],
        n_in: usize,
    ) -> Result<[Linear; N]> {
        let bias = self.bias(name, n_out.iter().sum())?;
        let (weight, mut first, mut parts) = (format!("{name}.weight"), 0, Vec::new());
        for n in n_out {
            let rows = first..first + n;
            let bias = bias.as_ref().map(|bias| bias[rows.clone()].to_vec());
            let matrix = self.rows(&weight, rows, n_out.iter().sum(), n_in)?;
            parts.push(Linear::new(matrix, bias));
            first += n;
        }
        Ok(parts.try_into().unwrap_or_else(|_| unreachable!("one for each")))
    }

    /// Reads the weights `NAME.weight`, (n), of an RMSNorm.
    pub fn rms_norm(&mut self, name: &str, n: usize, eps: f32) -> Result<Norm> {
        Ok(Norm::rms(self.vector(&format!("{name}.weight"), n)?, eps))
    }

    /// Whether the file has the tensor `name`.
    pub fn has(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// Lets the tensor `name` be in the file, though it is not taken here.
    pub fn pass_over(&mut self, name: &str) {
        self.used.insert(name.to_owned());
    }

    /// The one number of the tensor `name`, if there is such a tensor.
    pub fn scalar(&mut self, name: &str) -> Result<Option<f32>> {
        if !self.has(name) {
            return Ok(None);
        }
        Ok(self.vector(name, 1)?.pop())
    }

    /// What makes the embeddings of `width` numbers that enter each block.
    pub fn per_layer_input(
        &mut self,
        n_layers: usize,
        width: usize,
        n_embd: usize,
        eps: f32,
    ) -> Result<PerLayerInput> {
        self.pass_over(PER_LAYER_EMBEDDING);
        let projection = self.matrix("per_layer_model_proj.weight", n_layers * width, n_embd)?;
        Ok(PerLayerInput { projection, norm: self.rms_norm("per_layer_proj_norm", width, eps)? })
    }

    /// Reads the vector `name` of `n` elements.
    pub fn vector(&mut self, name: &str, n: usize) -> Result<Vec<f32>> {
        let tensor = self.gguf.require_tensor(name)?;
        self.used.insert(name.to_owned());
        let vector = floats(self.gguf, &tensor, &[n]);
        // With these few bytes the system has mapped megabytes of matrices around them.
        self.gguf.release(&tensor, 0..tensor.bytes().len());
        vector
    }

    /// The numbers of the tensor `name` of type I32 or I64, if there is one.
    pub fn integers(&mut self, name: &str) -> Result<Option<Vec<u32>>> {
        const I32: u32 = 26;
        const I64: u32 = 27;
        let Some(tensor) = self.gguf.tensor(name) else { return Ok(None) };
        self.used.insert(name.to_owned());
        let bytes = tensor.bytes();
        let numbers: Option<Vec<u32>> = match (tensor.type_id(), tensor.shape().len()) {
            (I32, 1) => Some(bytes.as_chunks().0.iter().map(|x| u32::from_le_bytes(*x)).collect()),
            (I64, 1) => {
                let numbers = bytes.as_chunks().0.iter().map(|x| u64::from_le_bytes(*x));
                numbers.map(|x| u32::try_from(x).ok()).collect()
            }
            _ => None,
        };
        numbers.map(Some).ok_or_else(|| {
            let what = format!(
                "tensor `{name}` is no list of I32 or I64 of 32 bits; convert the file anew"
            );
            Error::gguf(self.gguf.path(), what)
        })
    }

    /// The head: its own matrix, or the embedding's where the file has none.
    pub fn head(&mut self, n_vocab: usize, n_embd: usize) -> Result<WeightMatrix> {
        self.matrix(head_name(self.gguf), n_vocab, n_embd)
    }

    /// Checks that the architecture has used every tensor: one it ignores would change the answer.
    /// Returns the matrices that were given out as native rows, in order.
    pub(super) fn finish(self) -> Result<Vec<Matrix>> {
        match self.gguf.tensors().find(|t| !self.used.contains(t.name())) {
            None => Ok(self.native),
            Some(t) => Err(Error::Unsupported(format!(
                "{}: tensor `{}` belongs to a variant of the architecture that cannot be run yet",
                self.gguf.path().display(),
                t.name()
            ))),
        }
    }
}

/// The tensor that is the head.
pub(super) fn head_name(gguf: &Gguf) -> &'static str {
    const HEAD: &str = "output.weight";
    if gguf.tensor(HEAD).is_some() { HEAD } else { EMBEDDING }
}

pub(super) fn expect_shape(gguf: &Gguf, tensor: &TensorView, shape: &[usize]) -> Result<()> {
    if trimmed(tensor.shape()) == trimmed(shape) {
        return Ok(());
    }
    let (name, found) = (tensor.name(), tensor.shape());
    let what =
        format!("tensor `{name}` has shape {found:?}, not {shape:?}; convert the model anew");
    Err(Error::gguf(gguf.path(), what))
}

/// A shape without last dimensions of 1, which some files have.
pub(super) fn trimmed(shape: &[usize]) -> &[usize] {
    let used = shape.iter().rposition(|n| *n != 1).map_or(0, |last| last + 1);
    &shape[..used]
}

/// Dequantises a small tensor of the given shape.
pub(super) fn floats(gguf: &Gguf, tensor: &TensorView, shape: &[usize]) -> Result<Vec<f32>> {
    expect_shape(gguf, tensor, shape)?;
    let ty = quant::type_info(tensor.type_id()).ok_or_else(|| {
        let (name, ty) = (tensor.name(), tensor.type_name());
        Error::gguf(gguf.path(), format!("tensor `{name}` has type {ty}, not floats"))
    })?;
    let mut out = vec![0.0; shape.iter().product()];
    ty.dequantize(tensor.bytes(), &mut out);
    Ok(out)
}
