//! The file of a drafter: `docs/drafter-format.md` says what each key and tensor means.

use crate::error::{Error, Result};
use crate::gguf::{Gguf, OpenOptions};
use crate::model::arch::llama;
use crate::model::{self, Config, Keys, Layer, Model, Source};
use dovetail_kernels::cpu::{Packed, RopeStyle};
use std::path::Path;

/// `general.architecture`, and the prefix of the keys.
pub(in crate::draft) const ARCH: &str = "dovetail-dgf";
/// The version of the format.
const VERSION: u32 = 1;

/// The fingerprint of the target that a file is a drafter for, if it is one.
pub(in crate::draft) fn target_of(gguf: &Gguf) -> Option<&str> {
    let metadata = gguf.metadata();
    let text = |key: &str| metadata.get_str(key).ok().flatten();
    text("general.architecture").filter(|arch| *arch == ARCH)?;
    text(&format!("{ARCH}.target.fingerprint"))
}

/// A drafter's weights.
pub(super) struct File {
    /// Of its blocks; the vocabulary is the draft vocabulary.
    pub config: Config,
    /// Hidden states of the target: see [`crate::target::Target::tap`].
    pub taps: Vec<usize>,
    /// What turns several hidden states into one feature.
    pub features: Option<Features>,
    /// RMSNorm of the feature and of the token's embedding: (H) each.
    pub feature_norm: Vec<f32>,
    pub token_norm: Vec<f32>,
    pub fusion: Fusion,
    pub layers: Vec<Layer>,
    pub output_norm: Vec<f32>,
    /// The target's head for the draft vocabulary, (n_draft, H), if that is not the whole one.
    head: Option<Packed>,
    /// The target's token of each draft token; none if they are the same.
    pub tokens: Option<Vec<u32>>,
}

/// What turns several hidden states into one feature.
pub(super) struct Features {
    /// (taps, H).
    pub norms: Vec<Vec<f32>>,
    /// (H, taps · H).
    pub matrix: Packed,
}

/// How feature and embedding become one.
#[allow(clippy::large_enum_variant, reason = "a drafter has one")]
pub(super) enum Fusion {
    /// Dynamic gating fusion, arXiv 2412.18934: (H, H), (H, H), (H, 2H).
    Dgf { feature: Packed, token: Packed, gate: Packed },
    /// EAGLE's, arXiv 2401.15077: (H, 2H), first the columns of the token.
    Fc { matrix: Packed },
}

impl File {
    /// Reads a drafter for `target`.
    ///
    /// # Errors
    /// When the file cannot be read, is malformed, or belongs to another target.
    pub fn open(path: &Path, target: &Model, threads: usize) -> Result<File> {
        let gguf = Gguf::open_with(path, OpenOptions::default())?;
        let metadata = gguf.metadata();
        let key = |name: &str| format!("{ARCH}.{name}");
        let wrong = |what: String| Err(Error::gguf(path, what));
        let arch = metadata.require_str("general.architecture")?;
        if arch != ARCH {
            return wrong(format!("is of architecture `{arch}`, not a drafter's `{ARCH}`"));
        }
        let version = metadata.require_u32(&key("version"))?;
        if version != VERSION {
            return wrong(format!(
                "has version {version} of the format; this program reads {VERSION}"
            ));
        }
        let t = target.config();
        if metadata.require_str(&key("target.fingerprint"))? != target.fingerprint() {
            let what = "was trained for another model than this target; train one with scripts/train_drafter.py";
            return wrong(what.into());
        }
        let width = metadata.require_u32(&key("embedding_length"))? as usize;
        if width != t.n_embd {
            return wrong(format!("is {width} wide, its target {}", t.n_embd));
        }
        let asked = metadata.get_u32_array(&key("feature_layers"))?.unwrap_or_default();
        for (name, expected) in [("block_count", t.n_layers), ("vocabulary", t.n_vocab)] {
            let found = metadata.require_u32(&key(&format!("target.{name}")))? as usize;
            if found != expected {
                return wrong(format!("is for a target whose {name} is {found}, not {expected}"));
            }
        }
        if let Some(layer) = asked.iter().find(|layer| **layer as usize >= t.n_layers) {
            return wrong(format!("asks for layer {layer} of a target with {}", t.n_layers));
        }
        if asked.windows(2).any(|pair| pair[0] >= pair[1]) {
            return wrong("has feature layers that do not ascend".into());
        }
        let fusion = metadata.require_str(&key("fusion"))?.to_owned();
        if fusion != "dgf" && fusion != "fc" {
            return wrong(format!("fuses by `{fusion}`; known: dgf, fc"));
        }
        let taps = if asked.is_empty() {
            vec![t.n_layers]
        } else {
            asked.iter().map(|layer| *layer as usize).collect()
        };
        let mut file = model::take(&gguf, threads, |source| {
            let tokens = source.integers("draft_tokens")?;
            let n_draft = tokens.as_ref().map_or(t.n_vocab, Vec::len);
            let ascending =
                tokens.iter().all(|tokens| tokens.windows(2).all(|pair| pair[0] < pair[1]));
            if n_draft == 0 || !ascending {
                return wrong("has a draft vocabulary that does not ascend".into());
            }
            let config = Keys { gguf: &gguf, arch: ARCH };
            let config = config.blocks(RopeStyle::Adjacent, n_draft, t.n_ctx)?;
            let h = config.n_embd;
            let features =
                if asked.is_empty() { None } else { Some(features(source, taps.len(), h)?) };
            let fusion = match fusion.as_str() {
                "dgf" => Fusion::Dgf {
                    feature: source.matrix("fuse_feature.weight", h, h)?,
                    token: source.matrix("fuse_token.weight", h, h)?,
                    gate: source.matrix("fuse_gate.weight", h, 2 * h)?,
                },
                _ => Fusion::Fc { matrix: source.matrix("fuse.weight", h, 2 * h)? },
            };
            Ok(File {
                features,
                feature_norm: source.vector("fuse_feature_norm.weight", h)?,
                token_norm: source.vector("fuse_token_norm.weight", h)?,
                fusion,
                layers: llama::layers(&config, source)?,
                output_norm: source.vector("output_norm.weight", h)?,
                head: None,
                taps: taps.clone(),
                config,
                tokens,
            })
        })?;
        file.head =
            file.tokens.as_ref().map(|tokens| target.head_of(tokens, threads)).transpose()?;
        Ok(file)
    }

    /// The head for the draft vocabulary: (n_draft, H).
    pub fn head<'a>(&'a self, target: &'a Model) -> &'a Packed {
        self.head.as_ref().unwrap_or(&target.weights().output)
    }

    /// All matrices.
    pub fn matrices<'a>(&'a self, target: &'a Model) -> impl Iterator<Item = &'a Packed> {
        let fusion = match &self.fusion {
            Fusion::Dgf { feature, token, gate } => vec![feature, token, gate],
            Fusion::Fc { matrix } => vec![matrix],
        };
        let layers = self.layers.iter().flat_map(Layer::matrices);
        let features = self.features.iter().map(|features| &features.matrix);
        layers.chain(fusion).chain(features).chain([self.head(target)])
    }
}

fn features(source: &mut Source, taps: usize, h: usize) -> Result<Features> {
    let norms = (0..taps).map(|j| source.vector(&format!("feature_norm.{j}.weight"), h));
    let norms = norms.collect::<Result<_>>()?;
    Ok(Features { norms, matrix: source.matrix("features.weight", h, taps * h)? })
}
