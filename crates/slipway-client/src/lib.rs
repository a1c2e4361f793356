//! The typed client of the W&B API and of Slipway's additions to it.
//!
//! [`Client`] turns one call into one or more requests: it authenticates, classifies what went
//! wrong ([`Error`]), repeats what failed in passing ([`Retry`]) and, against a server that knows
//! nothing of our additions, does the same by official means where there are any. It keeps no state
//! but connections and the server's features, decides nothing about jobs, and prints nothing.

mod agents;
mod artifacts;
mod download;
mod error;
mod identity;
mod items;
mod options;
mod queues;
mod retry;
mod runs;
mod sse;
mod streams;
mod transport;
mod upload;

pub use agents::{Appended, PopRequest};
pub use artifacts::{ArtifactName, JobVersions};
pub use download::{DownloadError, file_path};
pub use error::{Error, Refusal, Result};
pub use items::ItemFilter;
pub use options::ClientOptions;
pub use retry::Retry;
pub use runs::RunFilter;
pub use streams::{AgentEvent, Follow, LogEvent, OutputEvent, RecordEvent};
pub use transport::Client;
pub use upload::{ArtifactUpload, Content, SourceFile, UploadOutcome, Uploaded};
