//! Knowing that an answer was written to its socket.
//!
//! A response that carries [`Claims`] gets a body that moves them to the connection's outbox with
//! its last piece. The connection's stream settles the outbox when it has flushed: hyper flushes a
//! stream exactly when everything it had encoded was written. A connection that breaks before
//! takes the claims with it, unsettled.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use axum::response::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::deliveries::{Claim, Claims};

/// Claims whose answers were encoded and not yet flushed.
#[derive(Default, Clone)]
pub(crate) struct Outbox(Arc<Mutex<Vec<Claim>>>);

impl Outbox {
    /// Makes a response settle its claims through this outbox.
    pub(crate) fn track(&self, mut response: Response) -> Response {
        match response.extensions_mut().remove::<Claims>() {
            None => response,
            Some(claims) => response.map(|inner| {
                Body::new(Tracked {
                    inner,
                    claims,
                    outbox: self.clone(),
                })
            }),
        }
    }

    fn put(&self, claims: Vec<Claim>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(claims);
    }

    fn settle(&self) {
        let claims = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for claim in claims {
            claim.delivered();
        }
    }
}

/// A body that knows when its last piece was taken.
struct Tracked {
    inner: Body,
    claims: Claims,
    outbox: Outbox,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let last = match &frame {
            None => true,
            Some(Ok(_)) => self.inner.is_end_stream(),
            Some(Err(_)) => false,
        };
        if last {
            self.outbox.put(self.claims.take());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A connection's stream that settles the outbox when it has flushed.
pub(crate) struct Settling<S> {
    stream: S,
    outbox: Outbox,
}

impl<S> Settling<S> {
    /// Wraps a stream.
    pub(crate) fn new(stream: S, outbox: Outbox) -> Self {
        Self { stream, outbox }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Settling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Settling<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.outbox.settle();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
