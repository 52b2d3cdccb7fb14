//! What waits for the disk or for another process, beside the tasks that must not wait.

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UnixStream;

/// Reads a shim's words without waiting in place.
pub(super) fn lines(
    stream: std::os::unix::net::UnixStream,
) -> std::io::Result<Lines<BufReader<UnixStream>>> {
    stream.set_nonblocking(true)?;
    Ok(BufReader::new(UnixStream::from_std(stream)?).lines())
}

/// Runs what waits for the disk or for another process; a panic in it is a failed pod.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, pod_runtime::Error> + Send + 'static,
) -> Result<T, pod_runtime::Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(pod_runtime::Error::Setup(error.to_string())),
    }
}
