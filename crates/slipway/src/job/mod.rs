//! Jobs: naming them, collecting their code, turning a command line into a run spec.

pub(crate) mod code;
pub(crate) mod ignore;
pub(crate) mod names;
pub(crate) mod options;
pub(crate) mod origins;
pub(crate) mod spec;
