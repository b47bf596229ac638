//! What all requests see.

use crate::answer::{Active, Answering};
use crate::auth::Keys;
use crate::error::ApiError;
use crate::job::{Pending, Wanted};
use crate::log::RequestLog;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::sampling_flags::SamplingFlags;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use dovetail::text::Tokenizer;
use dovetail::{ChatTemplate, Constraint, Generation, Model, Pooling, Request};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The server, from its first connection on.
pub struct App {
    /// Who may ask.
    pub keys: Keys,
    /// How long the body of a request may take.
    pub body_timeout: Duration,
    /// What there is once the model is loaded.
    pub ready: OnceLock<Arc<Ready>>,
    /// Whether no more requests are taken.
    pub ending: AtomicBool,
    /// Answers on their way.
    pub active: Active,
}

/// The model, and the way to the engine's thread.
pub struct Ready {
    /// The model.
    pub model: Arc<Model>,
    /// Its chat template.
    pub template: Option<ChatTemplate>,
    /// Its name for clients.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
    /// Tokens of a prompt and its answer together.
    pub n_ctx: usize,
    /// How many requests are answered at once.
    pub slots: usize,
    /// Whether tokens are drafted.
    pub has_drafter: bool,
    /// How embeddings are made; `None` if the model wants them in a way that there is not.
    pub pooling: Option<Pooling>,
    /// How answers are drawn unless a request says otherwise.
    pub sampling: SamplingFlags,
    /// Most tokens of an answer unless a request says otherwise.
    pub n_predict: usize,
    /// What an answer may be unless a request says otherwise.
    pub constraint: Option<Constraint>,
    /// The way to the engine's thread.
    pub queue: Queue,
    /// Its counters.
    pub metrics: Arc<Metrics>,
}

impl Ready {
    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.model.tokenizer()
    }

    /// How an answer is generated of which the request says nothing.
    pub fn generation(&self) -> Generation {
        Generation {
            sampling: self.sampling.sampling(),
            n_predict: self.n_predict,
            ignore_end: self.sampling.ignore_eos,
            constraint: self.constraint.clone(),
            ..Generation::default()
        }
    }

    /// Refuses a prompt that the engine would refuse.
    ///
    /// # Errors
    /// If it is empty, leaves no room for an answer, or has tokens that are none.
    pub fn check_prompt(&self, prompt: &[u32]) -> Result<(), ApiError> {
        if prompt.is_empty() {
            return Err(ApiError::invalid("the prompt has no token; give some text"));
        }
        if prompt.len() >= self.n_ctx {
            return Err(ApiError::context_full(prompt.len(), self.n_ctx));
        }
        let n_vocab = self.tokenizer().n_vocab();
        match prompt.iter().find(|token| **token as usize >= n_vocab) {
            Some(token) => Err(ApiError::invalid(format!(
                "{token} is no token; there are {n_vocab}, from 0 on"
            ))),
            None => Ok(()),
        }
    }
}

/// A request to a model that is loaded: an argument of all handlers that need one.
#[derive(Clone)]
pub struct Call {
    /// The model, and the way to the engine's thread.
    pub ready: Arc<Ready>,
    app: Arc<App>,
    log: Arc<RequestLog>,
}

impl Call {
    /// Puts requests into the queue, all or none, and returns their answers, which are on their way.
    ///
    /// # Errors
    /// If one cannot be answered, or there is no room for them.
    pub fn submit(&self, requests: Vec<Request>) -> Result<Vec<Answering>, ApiError> {
        self.submit_with(requests, Wanted::default())
    }

    /// The same, with what is wanted beside the answers.
    ///
    /// # Errors
    /// Those of [`Call::submit`].
    pub fn submit_with(
        &self,
        mut requests: Vec<Request>,
        wanted: Wanted,
    ) -> Result<Vec<Answering>, ApiError> {
        for request in &mut requests {
            self.ready.check_prompt(&request.prompt)?;
            let constraint = request.generation.constraint.take();
            request.generation.constraint = constraint.map(|one| one.behind(&request.prompt));
        }
        let all = self.ready.queue.add(requests, wanted)?;
        Ok(all.into_iter().map(|pending| self.answering(pending)).collect())
    }

    /// Waits until there is room in the queue for a request without a constraint, and puts it there.
    ///
    /// # Errors
    /// If it cannot be answered, or the server ends.
    pub async fn submit_when_room(
        &self,
        request: Request,
        wanted: Wanted,
    ) -> Result<Answering, ApiError> {
        self.ready.check_prompt(&request.prompt)?;
        let pending = self.ready.queue.add_when_room(request, wanted).await?;
        Ok(self.answering(pending))
    }

    fn answering(&self, pending: Pending) -> Answering {
        Answering::new(pending, self.app.active.clone(), self.log.clone())
    }
}

impl FromRequestParts<Arc<App>> for Call {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Call, ApiError> {
        let ready = app.ready.get().ok_or_else(ApiError::loading)?.clone();
        let log = parts.extensions.get::<Arc<RequestLog>>().cloned().unwrap_or_default();
        Ok(Call { ready, app: app.clone(), log })
    }
}

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
