//! Telling receivers that their batches are done, again and again until they hear.
//!
//! What is to be told, and when next, is in the store: a restart or a change of the leader loses nothing. A leader that
//! dies between a receiver's answer and its note in the store tells twice, under the same `webhook-id`.

use super::Shared;
use super::trouble::Trouble;
use crate::http::types::BatchView;
use crate::webhook::{Message, NotHeard, Webhooks};
use futures_util::StreamExt;
use futures_util::stream;
use rbee_queue::StoreError;
use rbee_queue::store::Untold;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How often the store is asked whose end is to be told.
const LOOK: Duration = Duration::from_secs(1);
/// Receivers that are told at once.
const AT_ONCE: usize = 16;
/// The longest wait between two tries. The first is the coordinator's setting; each is twice the one before.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3_600);
/// Tries before a receiver is given up: with a first wait of two seconds, they take a day.
const MAX_TRIES: u64 = 17;

/// Tells until it is dropped. Returns only with an error that no patience changes.
pub(super) async fn tell(shared: &Arc<Shared>) -> StoreError {
    let Some(webhooks) = &shared.options.webhooks else {
        return std::future::pending().await;
    };
    let mut trouble = Trouble::new("receivers cannot be told of finished batches");
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match shared.batches.store().batch_untold(AT_ONCE).await {
            Ok(untold) => {
                trouble.over();
                let telling = untold
                    .into_iter()
                    .map(|one| tell_one(shared, webhooks, one));
                stream::iter(telling)
                    .buffer_unordered(AT_ONCE)
                    .collect::<()>()
                    .await;
            }
            Err(error @ StoreError::NewerSchema { .. }) => return error,
            Err(error) => trouble.note(&error),
        }
    }
}

async fn tell_one(shared: &Shared, webhooks: &Webhooks, untold: Untold) {
    let Untold { batch, tries } = untold;
    let url = batch.on_done.as_deref().unwrap_or_default();
    // A batch that was retried ends again, and has more results then.
    let id = format!("{}.{}", batch.id, batch.last_finish_no);
    let body = serde_json::to_vec(&BatchView::from(&batch));
    let message = Message {
        id: &id,
        body: body.expect("a batch has string keys only, so it is always JSON"),
    };
    let next = next(
        &webhooks.send(url, message).await,
        tries,
        shared.options.tell_again,
    );
    match &next {
        Next::Done => tracing::info!(batch = %batch.id, "its receiver was told"),
        Next::Again(wait, error) => {
            tracing::warn!(batch = %batch.id, %error, wait_s = wait.as_secs(), "its receiver did not hear and is told again");
        }
        Next::GiveUp(error) => {
            tracing::warn!(batch = %batch.id, %error, "its receiver did not hear and is given up");
        }
    }
    let again_in = match next {
        Next::Again(wait, _) => Some(wait),
        Next::Done | Next::GiveUp(_) => None,
    };
    if let Err(error) = shared.batches.store().batch_told(batch.no, again_in).await {
        tracing::debug!(%error, batch = %batch.id, "the try was not noted: there is another one");
    }
}

/// What follows a try.
pub(super) enum Next {
    Done,
    Again(Duration, String),
    GiveUp(String),
}

/// Decides what follows a try, when `tries` went before it.
pub(super) fn next(told: &Result<(), NotHeard>, tries: u64, first_wait: Duration) -> Next {
    match told {
        Ok(()) => Next::Done,
        Err(error) if error.is_final() || tries + 1 >= MAX_TRIES => Next::GiveUp(error.to_string()),
        Err(error) => Next::Again(wait(first_wait, tries), error.to_string()),
    }
}

/// The wait after a try, when `tries` went before it.
fn wait(first: Duration, tries: u64) -> Duration {
    let factor = 1u32.checked_shl(u32::try_from(tries).unwrap_or(u32::MAX));
    let wait = factor.and_then(|factor| first.checked_mul(factor));
    wait.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::StatusCode;

    const FIRST: Duration = Duration::from_secs(2);

    #[test]
    fn waits_grow_and_all_tries_take_about_a_day() {
        assert_eq!(wait(FIRST, 0), FIRST);
        assert_eq!(wait(FIRST, 1), FIRST * 2);
        assert_eq!(wait(FIRST, 99), LONGEST_WAIT);
        let all: Duration = (0..MAX_TRIES - 1).map(|tries| wait(FIRST, tries)).sum();
        let day = Duration::from_secs(24 * 3_600);
        assert!(all > day * 3 / 4 && all < day * 5 / 4, "{all:?}");
    }

    #[test]
    fn receiver_is_given_up_when_it_says_so_and_after_the_last_try() {
        let failed = || Err(NotHeard::Answer(StatusCode::BAD_GATEWAY));
        assert!(matches!(next(&Ok(()), 3, FIRST), Next::Done));
        assert!(matches!(next(&failed(), 0, FIRST), Next::Again(wait, _) if wait == FIRST));
        assert!(matches!(
            next(&failed(), MAX_TRIES - 1, FIRST),
            Next::GiveUp(_)
        ));
        let gone = Err(NotHeard::Answer(StatusCode::GONE));
        assert!(matches!(next(&gone, 0, FIRST), Next::GiveUp(_)));
    }
}
