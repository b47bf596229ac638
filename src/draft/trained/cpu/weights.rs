//! The weights of a trained drafter, which several drafters can share.

use crate::draft::DrafterContext;
use crate::draft::trained::KIND;
use crate::draft::trained::entries::Entries;
use crate::draft::trained::file::File;
use crate::error::{Error, Result};
use crate::model::{Config, Model};
use dovetail_kernels::cpu::{Kernels, WeightMatrix};
use std::sync::Arc;

/// The weights of a drafter, which several can share.
pub struct Weights {
    pub(super) target: Arc<Model>,
    pub(super) file: File,
    pub(super) kernels: &'static Kernels,
    pub(super) threads: usize,
}

impl Weights {
    /// Reads the drafter's file.
    ///
    /// # Errors
    /// If it cannot be read or belongs to another target, or no kernels fit this machine.
    pub fn open(setup: &DrafterContext) -> Result<Weights> {
        let path = setup.file(KIND.name)?;
        let kernels = Kernels::choose().map_err(Error::Invalid)?;
        let file = File::open(path, setup.target, setup.threads)?;
        Ok(Weights { target: setup.target.clone(), file, kernels, threads: setup.threads })
    }

    pub fn config(&self) -> &Config {
        &self.file.config
    }

    pub fn fingerprint(&self) -> u64 {
        self.file.fingerprint
    }

    pub fn taps(&self) -> &[usize] {
        &self.file.taps
    }

    /// Empty entries of a sequence.
    pub fn entries(&self) -> Entries {
        Entries::new(self.file.width, self.file.dynamic_vocab(&self.target))
    }

    /// The target's head for some tokens: (tokens, H).
    ///
    /// # Errors
    /// If one is not in the target's vocabulary.
    pub fn head_of(&self, tokens: &[u32]) -> Result<WeightMatrix> {
        self.target.head_of(tokens, self.threads)
    }
}
