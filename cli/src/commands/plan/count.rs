//! Reading a file once and tokenising all of it, on all threads.
//!
//! One thread reads and parses; the others render and tokenise what it hands them in chunks. Sums do not depend on the
//! order in which chunks are done.

use std::collections::HashMap;
use std::io::BufRead;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};

use rbee_queue::jsonl::{Line, ReadError, Reader};
use rbee_queue::{BatchSpec, JobError, JobKey, Request};
use rbee_worker::engine::prepare::{Limits, PreparedJob, prepare};
use rbee_worker::engine::{EngineJob, Priority};
use rbee_worker::model::outline::Outline;

use super::Planned;
use super::figures::{BadLines, Countable, ModelFigures};

/// Lines that are handed over at once.
const CHUNK_LINES: usize = 64;
/// Bytes of a chunk, but for its last line.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that wait for a thread.
const CHUNKS_WAITING: usize = 4;

/// A model whose lines are counted.
pub struct Subject {
    requested: String,
    jobs: u64,
    /// `None`: the model is not to be had.
    outline: Option<(Arc<Outline>, Limits)>,
}

impl Subject {
    /// The jobs of a planned model. One that does not fit here is counted by the context that it was made for.
    pub fn of(planned: &Planned) -> Subject {
        let memory = planned.memory.as_ref().and_then(|plan| plan.as_ref().ok());
        let outline = planned.outline.as_ref();
        Subject {
            requested: planned.model.requested.clone(),
            jobs: planned.figures.jobs,
            outline: outline.map(|outline| (Arc::clone(outline), outline.limits(memory))),
        }
    }
}

/// What is counted, and how.
pub struct Counting {
    pub spec: BatchSpec,
    pub subjects: Vec<Subject>,
    pub threads: usize,
    /// Jobs of each model that are kept to be measured.
    pub sample_jobs: usize,
}

/// What was counted.
pub struct Counted {
    /// In the order of the subjects.
    pub models: Vec<ModelFigures>,
    pub bad: BadLines,
}

/// Counts the whole input.
pub fn count(input: impl BufRead, counting: Counting) -> Result<Counted, ReadError> {
    let places: HashMap<&str, usize> = counting
        .subjects
        .iter()
        .enumerate()
        .map(|(at, subject)| (subject.requested.as_str(), at))
        .collect();
    let figures: Vec<Mutex<ModelFigures>> = counting
        .subjects
        .iter()
        .map(|subject| Mutex::new(ModelFigures::new(subject.jobs)))
        .collect();
    let (sender, receiver) = sync_channel::<Vec<(usize, Line)>>(CHUNKS_WAITING);
    let receiver = Mutex::new(receiver);
    let mut bad = BadLines::default();
    std::thread::scope(|scope| {
        for _ in 0..counting.threads.max(1) {
            scope.spawn(|| count_chunks(&receiver, &counting, &figures));
        }
        let mut seen = vec![0; counting.subjects.len()];
        let mut reader = Reader::new(input, &counting.spec.options);
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while let Some(line) = reader.next_line()? {
            let place = match &line.parsed.request {
                Ok(request) => places.get(request.model.as_str()).copied(),
                Err(_) => None,
            };
            let Some(place) = place else {
                bad.add(line.number);
                continue;
            };
            let wanted = is_sampled(
                seen[place],
                counting.subjects[place].jobs,
                counting.sample_jobs,
            );
            seen[place] += 1;
            if let (true, Ok(request)) = (wanted, &line.parsed.request) {
                let mut figures = lock(&figures[place]);
                figures.sample.push(request.clone());
            }
            bytes += line.text.len();
            chunk.push((place, line));
            if chunk.len() == CHUNK_LINES || bytes >= CHUNK_BYTES {
                bytes = 0;
                // The threads end only when this side does.
                let _ = sender.send(std::mem::take(&mut chunk));
            }
        }
        let _ = sender.send(chunk);
        drop(sender);
        Ok::<(), ReadError>(())
    })?;
    let models = figures.into_iter().map(|figures| {
        let mut figures = figures
            .into_inner()
            .expect("no thread panics while it counts");
        figures.close();
        figures
    });
    Ok(Counted {
        models: models.collect(),
        bad,
    })
}

/// Whether the `at`-th of `jobs` is among `most` that are spread evenly.
fn is_sampled(at: u64, jobs: u64, most: usize) -> bool {
    let (jobs, most) = (u128::from(jobs.max(1)), most as u128);
    // The first job at or behind each of `most` equal steps.
    let step = |at: u128| (at * most).div_ceil(jobs);
    step(u128::from(at) + 1) > step(u128::from(at))
}

fn lock(figures: &Mutex<ModelFigures>) -> std::sync::MutexGuard<'_, ModelFigures> {
    figures.lock().expect("no thread panics while it counts")
}

fn count_chunks(
    chunks: &Mutex<Receiver<Vec<(usize, Line)>>>,
    counting: &Counting,
    figures: &[Mutex<ModelFigures>],
) {
    loop {
        let next = chunks
            .lock()
            .expect("no thread panics while it receives")
            .recv();
        let Ok(chunk) = next else {
            return;
        };
        for (place, line) in chunk {
            count_line(
                &counting.spec,
                &counting.subjects[place],
                &line,
                &figures[place],
            );
        }
    }
}

fn count_line(spec: &BatchSpec, subject: &Subject, line: &Line, figures: &Mutex<ModelFigures>) {
    let Ok(request) = &line.parsed.request else {
        return;
    };
    let work = request.work();
    match prepared(spec, subject, request.clone()) {
        Ok(prepared) => {
            let choices = u64::from(prepared.job.request.params.n);
            let job = Countable {
                prompt: &prepared.prompt,
                output_tokens: u64::from(prepared.ends.limit) * choices,
                work,
            };
            lock(figures).add(&job);
        }
        Err(error) => lock(figures).fail(&error.code, line),
    }
}

fn prepared(
    spec: &BatchSpec,
    subject: &Subject,
    request: Request,
) -> Result<PreparedJob, JobError> {
    let Some((outline, limits)) = &subject.outline else {
        return Err(JobError::new("model_not_found", ""));
    };
    let job = EngineJob {
        id: 0,
        request,
        job_key: JobKey([0; 32]),
        batch_seed: spec.seed,
        template_date: spec.template_date.clone(),
        priority: Priority::Batch,
        stream: false,
    };
    prepare(&outline.text, *limits, job)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_and_as_large_as_it_should_be() {
        for (jobs, most) in [(1, 32), (10, 3), (32, 32), (1000, 32), (7, 7)] {
            let sampled: Vec<u64> = (0..jobs).filter(|at| is_sampled(*at, jobs, most)).collect();
            assert_eq!(sampled.len(), most.min(jobs as usize), "{jobs} {most}");
            assert_eq!(sampled[0], 0, "{jobs} {most}");
        }
    }
}
