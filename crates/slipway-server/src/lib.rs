//! The server: GraphQL, file_stream, uploads, event streams, pages and authentication over the store.
//!
//! A request passes three floors. [`http`] owns sockets, limits, request ids and answers to what is
//! malformed; [`auth`] turns credentials into a [`auth::Principal`] and [`access`] says what it may
//! do; the handlers in [`graphql`] and the REST modules translate between the wire and
//! [`slipway_store::Store`]. Rules of the domain live in `slipway-model`; handlers call them and
//! never restate them. Nothing here keeps state that another replica would need.

mod access;
mod again;
mod app;
pub mod auth;
mod background;
mod console;
mod contacts;
mod deliveries;
mod error;
mod file_stream;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod graphql;
mod http;
mod hub;
mod lookup;
mod manifest;
mod metrics;
mod options;
mod output;
mod pages;
mod proxies;
mod references;
mod run_history;
mod run_log;
mod server;
mod streams;
#[cfg(test)]
mod testing;
mod uploads;

pub use app::Clock;
pub use error::{ApiError, Code};
pub use options::{RateLimit, RateLimitError, ServerOptions, TlsFiles};
pub use proxies::{Network, NetworkError};
pub use server::{Listening, Server, ServerError};
