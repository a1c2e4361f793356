//! The domain of Slipway as pure data and functions.
//!
//! This crate does no input or output, reads no clock and spawns nothing: every function is a
//! function of its arguments. Whoever needs the time passes it in as milliseconds since the Unix
//! epoch ([`Millis`]).

pub mod address;
pub mod agent;
pub mod agent_config;
pub mod config;
pub mod docker_options;
pub mod filter;
pub mod id;
pub mod identity;
pub mod item;
pub mod json;
pub mod macros;
pub mod merge;
pub mod names;
pub mod policy;
pub mod priority;
pub mod push;
pub mod queue;
pub mod redact;
pub mod run;
pub mod spec;
pub mod template;
pub mod wait;

#[cfg(test)]
mod arbitrary_input;

/// Milliseconds since the Unix epoch, UTC.
pub type Millis = i64;
