//! What every command that talks to a server needs: the client, defaults for names, the form of
//! output.

use chrono::Utc;
use clap::Args;
use serde::Serialize;
use slipway_client::Client;

use crate::config::connection::{Configuration, ConnectionArgs};
use crate::exit::{Error, Result};
use crate::output::{self, Format};

/// Flags that every command has.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct GlobalArgs {
    /// How to print data
    #[arg(long, short = 'o', global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// An owner of queues and projects.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct EntityArgs {
    /// The user or team [default: the API key's]
    #[arg(long, short, env = "WANDB_ENTITY", value_name = "ENTITY")]
    pub entity: Option<String>,
}

/// A project.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ProjectArgs {
    /// The project
    #[arg(long, short, env = "WANDB_PROJECT", value_name = "PROJECT")]
    pub project: Option<String>,
}

/// A connected command.
pub(crate) struct Context {
    /// The server.
    pub client: Client,
    /// The form of output.
    pub format: Format,
    configuration: Configuration,
}

impl Context {
    /// Connects as configured.
    pub(crate) fn new(connection: &ConnectionArgs, global: &GlobalArgs) -> Result<Self> {
        let configuration = Configuration::load()?;
        Ok(Self {
            client: configuration.client(connection)?,
            format: global.output,
            configuration,
        })
    }

    /// An entity by flag, variable, settings, or the key's default.
    pub(crate) async fn entity(&self, args: &EntityArgs) -> Result<String> {
        match non_empty(args.entity.as_deref()).or_else(|| self.configuration.setting("entity")) {
            Some(entity) => Ok(entity.to_owned()),
            None => Ok(self.client.default_entity().await?),
        }
    }

    /// A project by flag, variable or settings.
    pub(crate) fn project(&self, args: &ProjectArgs) -> Option<String> {
        let project = non_empty(args.project.as_deref()).or_else(|| self.configuration.setting("project"));
        project.map(str::to_owned)
    }

    /// A setting of the settings files.
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        self.configuration.setting(name)
    }

    /// A project that must be named.
    pub(crate) fn required_project(&self, args: &ProjectArgs) -> Result<String> {
        self.project(args).ok_or_else(|| {
            Error::usage("no project is named").with_hint("add `--project NAME`, or set `WANDB_PROJECT`")
        })
    }

    /// Prints a value: for programs as it is, for people as `text` says.
    pub(crate) fn print<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        match self.format {
            Format::Json => output::json(value),
            Format::Table => output::text_line(&text(value)),
        }
    }
}

/// A value unless it is empty, as variables that are set to nothing are.
pub(crate) fn non_empty(value: Option<&str>) -> Option<&str> {
    value.filter(|value| !value.is_empty())
}

/// Now, for tables that say how long ago something was.
pub(crate) fn now() -> chrono::DateTime<Utc> {
    Utc::now()
}
