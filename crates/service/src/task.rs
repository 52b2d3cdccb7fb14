//! Tasks that have an owner.

use std::future::Future;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle, JoinSet};

/// A task that ends when its owner is dropped.
#[derive(Debug)]
pub struct Task<T = ()>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    /// Starts a task on the present runtime.
    #[expect(clippy::disallowed_methods, reason = "this handle is the owner")]
    pub fn spawn(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    /// Waits for its end and returns what it gave.
    ///
    /// # Errors
    /// The task panicked or was aborted.
    pub async fn join(mut self) -> Result<T, JoinError> {
        (&mut self.0).await
    }

    /// Ends the task at its next await.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Tells whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits for all tasks, but no longer than `deadline`; then aborts the rest and returns how many.
pub async fn drain<T: 'static>(tasks: &mut JoinSet<T>, deadline: Duration) -> usize {
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(deadline, all).await.is_ok() {
        return 0;
    }
    let late = tasks.len();
    tasks.shutdown().await;
    late
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_task_ends_with_its_owner() {
        let (inside, outside) = oneshot::channel::<()>();
        let task = Task::spawn(async move {
            std::future::pending::<()>().await;
            drop(inside);
        });
        drop(task);
        assert!(outside.await.is_err(), "what the task held is dropped");
    }

    #[tokio::test]
    async fn a_task_gives_its_result() {
        assert_eq!(Task::spawn(async { 7 }).join().await.unwrap(), 7);
    }

    #[tokio::test]
    async fn draining_aborts_what_is_late() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async {});
        tasks.spawn(std::future::pending());
        assert_eq!(drain(&mut tasks, Duration::from_millis(50)).await, 1);
        assert!(tasks.is_empty());
    }
}
