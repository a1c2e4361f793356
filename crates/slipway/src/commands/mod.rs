//! The commands, one module each.

pub mod agents;
pub mod completions;
pub mod docs;
pub mod item;
pub mod job;
pub mod key;
pub mod launch;
pub mod launch_agent;
pub mod login;
pub mod queue;
pub mod run;
pub mod server;
pub mod shim;
pub mod team;
pub mod up;
pub mod user;
