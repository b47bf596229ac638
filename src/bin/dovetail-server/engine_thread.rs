//! The thread that owns the engine. Each round it frees the slots of clients that have gone, fills free slots from the
//! queue, and steps the engine; it waits for nobody but the next request.

use crate::error::ApiError;
use crate::job::{End, Event, Job, PromptLogprobs, Round};
use crate::metrics::{Metrics, SlotState};
use crate::outbox::Outbox;
use crate::words;
use dovetail::{Answer, Engine, Logprobs, Notice, PromptOutput, RequestId};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;

/// The engine and what it works for.
pub struct EngineThread {
    /// The engine.
    pub engine: Engine,
    /// Requests that wait.
    pub jobs: Receiver<Job>,
    /// Counters for other threads.
    pub metrics: Arc<Metrics>,
    /// Whether to end with the current round.
    pub stop: Arc<AtomicBool>,
    /// Where tasks run that wait for clients.
    pub runtime: Handle,
}

/// A request that is being answered.
struct Running {
    id: RequestId,
    /// Its place in the list of slots.
    place: usize,
    outbox: Outbox,
    /// Number of rounds so far, if the request wants to know what they do.
    rounds: Option<usize>,
    /// Log probabilities of its prompt, if it wants them.
    scores: Option<Scores>,
}

/// Log probabilities of a prompt, collected while it is read.
struct Scores {
    collected: Vec<Logprobs>,
    /// How many there will be.
    n: usize,
    to: PromptLogprobs,
}

impl Scores {
    /// Adds some, and hands all of them over once they are complete.
    fn add(&mut self, more: Vec<Logprobs>) {
        self.collected.extend(more);
        if self.collected.len() == self.n && self.to.get().is_none() {
            let _ = self.to.set(std::mem::take(&mut self.collected));
        }
    }
}

impl EngineThread {
    /// Answers requests until the queue is closed and empty, or it is told to stop.
    pub fn run(mut self) {
        let mut running = Vec::new();
        while self.fill(&mut running) {
            if self.stop.load(SeqCst) {
                break;
            }
            self.round(&mut running);
        }
        for request in running {
            request.outbox.end(Event::Failed(ApiError::ending()), &self.runtime);
        }
        while let Ok(job) = self.jobs.try_recv() {
            Outbox::new(job.events).end(Event::Failed(ApiError::ending()), &self.runtime);
        }
        if let Err(error) = self.engine.save_acceptance() {
            tracing::debug!("how often draft tokens were right is not kept: {error}");
        }
    }

    /// Gives free slots to requests that wait; waits for one if none runs. Returns whether there is anything to do.
    fn fill(&mut self, running: &mut Vec<Running>) -> bool {
        self.remove_abandoned(running);
        if running.is_empty() {
            match self.jobs.blocking_recv() {
                Some(job) => self.start(job, running),
                None => return false,
            }
        }
        while self.engine.has_room() {
            let Ok(job) = self.jobs.try_recv() else { break };
            self.start(job, running);
        }
        true
    }

    fn start(&mut self, job: Job, running: &mut Vec<Running>) {
        let outbox = Outbox::new(job.events);
        if outbox.is_abandoned() {
            return;
        }
        let prompt_len = job.request.prompt.len();
        let scores = matches!(job.wanted.prompt, PromptOutput::Logprobs(_)).then(|| Scores {
            collected: Vec::new(),
            n: prompt_len.saturating_sub(1),
            to: job.prompt_logprobs,
        });
        match self.engine.add_with(job.request, job.wanted.prompt) {
            Ok(id) => {
                let stats = self.engine.live_stats(id).unwrap_or_default();
                let place = self.metrics.begin(SlotState { id: id.0, prompt_len, stats });
                let rounds = job.wanted.rounds.then_some(0);
                running.push(Running { id, place, outbox, rounds, scores });
            }
            Err(error) => outbox.end(Event::Failed(ApiError::from(error)), &self.runtime),
        }
    }

    /// Frees the slots of requests whose clients have gone.
    fn remove_abandoned(&mut self, running: &mut Vec<Running>) {
        for request in running.extract_if(.., |request| request.outbox.is_abandoned()) {
            self.remove(&request);
        }
    }

    /// Steps the engine, and sends each request what the round brought it.
    fn round(&mut self, running: &mut Vec<Running>) {
        let start = Instant::now();
        let stepped = self.engine.step(&mut |id, piece| {
            if let Some(request) = running.iter_mut().find(|request| request.id == id) {
                request.outbox.hold(piece);
            }
        });
        self.metrics.count_round(running.len());
        if let Err(error) = stepped {
            let error = ApiError::from(error);
            tracing::error!("{}", error.message);
            for request in running.drain(..) {
                self.remove(&request);
                request.outbox.end(Event::Failed(error.clone()), &self.runtime);
            }
            return;
        }
        if let Some(notice) = self.engine.take_drafter_notice() {
            tracing::warn!("{notice}");
        }
        let (engine, time) = (&mut self.engine, start.elapsed());
        for request in running.iter_mut() {
            if let Some(scores) = &mut request.scores {
                scores.add(engine.take_prompt_logprobs(request.id));
            }
            if let (Some(n), Some((tree, path))) =
                (&mut request.rounds, engine.last_tree(request.id))
            {
                *n += 1;
                request.outbox.hold_round(Round::new(*n, time, tree, path));
            }
        }
        let ended = |request: &mut Running| engine.stop(request.id).is_some();
        for request in running.extract_if(.., ended).collect::<Vec<_>>() {
            self.finish(request);
        }
        let now = Instant::now();
        let slow = |request: &mut Running| !request.outbox.send(now);
        for request in running.extract_if(.., slow).collect::<Vec<_>>() {
            tracing::warn!("a client reads too slowly; its answer is cut off");
            self.remove(&request);
        }
    }

    /// Sends the end of an answer.
    fn finish(&mut self, request: Running) {
        let failure = self.engine.failure(request.id);
        let Some(answer) = self.remove(&request) else { return };
        if let Some(error) = &answer.drafter_error {
            let (_, line) = Notice::DrafterFailed(error).lines(&words::FlagNames);
            tracing::warn!("{line}");
        }
        let last = match (failure, answer.stop) {
            (Some(error), _) => Event::Failed(ApiError::from(error)),
            (None, None) => Event::Failed(ApiError::ending()),
            (None, Some(stop)) => {
                let (stats, embedding) = (answer.stats, answer.embedding);
                let rounds = answer.rounds.unwrap_or_default();
                Event::End(Box::new(End { stop, stats, rounds, embedding }))
            }
        };
        request.outbox.end(last, &self.runtime);
    }

    /// Frees a slot and counts what was done in it.
    fn remove(&mut self, request: &Running) -> Option<Answer> {
        let answer = self.engine.remove(request.id)?;
        self.metrics.end(request.place, &answer);
        Some(answer)
    }
}
