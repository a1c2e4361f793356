//! The W&B API as data for a client: GraphQL documents, their inputs and answers, `file_stream`,
//! artifact manifests and job files.
//!
//! This crate knows shapes and names, nothing else: it opens no connection, reads no file and
//! decides nothing. Answers are read leniently (unknown fields are ignored, fields that only our
//! server sends are optional), because the same types serve both the official API and ours.

pub mod agent;
pub mod artifact;
pub mod document;
pub mod file_stream;
pub mod graphql;
pub mod identity;
pub mod item;
pub mod job;
pub mod queue;
pub mod run;
pub mod scalar;

pub use document::Document;
