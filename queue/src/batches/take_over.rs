//! Results of one batch that are those of another one too: taken over instead of computed again.
//!
//! Owns which are: those of equal jobs, by their keys, of the same model, made with the same settings. What two batches
//! have in common costs memory for a digest a job, up to a limit; beyond it jobs are computed.

use super::Batches;
use crate::batch::{Batch, BatchModel};
use crate::ids::{BatchNo, JobIndex, JobKey, JobRef, ModelNo};
use crate::record::Outcome;
use crate::state::JobState;
use crate::store::{Adopt, Adoption, StoreError};
use std::collections::HashMap;

/// Results that are remembered, some 100 MB of them.
const MOST_REMEMBERED: usize = 1 << 21;
/// Jobs of one read.
const PAGE_JOBS: usize = 1_000;
/// Results of one write.
const ADOPTED_AT_ONCE: usize = 200;
/// Bytes of a digest that jobs are found by: enough that no two are ever taken for one.
const DIGEST_BYTES: usize = 16;

/// A job of the new batch, as the old one may know it.
type Known = (ModelNo, [u8; DIGEST_BYTES]);

/// A model of both batches, which may have several names in the old one.
struct Common {
    old: Vec<ModelNo>,
    new: ModelNo,
    numerics: Option<String>,
}

impl Batches {
    /// Gives queued jobs of `to` the answers that equal jobs of `from` got. Errors are not taken over. Where `numerics`
    /// is said, only what was computed with those is. Returns how many jobs got an answer.
    pub async fn take_over(
        &self,
        from: &Batch,
        to: &Batch,
        numerics: Option<&str>,
    ) -> Result<u64, StoreError> {
        let common = common(from, to, numerics);
        if common.is_empty() {
            return Ok(0);
        }
        let known = self.answers(from, &common).await?;
        let mut taken = 0;
        let mut next = Some(JobIndex(0));
        while let Some(at) = next {
            let page = self.store.results_page(to.no, at, PAGE_JOBS).await?;
            next = page.next;
            let waiting = page.jobs.iter().filter(|job| job.state == JobState::Queued);
            let mut found: HashMap<ModelNo, Vec<(JobIndex, JobIndex)>> = HashMap::new();
            for job in waiting {
                let Some(model) = job.model else {
                    continue;
                };
                if let Some(old) = known.get(&name(model, &job.key)) {
                    found.entry(model).or_default().push((job.index, *old));
                }
            }
            for model in &common {
                for some in found
                    .remove(&model.new)
                    .unwrap_or_default()
                    .chunks(ADOPTED_AT_ONCE)
                {
                    taken += self.adopt(from.no, to.no, model, some).await?;
                }
            }
        }
        Ok(taken)
    }

    /// The jobs of a batch that have an answer.
    async fn answers(
        &self,
        from: &Batch,
        common: &[Common],
    ) -> Result<HashMap<Known, JobIndex>, StoreError> {
        let mut known = HashMap::new();
        let mut next = Some(JobIndex(0));
        while let Some(at) = next {
            let page = self.store.results_page(from.no, at, PAGE_JOBS).await?;
            next = page.next;
            for job in page
                .jobs
                .iter()
                .filter(|job| job.state == JobState::Succeeded)
            {
                let Some(no) = job.model else {
                    continue;
                };
                for model in common.iter().filter(|model| model.old.contains(&no)) {
                    if known.len() < MOST_REMEMBERED {
                        known.insert(name(model.new, &job.key), job.index);
                    }
                }
            }
        }
        Ok(known)
    }

    /// Takes some answers over: pairs of a new job and the old one.
    async fn adopt(
        &self,
        from: BatchNo,
        to: BatchNo,
        model: &Common,
        pairs: &[(JobIndex, JobIndex)],
    ) -> Result<u64, StoreError> {
        let old: Vec<JobRef> = pairs
            .iter()
            .map(|(_, index)| JobRef {
                batch: from,
                index: *index,
            })
            .collect();
        let stored = self.store.job_get(&old).await?;
        let jobs = pairs.iter().zip(stored).filter_map(|((index, _), stored)| {
            let result = stored?.result?;
            matches!(result.record.outcome, Outcome::Completed(_)).then_some(Adopt {
                index: *index,
                record: result.record,
                stats: result.stats,
            })
        });
        let adoption = Adoption {
            batch: to,
            model: model.new,
            numerics: model.numerics.clone(),
            jobs: jobs.collect(),
        };
        self.store.adopt_many(adoption).await
    }
}

fn name(model: ModelNo, key: &JobKey) -> Known {
    let mut digest = [0; DIGEST_BYTES];
    digest.copy_from_slice(&key.0[..DIGEST_BYTES]);
    (model, digest)
}

/// The models of both batches whose answers are the same, whatever they are called.
fn common(from: &Batch, to: &Batch, numerics: Option<&str>) -> Vec<Common> {
    let (old, new) = (&from.spec, &to.spec);
    let settings = (old.seed, &old.template_date, &old.kv, old.any_numerics);
    if settings != (new.seed, &new.template_date, &new.kv, new.any_numerics) {
        return Vec::new();
    }
    let fits = |model: &BatchModel| match (&model.numerics, numerics) {
        _ if old.any_numerics => true,
        (Some(then), Some(now)) => then == now,
        (then, _) => then.is_some(),
    };
    let mut common = Vec::new();
    for new in to.models.iter().filter(|model| model.sha256.is_some()) {
        let same = |old: &&BatchModel| old.sha256 == new.sha256 && fits(old);
        let Some(first) = from.models.iter().find(same) else {
            continue;
        };
        let alike = |old: &&BatchModel| same(old) && old.numerics == first.numerics;
        common.push(Common {
            old: from.models.iter().filter(alike).map(|old| old.no).collect(),
            new: new.no,
            numerics: first.numerics.clone(),
        });
    }
    common
}
