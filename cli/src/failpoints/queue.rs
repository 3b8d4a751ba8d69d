//! Moments around the queue.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rbee_queue::queue::{Control, Depth, Held, QueueError, TextEvent, Work};
use rbee_queue::{JobRef, NodeInstance, Queue};
use tokio::sync::broadcast;

use super::at;

/// A queue with moments: `pushed`, `claimed`, `forgotten`.
pub struct FailQueue(pub Arc<dyn Queue>);

#[async_trait]
impl Queue for FailQueue {
    async fn join(&self, node: &NodeInstance, room: usize) -> Result<(), QueueError> {
        self.0.join(node, room).await
    }

    async fn leave(&self, node: &NodeInstance) -> Result<Vec<Held>, QueueError> {
        self.0.leave(node).await
    }

    async fn push(&self, node: &NodeInstance, work: Vec<Work>) -> Result<(), QueueError> {
        self.0.push(node, work).await?;
        at("pushed");
        Ok(())
    }

    async fn take(&self, node: &NodeInstance, most: usize) -> Result<Vec<Work>, QueueError> {
        let taken = self.0.take(node, most).await?;
        at("claimed");
        Ok(taken)
    }

    async fn done(&self, node: &NodeInstance, jobs: &[Held]) -> Result<(), QueueError> {
        self.0.done(node, jobs).await?;
        at("forgotten");
        Ok(())
    }

    async fn cancel(&self, node: &NodeInstance, jobs: &[Held]) -> Result<Vec<Held>, QueueError> {
        self.0.cancel(node, jobs).await
    }

    async fn control(&self, node: &NodeInstance, message: Control) -> Result<(), QueueError> {
        self.0.control(node, message).await
    }

    async fn next_control(&self, node: &NodeInstance) -> Result<Control, QueueError> {
        self.0.next_control(node).await
    }

    async fn depth(&self, node: &NodeInstance) -> Result<Depth, QueueError> {
        self.0.depth(node).await
    }

    async fn held(&self, node: &NodeInstance) -> Result<Vec<Held>, QueueError> {
        self.0.held(node).await
    }

    async fn room_made(&self) {
        self.0.room_made().await;
    }

    async fn publish(&self, events: Vec<TextEvent>) {
        self.0.publish(events).await;
    }

    async fn watch(&self, job: JobRef) -> Result<broadcast::Receiver<TextEvent>, QueueError> {
        self.0.watch(job).await
    }

    async fn answer(&self, ask: &str, body: String) -> Result<(), QueueError> {
        self.0.answer(ask, body).await
    }

    async fn answered(&self, ask: &str, patience: Duration) -> Result<Option<String>, QueueError> {
        self.0.answered(ask, patience).await
    }
}
