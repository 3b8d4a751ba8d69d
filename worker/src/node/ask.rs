//! Questions to a node beside its inbox: one request, answered by an engine as it goes, and stored nowhere.

use super::host::Host;
use crate::engine::{Engine, EngineEvent, EngineJob, Priority};
use rbee_queue::{JobError, JobKey, JobStats, ModelSha, Request, ResultRecord};
use std::collections::HashMap;
use tokio::sync::mpsc;

/// Pieces of an answer that wait for whoever asked; one who is further behind gets no more.
pub const PIECES_WAITING: usize = 1024;

/// A question.
#[derive(Debug)]
pub struct Ask {
    /// The model, by the name with which it was loaded or by its sha256; `None` is the one in memory.
    pub model: Option<String>,
    /// What is asked.
    pub request: Request,
    /// Keys the randomness.
    pub key: JobKey,
    /// `YYYY-MM-DD` for the chat template.
    pub template_date: String,
    /// Where the answer goes. Dropping its other end takes the question back.
    pub answer: mpsc::Sender<Answer>,
}

/// A piece of an answer.
#[derive(Debug)]
pub enum Answer {
    /// It began.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: u32,
    },
    /// More text.
    Text {
        /// The number of its first token.
        first_token: u32,
        /// The text.
        text: String,
    },
    /// It has ended.
    Ended {
        /// The whole answer, or its error.
        record: Box<ResultRecord>,
        /// How it went.
        stats: JobStats,
    },
    /// It is not answered.
    Refused(JobError),
}

struct Asked {
    model: ModelSha,
    answer: mpsc::Sender<Answer>,
}

/// The questions that engines work on.
#[derive(Default)]
pub struct Asks {
    running: HashMap<u64, Asked>,
    /// Nobody waits for these any more.
    left: Vec<u64>,
}

impl Asks {
    /// Gives a question to an engine under this id, or says why not.
    pub fn begin(&mut self, id: u64, ask: Box<Ask>, host: &Host, slots: usize) {
        let found = host.find(ask.model.as_deref());
        let refusal = match &found {
            Some(_) if self.running.len() >= slots => JobError::new(
                "all_slots_busy",
                "The node has no free slot: try again later.",
            ),
            Some((model, engine)) => return self.submit(id, ask, *model, engine),
            None if ask.model.is_some() => {
                JobError::new("model_not_found", "This model is not in the node's memory.")
            }
            None => JobError::new("backend_unavailable", "The node has no model in memory."),
        };
        refuse(&ask.answer, refusal);
    }

    fn submit(&mut self, id: u64, ask: Box<Ask>, model: ModelSha, engine: &Engine) {
        let submitted = engine.submit(EngineJob {
            id,
            request: ask.request,
            job_key: ask.key,
            batch_seed: 0,
            template_date: ask.template_date,
            priority: Priority::Interactive,
            stream: true,
        });
        let answer = ask.answer;
        match submitted {
            Ok(()) => drop(self.running.insert(id, Asked { model, answer })),
            Err(error) => refuse(&answer, JobError::new("all_slots_busy", error.to_string())),
        }
    }

    /// Passes an engine's event on, if it is about a question; else gives it back.
    pub fn hear(&mut self, event: EngineEvent) -> Option<EngineEvent> {
        let id = event.id();
        let Some(asked) = self.running.get(&id) else {
            return Some(event);
        };
        let answer = match event {
            EngineEvent::Started { prompt_tokens, .. } => Answer::Started { prompt_tokens },
            // One choice is told.
            EngineEvent::Text { choice, .. } if choice > 0 => return None,
            EngineEvent::Text {
                first_token, text, ..
            } => Answer::Text { first_token, text },
            EngineEvent::Finished { record, stats, .. } => {
                let record = Box::new(record);
                let _ = asked.answer.try_send(Answer::Ended { record, stats });
                self.running.remove(&id);
                return None;
            }
        };
        if asked.answer.try_send(answer).is_err() {
            self.left.push(id);
        }
        None
    }

    /// Stops those that nobody waits for.
    pub fn sweep(&mut self, host: &Host) {
        for id in self.left.drain(..) {
            host.engines().for_each(|engine| engine.cancel(id));
        }
    }

    /// How many run on a model.
    pub fn of(&self, model: &ModelSha) -> usize {
        let of = self.running.values().filter(|asked| asked.model == *model);
        of.count()
    }
}

/// Tells that a question is not answered.
pub fn refuse(answer: &mpsc::Sender<Answer>, error: JobError) {
    // Whoever asked may have gone.
    let _ = answer.try_send(Answer::Refused(error));
}
