//! The file of a trained drafter. `docs/drafter-format.md` documents the keys and tensors of our own format; `eagle3`
//! is llama.cpp's format of EAGLE-3 checkpoints.

use super::dynamic_vocab::DynamicVocab;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, OpenOptions};
use crate::model::arch::decoder;
use crate::model::block::{Block, Norm};
use crate::model::{self, Config, EMBEDDING, Embedding, Keys, Model, Repack, Source};
use dovetail_kernels::cpu::{RopeStyle, WeightMatrix};
use std::path::Path;

/// `general.architecture` of our format, and the prefix of its keys.
const ARCH: &str = "dovetail-dgf";
/// The same of EAGLE-3's files.
const EAGLE3: &str = "eagle3";
/// All architectures that can be read.
pub(in crate::draft) const ARCHITECTURES: [&str; 2] = [ARCH, EAGLE3];
/// The version of the format.
const VERSION: u32 = 1;

/// The fingerprint of the target that the file names, if it is a drafter's file that names one.
pub(in crate::draft) fn target_of(gguf: &Gguf) -> Option<&str> {
    let metadata = gguf.metadata();
    let text = |key: &str| metadata.get_str(key).ok().flatten();
    let arch = text("general.architecture").filter(|arch| ARCHITECTURES.contains(arch))?;
    text(&format!("{arch}.target.fingerprint"))
}

/// A drafter's weights; `H` is its hidden size.
pub(in crate::draft) struct File {
    /// Identifies the file.
    pub fingerprint: u64,
    /// Of the drafter's blocks; `n_vocab` is the size of the draft vocabulary.
    pub config: Config,
    /// Layers of the target whose input hidden states it reads: see [`crate::infer::Target::tap`].
    pub taps: Vec<usize>,
    /// Length of a row of hidden states: taps · the target's `n_embd`; it is `H` if there are no `features`.
    pub width: usize,
    /// Projects several hidden states to one feature.
    pub features: Option<Features>,
    /// RMSNorm of the feature and of the token's embedding, if there are such: (H) each.
    pub norms: Option<[Vec<f32>; 2]>,
    pub fusion: Fusion,
    pub blocks: Vec<Block>,
    /// RMSNorm before the head, if there is one.
    pub output_norm: Option<Norm>,
    /// (n_draft, H), if it is not the target's whole head.
    head: Option<WeightMatrix>,
    /// (n_vocab, H), if it is not the target's.
    embedding: Option<Embedding>,
    /// The target's token of each draft token; `None` if they are the same.
    pub tokens: Option<Vec<u32>>,
    /// Whether the head consists of the target's rows, so that others can be added to it.
    grows: bool,
}

/// Projects several hidden states to one feature.
pub(in crate::draft) struct Features {
    /// RMSNorm of each hidden state, if there is one: (taps, H).
    pub norms: Option<Vec<Vec<f32>>>,
    /// (H, width).
    pub matrix: WeightMatrix,
}

/// How the feature and the token's embedding are fused.
#[allow(clippy::large_enum_variant, reason = "a drafter has one")]
pub(in crate::draft) enum Fusion {
    /// Dynamic gating fusion, arXiv 2412.18934: (H, H), (H, H), (H, 2H).
    CpuDrafter { feature: WeightMatrix, token: WeightMatrix, gate: WeightMatrix },
    /// EAGLE's, arXiv 2401.15077: (H, 2H), of which the first H columns are the token's, and (H).
    Fc { matrix: WeightMatrix, bias: Option<Vec<f32>> },
    /// EAGLE-3's, arXiv 2503.01840: attention of the first block reads both, the token first. Its output is added to
    /// the feature, which is `normed` before or not.
    Attention { normed: bool },
}

/// The fusion that the keys of a file name.
#[derive(Clone, Copy)]
enum Kind {
    CpuDrafter,
    Fc,
    Eagle,
    Eagle3 { normed: bool },
}

/// The keys of a file.
struct Header<'a> {
    gguf: &'a Gguf,
    target: &'a Config,
    arch: &'static str,
    kind: Kind,
    /// Layers of the target whose input is tapped; empty for its last hidden state.
    layers: Vec<usize>,
}

impl File {
    /// Reads a drafter for `target`.
    ///
    /// # Errors
    /// If the file cannot be read, is malformed, or belongs to another target.
    pub fn open(path: &Path, target: &Model, threads: usize) -> Result<File> {
        let mut file = File::read(path, target, threads, Repack::Memory)?;
        if let Some(tokens) = file.tokens.as_ref().filter(|_| file.grows) {
            file.head = Some(target.head_of(tokens, threads)?);
        }
        Ok(file)
    }

    /// Reads a drafter for `target` without repacking its matrices, and without building a head from the target's rows.
    ///
    /// # Errors
    /// Those of [`File::open`].
    pub fn native(path: &Path, target: &Model) -> Result<File> {
        File::read(path, target, 1, Repack::Off)
    }

