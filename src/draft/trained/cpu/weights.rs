//! The weights of a trained drafter, which several drafters may share.

use crate::draft::DrafterContext;
use crate::draft::trained::KIND;
use crate::draft::trained::entries::Entries;
use crate::draft::trained::file::File;
use crate::error::{Error, Result};
use crate::model::{Config, Model};
use dovetail_kernels::cpu::{Kernels, WeightMatrix};
use std::sync::Arc;

/// The weights of a drafter, which several may share.
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
    /// When it cannot be read or belongs to another target, or no kernels fit this machine.
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

    /// Those of a sequence of which nothing was told yet.
    pub fn entries(&self) -> Entries {
        Entries::new(self.file.width, self.file.spoken(&self.target))
    }

    /// The target's head for some tokens: (tokens, H).
    ///
    /// # Errors
    /// When one is not the target's.
    pub fn head_of(&self, tokens: &[u32]) -> Result<WeightMatrix> {
        self.target.head_of(tokens, self.threads)
    }
}
