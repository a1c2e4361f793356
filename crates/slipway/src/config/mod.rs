//! What the command knows of servers and keys: the files and variables of the official client.
//!
//! A value is looked for in this order: flag, `WANDB_*` variable, the workspace's settings file, the
//! user's settings file; an API key in `WANDB_API_KEY`, the netrc file, the settings files.

pub(crate) mod api_key;
pub(crate) mod connection;
pub(crate) mod files;
pub(crate) mod netrc;
pub(crate) mod settings;
