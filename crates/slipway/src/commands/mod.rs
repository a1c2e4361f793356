//! The commands, one module each.

pub(crate) mod agents;
pub(crate) mod completions;
pub(crate) mod docs;
pub(crate) mod item;
pub(crate) mod job;
pub(crate) mod key;
pub(crate) mod launch;
pub(crate) mod launch_agent;
pub(crate) mod launch_here;
pub(crate) mod login;
pub(crate) mod queue;
pub(crate) mod queue_options;
pub(crate) mod run;
pub(crate) mod server;
pub(crate) mod shim;
pub(crate) mod team;
pub(crate) mod up;
pub(crate) mod user;
pub(crate) mod wait;
