//! The launch agent: takes items from queues, runs them on target resources, and says how they ended.
//!
//! One loop owns the connection to the server and a pure core ([`core`]) that decides what to do;
//! each item has a task of its own ([`item`]) from acknowledgement to the accepted report. What is
//! known of an item is either on the server or with its workload, so an agent that was killed is
//! replaced by one that asks both ([`recovery`]).
//!
//! The agent carries no rule of its own about who may do what: it applies those of `slipway-model`
//! again, in case its server knows none.

mod check;
mod core;
mod environment;
mod error;
mod failpoint;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod health;
mod here;
mod item;
mod options;
mod patience;
mod recovery;
mod registration;
mod secret;
mod service;
mod source;
mod state_directory;
mod targets;

pub use check::{Check, CheckReport};
pub use error::AgentError;
pub use here::HereError;
pub use options::AgentOptions;
pub use service::{Agent, End, Handle};
