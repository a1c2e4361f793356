//! `slipway completions`.

use clap::Args;
use clap_complete::Shell;
use clap_complete::env::Shells;

use crate::completion::VARIABLE;
use crate::exit::{Error, Result};
use crate::output;

/// Flags of `slipway completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  slipway completions bash > /etc/bash_completion.d/slipway
  slipway completions zsh > ~/.zfunc/_slipway

The shell asks `slipway` itself for what it offers: queues, items and agents of the server that you are
signed in to, and the options of containers after `--option`.")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> Result<()> {
    let shells = Shells::builtins();
    let name = args.shell.to_string();
    let shell = shells
        .completer(&name)
        .ok_or_else(|| Error::usage(format!("there are no completions for {name}")))?;
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "slipway", "slipway", "slipway", &mut script)
        .map_err(|error| Error::failure(format!("cannot write the script: {error}")))?;
    output::raw(&String::from_utf8_lossy(&script))
}
