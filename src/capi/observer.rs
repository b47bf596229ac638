//! Passes progress and notices to C's callbacks.

use super::options::Callbacks;
use super::options::dovetail_log_level::{DOVETAIL_LOG_DETAIL, DOVETAIL_LOG_NOTE};
use super::options::dovetail_stage::{DOVETAIL_STAGE_LOADING, DOVETAIL_STAGE_MEASURING};
use super::status::FieldNames;
use crate::open::{Level, Notice, Observer, Stage};

/// An observer that calls C's callbacks and remembers which drafter was opened.
pub(super) struct CallbackObserver<'a> {
    pub callbacks: &'a Callbacks,
    /// Whether the work was cancelled.
    pub is_cancelled: &'a dyn Fn() -> bool,
    /// The drafter's kind and file.
    pub drafter: Option<String>,
}

impl Observer for CallbackObserver<'_> {
    fn progress(&mut self, stage: Stage, done: u64, total: u64) -> bool {
        let stage = match stage {
            Stage::Loading => DOVETAIL_STAGE_LOADING,
            Stage::Measuring => DOVETAIL_STAGE_MEASURING,
        };
        let part = done as f64 / total.max(1) as f64;
        self.callbacks.progress(stage, part) && !(self.is_cancelled)()
    }

    fn notice(&mut self, notice: &Notice) {
        if let Notice::Drafter(drafter) = notice {
            self.drafter = Some(drafter.kind());
        }
        let (level, lines) = notice.lines(&FieldNames);
        let level = match level {
            Level::Note => DOVETAIL_LOG_NOTE,
            Level::Detail => DOVETAIL_LOG_DETAIL,
        };
        lines.lines().for_each(|line| self.callbacks.log(level, line));
    }
}