    fn read(path: &Path, target: &Model, threads: usize, repack: Repack) -> Result<File> {
        let gguf = Gguf::open_with(path, OpenOptions::default())?;
        let header = Header::read(&gguf, target)?;
        let mut file = model::take(&gguf, threads, repack, |source| header.take(source))?;
        file.grows = file.head.is_none() && file.tokens.is_some();
        Ok(file)
    }

    /// The dynamic vocabulary of a sequence, if tokens can be added to the head.
    pub fn dynamic_vocab(&self, target: &Model) -> Option<DynamicVocab> {
        let tokens = self.tokens.as_ref().filter(|_| self.grows)?;
        Some(DynamicVocab::new(tokens, target.config().n_vocab))
    }

    /// The head for the draft vocabulary: (n_draft, H).
    pub fn head<'a>(&'a self, target: &'a Model) -> &'a WeightMatrix {
        self.head.as_ref().unwrap_or(&target.weights().output)
    }

    /// Writes the embedding of `token`, which must be in the target's vocabulary: (H).
    pub fn embed(&self, target: &Model, token: u32, out: &mut [f32]) {
        match &self.embedding {
            Some(embedding) => embedding.row(token, out),
            None => target.embed(token, out),
        }
    }

    /// All matrices.
    pub fn matrices<'a>(&'a self, target: &'a Model) -> impl Iterator<Item = &'a WeightMatrix> {
        let fusion = match &self.fusion {
            Fusion::CpuDrafter { feature, token, gate } => vec![feature, token, gate],
            Fusion::Fc { matrix, .. } => vec![matrix],
            Fusion::Attention { .. } => vec![],
        };
        let blocks = self.blocks.iter().flat_map(Block::matrices);
        let features = self.features.iter().map(|features| &features.matrix);
        blocks.chain(fusion).chain(features).chain([self.head(target)])
    }
}

