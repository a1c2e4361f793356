//! Target resources: where a job's workload runs.
//!
//! A [`Runner`] turns a [`Workload`] into something that runs, finds it again after the agent was
//! replaced, tells how it ended and hands out what it printed. It knows no server and no queue: what
//! a workload belongs to travels in its [`labels`](Workload::labels), which a runner keeps but does
//! not read.
//!
//! Every runner keeps the same promise: at most one start per [`WorkloadId`]. A second launch of the
//! same id adopts what is there, and what has ended stays readable until [`Runner::remove`].
//!
//! [`process`] runs jobs as processes of this machine, [`docker`] as containers of an engine. An agent
//! that has several targets holds them as one, [`Targets`].

mod digest;
pub mod docker;
mod error;
mod line;
pub mod process;
mod runner;
mod targets;
mod workload;

pub use digest::short_digest;
pub use error::RunnerError;
pub use line::{Line, News, Notice};
pub use process::check_directory;
pub use runner::{Listing, Reply, Runner, Watch};
pub use targets::Targets;
pub use workload::{Exit, ExitCause, Found, IdError, Status, Workload, WorkloadId};
