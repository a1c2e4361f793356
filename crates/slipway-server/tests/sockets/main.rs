//! The server over real sockets: what only shows when bytes are split, connections break and the
//! server ends. What a handler answers is tested without sockets, in the crate.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, in its helpers too")]

mod bed;
mod input;
mod pushes;
mod shutdown;
mod streams;