impl<'a> Header<'a> {
    fn read(gguf: &'a Gguf, target: &'a Model) -> Result<Header<'a>> {
        let (metadata, t) = (gguf.metadata(), target.config());
        let found = metadata.require_str("general.architecture")?;
        let Some(arch) = ARCHITECTURES.into_iter().find(|arch| *arch == found) else {
            let known = ARCHITECTURES.join(", ");
            let what = format!("is of architecture `{found}`, not one of a drafter's: {known}");
            return Err(Error::gguf(gguf.path(), what));
        };
        let key = |name: &str| format!("{arch}.{name}");
        let wrong = |what: String| Err(Error::gguf(gguf.path(), what));
        let ours = arch == ARCH;
        if ours {
            let version = metadata.require_u32(&key("version"))?;
            if version != VERSION {
                return wrong(format!(
                    "has version {version} of the format; this program reads {VERSION}"
                ));
            }
        }
        // Files converted by llama.cpp do not name their target.
        let fingerprint = key("target.fingerprint");
        let fingerprint = match ours {
            true => Some(metadata.require_str(&fingerprint)?),
            false => metadata.get_str(&fingerprint)?,
        };
        if fingerprint.is_some_and(|found| found != target.fingerprint()) {
            let what = "was trained for another model than this target; train one with \
                        scripts/train_drafter.py or convert one with scripts/convert_eagle.py";
            return wrong(what.into());
        }
        let [width, layers] = match ours {
            true => ["embedding_length", "feature_layers"],
            false => ["target_hidden_size", "extract_layers"],
        };
        let width = metadata.require_u32(&key(width))? as usize;
        if width != t.n_embd {
            return wrong(format!("is for a target {width} wide, not {}", t.n_embd));
        }
        let size = |name: &str| match ours {
            true => metadata.require_u32(&key(name)).map(Some),
            false => metadata.get_u32(&key(name)),
        };
        let vocabulary = if ours { "target.vocabulary" } else { "vocab_size" };
        for (name, expected) in [("target.block_count", t.n_layers), (vocabulary, t.n_vocab)] {
            if let Some(found) = size(name)?.filter(|found| *found as usize != expected) {
                return wrong(format!("is for a target whose {name} is {found}, not {expected}"));
            }
        }
        let layers = metadata.get_u32_array(&key(layers))?.unwrap_or_default();
        if let Some(layer) = layers.iter().find(|layer| **layer as usize >= t.n_layers) {
            return wrong(format!("asks for layer {layer} of a target with {}", t.n_layers));
        }
        if layers.windows(2).any(|pair| pair[0] >= pair[1]) {
            return wrong("has feature layers that do not ascend".into());
        }
        let kind = match ours {
            true => match metadata.require_str(&key("fusion"))? {
                "dgf" => Kind::CpuDrafter,
                "fc" => Kind::Fc,
                "eagle" => Kind::Eagle,
                other => return wrong(format!("fuses by `{other}`; known: dgf, fc, eagle")),
            },
            false if layers.is_empty() => return wrong("taps no layer; convert it anew".into()),
            false => {
                let normed = metadata.get_bool(&key("norm_before_residual"))?;
                Kind::Eagle3 { normed: normed.unwrap_or(false) }
            }
        };
        let layers = layers.into_iter().map(|layer| layer as usize).collect();
        Ok(Header { gguf, target: t, arch, kind, layers })
    }

    fn take(&self, source: &mut Source) -> Result<File> {
        let Header { gguf, target: t, arch, kind, layers: tapped } = self;
        let eagle3 = matches!(kind, Kind::Eagle3 { .. });
        let tokens = self.tokens(source, if eagle3 { "d2t" } else { "draft_tokens" })?;
        let n_draft = tokens.as_ref().map_or(t.n_vocab, Vec::len);
        let mut config = Keys::new(gguf, arch).blocks(RopeStyle::Adjacent, n_draft, t.n_ctx)?;
        let h = config.n_embd;
        let norms = ["fuse_feature_norm.weight", "fuse_token_norm.weight"];
        let (norms, fusion, first_width) = match *kind {
            Kind::CpuDrafter => {
                let feature = source.matrix("fuse_feature.weight", h, h)?;
                let token = source.matrix("fuse_token.weight", h, h)?;
                let gate = source.matrix("fuse_gate.weight", h, 2 * h)?;
                (Some(norms), Fusion::CpuDrafter { feature, token, gate }, None)
            }
            Kind::Fc => {
                let matrix = source.matrix("fuse.weight", h, 2 * h)?;
                (Some(norms), Fusion::Fc { matrix, bias: None }, None)
            }
            Kind::Eagle => {
                let matrix = source.matrix("fuse.weight", h, 2 * h)?;
                let bias = Some(source.vector("fuse.bias", h)?);
                (None, Fusion::Fc { matrix, bias }, Some(h))
            }
            Kind::Eagle3 { normed } => {
                let norms = ["blk.0.attn_norm_2.weight", "blk.0.attn_norm.weight"];
                (Some(norms), Fusion::Attention { normed }, Some(2 * h))
            }
        };
        let mut norm = |name: &str| source.vector(name, h);
        let norms = match norms {
            Some([feature, token]) => Some([norm(feature)?, norm(token)?]),
            None => None,
        };
        let output_norm = match kind {
            Kind::Eagle => None,
            _ => Some(Norm::rms(norm("output_norm.weight")?, config.norm_eps)),
        };
        let width = tapped.len().max(1) * t.n_embd;
        let features = match tapped.len() {
            0 => None,
            _ if eagle3 => {
                Some(Features { norms: None, matrix: source.matrix("fc.weight", h, width)? })
            }
            n => {
                let norms = (0..n).map(|j| norm(&format!("feature_norm.{j}.weight")));
                let norms = Some(norms.collect::<Result<_>>()?);
                Some(Features { norms, matrix: source.matrix("features.weight", h, width)? })
            }
        };
        let blocks = decoder::blocks(&config, source, &decoder::LLAMA, first_width)?;
        let head = if eagle3 { self.own_head(source, n_draft, h)? } else { None };
        if head.is_none() {
            (config.logit_scale, config.logit_soft_cap) = (t.logit_scale, t.logit_soft_cap);
        }
        Ok(File {
            fingerprint: gguf.content_fingerprint(),
            taps: if tapped.is_empty() { vec![t.n_layers] } else { tapped.clone() },
            width,
            features,
            norms,
            fusion,
            blocks,
            output_norm,
            head,
            embedding: if eagle3 { self.own_embedding(h)? } else { None },
            config,
            tokens,
            grows: false,
        })
    }

    /// The target's token of each draft token.
    fn tokens(&self, source: &mut Source, name: &str) -> Result<Option<Vec<u32>>> {
        let (tokens, n_vocab) = (source.integers(name)?, self.target.n_vocab);
        let Some(tokens) = tokens else { return Ok(None) };
        let wrong = |what| Err(Error::gguf(self.gguf.path(), what));
        if !tokens.is_sorted_by(|a, b| a < b) {
            return wrong("has a draft vocabulary that does not ascend; convert it anew".into());
        }
        match tokens.last() {
            None => wrong("has an empty draft vocabulary; convert it anew".into()),
            Some(last) if *last as usize >= n_vocab => {
                wrong(format!("has the draft token {last} of a target with {n_vocab}"))
            }
            Some(_) => Ok(Some(tokens)),
        }
    }

    fn own_head(
        &self,
        source: &mut Source,
        n_draft: usize,
        h: usize,
    ) -> Result<Option<WeightMatrix>> {
        const HEAD: &str = "output.weight";
        match self.gguf.tensor(HEAD) {
            None if h == self.target.n_embd => Ok(None),
            _ => source.matrix(HEAD, n_draft, h).map(Some),
        }
    }

    fn own_embedding(&self, h: usize) -> Result<Option<Embedding>> {
        match self.gguf.tensor(EMBEDDING) {
            None if h == self.target.n_embd => Ok(None),
            _ => Embedding::of(self.gguf, EMBEDDING, [h, self.target.n_vocab], false, false)
                .map(Some),
        }
    }
}
