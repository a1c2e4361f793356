//! `slipway login`: keeps an API key where the official client keeps it.

use std::io::{IsTerminal as _, Write as _};

use clap::Args;
use serde_json::json;

use crate::config::connection::{Configuration, ConnectionArgs, client, machine, normalize};
use crate::config::files::{Files, read_or_empty, write_private};
use crate::config::{api_key, netrc, settings};
use crate::context::GlobalArgs;
use crate::exit::{Error, Exit, Result};
use crate::output::Format;
use crate::{input, output};

/// The address of the vendor's own service.
const CLOUD: &str = "https://api.wandb.ai";

/// Flags of `slipway login`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  slipway login --host http://localhost:8080 < slipway-data/admin-key
  slipway login --host https://slipway.example.com

The key goes into the netrc file and the address into ~/.config/wandb/settings, where the official
client reads them too. NETRC and WANDB_CONFIG_DIR move the files.")]
pub(crate) struct LoginArgs {
    /// The key; better given on standard input, because other users can see command lines
    key: Option<String>,
    /// Sign in to the vendor's own cloud, whatever `--host` and `WANDB_BASE_URL` say
    #[arg(long)]
    cloud: bool,
    /// Refused: every user of a server has a key
    #[arg(long)]
    anonymously: bool,
    /// Ask for a key even if there is one
    #[arg(long)]
    relogin: bool,
    /// Ask the server whether it accepts the key [default: yes]
    #[arg(long, overrides_with = "no_verify")]
    verify: bool,
    /// Keep the key without asking the server
    #[arg(long)]
    no_verify: bool,
}

/// Keeps the key.
pub(crate) async fn run(args: LoginArgs, connection: &ConnectionArgs, global: &GlobalArgs) -> Result<()> {
    if args.anonymously {
        return Err(Error::usage("signing in without a user is not possible")
            .with_hint("ask an admin of the server for a key: `slipway user create NAME`"));
    }
    if let Some(url) = args.key.as_deref().filter(|key| key.contains("://")) {
        return Err(
            Error::usage(format!("`{url}` is an address, and this is the place of an API key"))
                .with_hint(format!("slipway login --host {url}")),
        );
    }
    let configuration = Configuration::load()?;
    let base_url = if args.cloud {
        CLOUD.to_owned()
    } else {
        configuration.base_url(connection)?
    };
    let key = read_key(&args, &configuration, &base_url)?;
    api_key::check(&key).map_err(Error::usage)?;
    let username = if args.no_verify {
        None
    } else {
        Some(verify(&base_url, &key).await?)
    };
    save(&configuration.files, &base_url, &key)?;
    match (global.output, &username) {
        (Format::Json, _) => output::json(&json!({"baseUrl": base_url, "username": username}))?,
        (Format::Table, Some(username)) => output::note(format!("signed in to {base_url} as {username}")),
        (Format::Table, None) => output::note(format!("kept a key for {base_url}, without asking the server")),
    }
    if std::env::var("WANDB_API_KEY").is_ok_and(|set| !set.is_empty() && set != key) {
        output::warn("`WANDB_API_KEY` is set to another key and goes before the one that was kept");
    }
    Ok(())
}

fn read_key(args: &LoginArgs, configuration: &Configuration, base_url: &str) -> Result<String> {
    if let Some(key) = &args.key {
        output::warn("a key on the command line is visible to other users; give it on standard input");
        return Ok(key.trim().to_owned());
    }
    if !std::io::stdin().is_terminal() {
        let text = input::stdin()?;
        let key = text.lines().next().unwrap_or_default().trim().to_owned();
        if !key.is_empty() {
            return Ok(key);
        }
    }
    if !args.relogin
        && let Some(key) = configuration.api_key(base_url)?
    {
        return Ok(key);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::usage("there is no key on standard input")
            .with_hint("`slipway login --host URL < FILE`, or run it in a terminal to be asked"));
    }
    prompt(base_url)
}

/// Asks for a key in the terminal, without showing it.
fn prompt(base_url: &str) -> Result<String> {
    output::note(format!("Find or make a key at {base_url}/authorize"));
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "API key (it will not be shown): ");
    let _ = stderr.flush();
    let key = {
        let _hidden = Hidden::begin();
        let mut line = String::new();
        std::io::stdin()
            .read_line(&mut line)
            .map_err(|error| Error::failure(format!("cannot read the key: {error}")))?;
        line.trim().to_owned()
    };
    output::note("");
    Ok(key)
}

/// The terminal does not show what is typed while this lives.
struct Hidden(Option<rustix::termios::Termios>);

impl Hidden {
    fn begin() -> Self {
        let stdin = std::io::stdin();
        let Ok(before) = rustix::termios::tcgetattr(&stdin) else {
            return Self(None);
        };
        let mut quiet = before.clone();
        quiet.local_modes.remove(rustix::termios::LocalModes::ECHO);
        let set = rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Flush, &quiet);
        Self(set.is_ok().then_some(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nothing can be done about a terminal that went away.
            let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, before);
        }
    }
}

async fn verify(base_url: &str, key: &str) -> Result<String> {
    let viewer = client(base_url.to_owned(), Some(key.to_owned()))?
        .viewer()
        .await
        .map_err(|error| match error {
            slipway_client::Error::Unauthorized { .. } => Error::new(Exit::Refused, error.to_string()).with_hint(
                format!("find or make a key at {base_url}/authorize; nothing was changed"),
            ),
            other => other.into(),
        })?;
    Ok(viewer
        .username
        .or(viewer.entity)
        .unwrap_or_else(|| "an unnamed user".to_owned()))
}

/// Writes the key first: an address without a key would break what worked before.
fn save(files: &Files, base_url: &str, key: &str) -> Result<()> {
    let old = read_or_empty(&files.netrc)?;
    write_private(&files.netrc, &netrc::with_entry(&old, machine(base_url), key))?;
    for path in [&files.settings, &files.workspace] {
        let old = read_or_empty(path)?;
        // The workspace's settings go before the user's: another address there would win.
        let value = (path == &files.settings).then(|| normalize(base_url));
        let new = settings::with(&old, "base_url", value.as_deref());
        if new != old {
            write_private(path, &new)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::save;
    use crate::config::files::{Files, read_or_empty};

    #[test]
    fn a_login_writes_key_and_address_and_clears_the_workspaces_address() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let files = Files {
            netrc: at("netrc"),
            settings: at("config/settings"),
            workspace: at("wandb/settings"),
            agent_config: at("launch-config.yaml"),
        };
        std::fs::create_dir(at("wandb")).unwrap();
        std::fs::write(&files.workspace, "[default]\nbase_url = http://old\nmode = online\n").unwrap();
        save(&files, "http://localhost:8080/", "k").unwrap();
        let read = |path| read_or_empty(path).unwrap();
        assert_eq!(
            read(&files.netrc),
            "machine localhost:8080\n  login user\n  password k\n"
        );
        assert_eq!(read(&files.settings), "[default]\nbase_url = http://localhost:8080\n\n");
        assert_eq!(read(&files.workspace), "[default]\nmode = online\n");
    }
}
