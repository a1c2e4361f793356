//! Jobs: naming them, collecting their code, turning a command line into a run spec.

pub mod code;
pub mod ignore;
pub mod names;
pub mod spec;
