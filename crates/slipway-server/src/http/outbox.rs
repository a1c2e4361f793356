//! Knowing that an answer was written to its socket.
//!
//! A response that carries [`Claims`] gets a body whose pieces know when their last byte was taken
//! for writing. Once that holds for all of them the claims move to the connection's outbox, and the
//! connection's stream settles the outbox when it has flushed: hyper flushes a stream exactly when
//! everything it had encoded was written. A connection that breaks before takes the claims with it,
//! unsettled. That a piece was taken from the body says nothing: with HTTP/2 it may wait for the
//! client's window for as long as the connection lives.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use axum::response::Response;
use bytes::Buf;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::deliveries::{Claim, Claims};

/// Claims whose answers were encoded and not yet flushed.
#[derive(Default, Clone)]
pub(crate) struct Outbox(Arc<Mutex<Vec<Claim>>>);

impl Outbox {
    /// Makes a response settle its claims, if it has any, through this outbox.
    pub(crate) fn track(&self, mut response: Response) -> Response<Tracked> {
        let delivery = response.extensions_mut().remove::<Claims>().map(|claims| {
            Arc::new(Delivery {
                claims,
                outbox: self.clone(),
                open: AtomicUsize::new(1),
            })
        });
        response.map(|inner| Tracked { inner, delivery })
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

/// How far an answer with claims got.
struct Delivery {
    claims: Claims,
    outbox: Outbox,
    /// Pieces that were not written as a whole, and one for the body until it has ended.
    open: AtomicUsize,
}

impl Delivery {
    fn close_one(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.outbox.put(self.claims.take());
        }
    }
}

/// The body of an answer, which knows when it was written if it has claims.
pub(crate) struct Tracked {
    inner: Body,
    /// Until the body has ended.
    delivery: Option<Arc<Delivery>>,
}

impl HttpBody for Tracked {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let frame = frame.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|bytes| {
                    let delivery = self.delivery.clone().filter(|_| !bytes.is_empty());
                    if let Some(delivery) = &delivery {
                        delivery.open.fetch_add(1, Ordering::AcqRel);
                    }
                    Piece { bytes, delivery }
                })
            })
        });
        let last = match &frame {
            None => true,
            Some(Ok(_)) => self.inner.is_end_stream(),
            Some(Err(_)) => false,
        };
        if last && let Some(delivery) = self.delivery.take() {
            delivery.close_one();
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

/// Bytes of an answer, which know when the last of them was taken for writing.
pub(crate) struct Piece {
    bytes: Bytes,
    delivery: Option<Arc<Delivery>>,
}

impl Piece {
    fn note_end(&mut self) {
        if !self.bytes.has_remaining()
            && let Some(delivery) = self.delivery.take()
        {
            delivery.close_one();
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.note_end();
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        let bytes = self.bytes.copy_to_bytes(count);
        self.note_end();
        bytes
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
