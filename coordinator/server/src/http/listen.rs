//! Connections: accepted, bounded in number and in patience, and brought to their end on a stop.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::limits::{CONNECTIONS_MAX, HEADER_TIMEOUT, SHUTDOWN_GRACE, WRITE_STALL_MAX};

/// Serves `router` until `stop`, then lets open requests end within their grace.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = GracefulShutdown::new();

    while let Some((stream, place)) = next_connection(&listener, &places, &stop).await {
        let io = TokioIo::new(Impatient::new(stream, WRITE_STALL_MAX));
        let connection = connections.watch(http.serve_connection(io, TowerToHyperService::new(router.clone())));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }

    drop(listener);
    if timeout(SHUTDOWN_GRACE, connections.shutdown()).await.is_err() {
        tracing::warn!("connections that were still open after the grace are dropped");
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// The next connection and its place; `None` after a stop.
async fn next_connection(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, Place)> {
    let accepted = async {
        let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
        (accept(listener).await, place)
    };
    stop.run_until_cancelled(accepted).await
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        let error = match listener.accept().await {
            Ok((stream, _)) => match stream.set_nodelay(true) {
                Ok(()) => return stream,
                Err(error) => error,
            },
            Err(error) => error,
        };
        if !is_of_one_connection(&error) {
            tracing::warn!(%error, "cannot accept connections at the moment");
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Whether only the connection that was being accepted is lost; else the process is short of something.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotConnected
    )
}

/// A connection that fails when its peer takes nothing for a while, so that a slow reader cannot hold its answer
/// and an event feed for ever.
struct Impatient<T> {
    io: T,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Impatient<T> {
    fn new(io: T, patience: Duration) -> Self {
        Self { io, patience, stalled: None }
    }

    /// Passes on what a write came to, or the end of patience while it is pending.
    fn watch<R>(&mut self, outcome: Poll<io::Result<R>>, context: &mut Context<'_>) -> Poll<io::Result<R>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Impatient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Impatient<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(context, bytes);
        self.watch(outcome, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.watch(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (mut peer, io) = duplex(4);
        let mut impatient = Impatient::new(io, Duration::from_secs(30));
        let error = impatient.write_all(b"more than fits").await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut taken = [0; 4];
        peer.read_exact(&mut taken).await.expect("what fitted");
        assert_eq!(&taken, b"more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_slow_and_takes_something_is_served() {
        let (mut peer, io) = duplex(4);
        let mut impatient = Impatient::new(io, Duration::from_secs(30));
        let reader = tokio::spawn(async move {
            let mut text = Vec::new();
            let mut piece = [0; 4];
            let mut clock = tokio::time::interval(Duration::from_secs(20));
            loop {
                clock.tick().await;
                match peer.read(&mut piece).await.expect("readable") {
                    0 => return text,
                    n => text.extend_from_slice(&piece[..n]),
                }
            }
        });
        impatient.write_all(b"more than fits").await.expect("it is taken in the end");
        drop(impatient);
        assert_eq!(reader.await.expect("no panic"), b"more than fits");
    }
}
