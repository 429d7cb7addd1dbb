//! A listener that holds so many connections and no more, and closes those on which nothing moves.
//!
//! Local applications keep a connection or two each; whoever opens hundreds, or opens one and says nothing, must not keep the others out.

use axum::serve::Listener;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Connections at a time; further ones wait in the system's queue.
pub const CONNECTIONS_MAX: usize = 128;
/// A connection on which nothing was read or written for so long is closed: longer than any answer takes, since nothing moves while it is
/// waited for.
pub const IDLE: Duration = Duration::from_secs(600);

/// See above.
pub struct Limited<L> {
    listener: L,
    free: Arc<Semaphore>,
    idle: Duration,
}

impl<L> Limited<L> {
    /// At most [`CONNECTIONS_MAX`] connections of a listener.
    pub fn new(listener: L) -> Self {
        Self { listener, free: Arc::new(Semaphore::new(CONNECTIONS_MAX)), idle: IDLE }
    }
}

impl<L: Listener<Io: Unpin>> Listener for Limited<L> {
    type Io = Held<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // Never closed, so that there is a permit sooner or later.
        let permit = self.free.clone().acquire_owned().await.ok();
        let (io, address) = self.listener.accept().await;
        let sleep = Box::pin(tokio::time::sleep(self.idle));
        (Held { io, idle: self.idle, sleep, _permit: permit }, address)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// One of the connections.
pub struct Held<I> {
    io: I,
    idle: Duration,
    sleep: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl<I> Held<I> {
    /// Passes on what the connection says; waiting is an error once it has lasted too long.
    fn in_time<T>(&mut self, context: &mut Context<'_>, poll: Poll<std::io::Result<T>>) -> Poll<std::io::Result<T>> {
        if poll.is_ready() {
            self.sleep.as_mut().reset(Instant::now() + self.idle);
            return poll;
        }
        ready!(pin!(&mut self.sleep).poll(context));
        Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Held<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_read(context, buffer);
        self.in_time(context, poll)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Held<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(context, bytes);
        self.in_time(context, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn silent_connections_end_and_further_ones_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (free, idle) = (Arc::new(Semaphore::new(1)), Duration::from_millis(300));
        let mut limited = Limited { listener, free, idle };
        let mut first = TcpStream::connect(address).await.unwrap();
        let (mut held, _) = limited.accept().await;
        let _second = TcpStream::connect(address).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), limited.accept()).await.is_err(), "one at a time");
        first.write_all(b"x").await.unwrap();
        let mut buffer = [0; 8];
        assert_eq!(held.read(&mut buffer).await.unwrap(), 1);
        let silent = held.read(&mut buffer).await.unwrap_err();
        assert_eq!(silent.kind(), std::io::ErrorKind::TimedOut);
        drop(held);
        limited.accept().await;
    }
}
