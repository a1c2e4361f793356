//! `slipway completions`.

use clap::Args;
use clap_complete::Shell;

use crate::exit::Result;
use crate::{cli, output};

/// Flags of `slipway completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  slipway completions bash > /etc/bash_completion.d/slipway
  slipway completions zsh > ~/.zfunc/_slipway")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::command(), "slipway", &mut script);
    output::raw(&String::from_utf8_lossy(&script))
}
