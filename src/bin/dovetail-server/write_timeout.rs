//! A connection whose other side has to read: a write that waits while nothing is read is an error.

use std::future::Future;
use std::io::{ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// A connection with such a limit.
pub struct WriteTimeout {
    stream: TcpStream,
    limit: Duration,
    /// Ends when something has to have been read.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl WriteTimeout {
    /// A connection on which a write may wait for `limit` while the other side reads nothing.
    pub fn new(stream: TcpStream, limit: Duration) -> WriteTimeout {
        WriteTimeout { stream, limit, waiting: None }
    }

    /// What a write of `bytes` has come to: an error if it has waited for too long and there is still no room at all.
    fn timed(
        &mut self,
        context: &mut Context,
        written: Poll<Result<usize>>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        Poll::Ready(match write_now(&self.stream, bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::TimedOut.into()),
            written => written,
        })
    }
}

/// Writes what there is room for. Linux reports room only once a third of its buffer is free, which is more than a slow
/// client may read in a while.
#[cfg(unix)]
fn write_now(stream: &TcpStream, bytes: &[u8]) -> Result<usize> {
    use std::io::Write;
    use std::os::fd::AsFd;
    std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?).write(bytes)
}

#[cfg(not(unix))]
fn write_now(stream: &TcpStream, bytes: &[u8]) -> Result<usize> {
    stream.try_write(bytes)
}

impl AsyncRead for WriteTimeout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        buffer: &mut ReadBuf,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WriteTimeout {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.timed(context, written, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        parts: &[IoSlice],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        let first = parts.iter().find(|part| !part.is_empty());
        self.timed(context, written, first.map_or(&[][..], |part| &part[..]))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
