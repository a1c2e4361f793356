//! `slipway user`.

use clap::{Args, Subcommand};
use serde_json::json;
use slipway_client::Client;
use slipway_model::queue::check_entity_name;
use slipway_server::auth::{generate_key, hash_password, stored_key};
use slipway_store::Store;
use slipway_store::identity::NewUser as StoredUser;
use slipway_wire::identity::NewUser;

use super::server::{DATA_DIR, StoreArgs, now, open_store, running_server};
use crate::config::api_key;
use crate::config::connection::{Configuration, ConnectionArgs, client};
use crate::context::{GlobalArgs, non_empty};
use crate::exit::{Error, Result};
use crate::input;
use crate::output::{self, Format};

/// The subcommands of `slipway user`.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make a user with an API key
    #[command(after_help = "Examples:
  slipway user create bob                                     on the server that you are signed in to
  slipway user create bob --api-key-file bob.key              with a key from elsewhere
  slipway user create bob --data-dir /var/lib/slipway         in a data directory, before the first start or later

With `--data-dir` of a running server the command goes to that server, with the key in its
`admin-key` file or that of `WANDB_API_KEY`.")]
    Create(CreateArgs),
}

/// Flags of `slipway user create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The user's name
    username: String,
    /// Let the user administer the installation
    #[arg(long)]
    admin: bool,
    /// An address for mail
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Make a service account of this team
    #[arg(long, value_name = "TEAM")]
    service_of: Option<String>,
    /// Import the key on the first line of a file; `-` is standard input [default: make a key]
    #[arg(long, conflicts_with = "api_key", value_name = "FILE")]
    api_key_file: Option<String>,
    /// Import this key; other users of the machine can see it meanwhile
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// A password for signing in to pages, on the first line of a file
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// The data directory of the server
    #[arg(long, env = "SLIPWAY_DATA_DIR", value_name = "DIR")]
    data_dir: Option<std::path::PathBuf>,
    /// The server's PostgreSQL database
    #[arg(long, env = "SLIPWAY_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
}

/// Runs a subcommand.
pub(crate) async fn run(command: UserCommand, connection: &ConnectionArgs, global: &GlobalArgs) -> Result<()> {
    let UserCommand::Create(args) = command;
    let user = NewUser {
        username: args.username.clone(),
        name: None,
        email: args.email.clone(),
        admin: args.admin,
        service_of: args.service_of.clone(),
        password: args.password_file.as_deref().map(input::secret).transpose()?,
        api_key: imported_key(&args)?,
    };
    let generated = match store_args(&args) {
        Some(store) => create_in(&store, &user, connection).await?,
        None => Configuration::load()?.client(connection)?.create_user(&user).await?,
    };
    report(&user, generated.as_deref(), global)
}

fn imported_key(args: &CreateArgs) -> Result<Option<String>> {
    let key = match (&args.api_key_file, &args.api_key) {
        (Some(path), _) => input::secret(path)?,
        (None, Some(key)) => {
            output::warn("a key on the command line is visible to other users; use `--api-key-file`");
            key.clone()
        }
        (None, None) => return Ok(None),
    };
    api_key::check(&key).map_err(Error::usage)?;
    Ok(Some(key))
}

/// The store that the flags name, if they name one.
fn store_args(args: &CreateArgs) -> Option<StoreArgs> {
    let database_url = non_empty(args.database_url.as_deref()).map(str::to_owned);
    (args.data_dir.is_some() || database_url.is_some()).then(|| StoreArgs {
        data_dir: args.data_dir.clone().unwrap_or_else(|| DATA_DIR.into()),
        database_url,
    })
}

/// Makes the user in a store, or through the server that has the store open.
async fn create_in(args: &StoreArgs, user: &NewUser, connection: &ConnectionArgs) -> Result<Option<String>> {
    match open_store(args).await {
        Ok(store) => create_in_store(&store, user).await,
        Err(error) => match server_of(args, connection)? {
            Some(client) => Ok(client.create_user(user).await?),
            None => Err(error.with_hint("or, with a server that runs, sign in as an admin and leave `--data-dir` out")),
        },
    }
}

/// A client of the server that has a data directory open, with a key that it accepts.
fn server_of(args: &StoreArgs, connection: &ConnectionArgs) -> Result<Option<Client>> {
    let Some(running) = running_server(&args.data_dir)? else {
        return Ok(None);
    };
    let base_url = connection.host.clone().unwrap_or(running.address);
    let key = match running.admin_key {
        Some(key) => Some(key),
        None => Configuration::load()?.api_key(&base_url)?,
    };
    key.map(|key| client(base_url, Some(key))).transpose()
}

async fn create_in_store(store: &Store, user: &NewUser) -> Result<Option<String>> {
    check_entity_name(&user.username).map_err(|error| Error::usage(error.to_string()))?;
    let password_hash = match &user.password {
        Some(password) => Some(
            hash_password(password.clone())
                .await
                .map_err(|error| Error::usage(error.to_string()))?,
        ),
        None => None,
    };
    let row = StoredUser {
        username: user.username.clone(),
        name: String::new(),
        email: user.email.clone().unwrap_or_default(),
        admin: user.admin,
        service_of: user.service_of.clone(),
        password_hash,
    };
    let (key, generated) = match &user.api_key {
        Some(key) => (key.clone(), None),
        None => {
            let key = generate_key();
            (key.clone(), Some(key))
        }
    };
    store
        .create_user_with_key(row, stored_key(&key, "first key"), "", now())
        .await?;
    Ok(generated)
}

fn report(user: &NewUser, generated: Option<&str>, global: &GlobalArgs) -> Result<()> {
    match global.output {
        Format::Json => output::json(&json!({
            "username": user.username, "admin": user.admin, "apiKey": generated,
        })),
        Format::Table => {
            output::note(format!("made user {}", user.username));
            let Some(key) = generated else { return Ok(()) };
            output::text_line(key)?;
            output::note("this is its API key; it is not shown again");
            Ok(())
        }
    }
}
