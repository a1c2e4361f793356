//! Which server to talk to, and with which key.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use slipway_client::{Client, ClientOptions, Retry};

use super::files::{Files, read_or_empty};
use super::{netrc, settings};
use crate::exit::{Error, Result};
use crate::output;

/// How long a command goes on trying to reach a server.
const PATIENCE: Duration = Duration::from_secs(20);

/// After how long it says that it waits.
const MENTION: Duration = Duration::from_secs(2);

/// Flags of every command that talks to a server.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConnectionArgs {
    /// The server's address [default: from `slipway login`]
    #[arg(
        long,
        visible_alias = "base-url",
        global = true,
        value_name = "URL",
        env = "WANDB_BASE_URL",
        help_heading = "Connection"
    )]
    pub host: Option<String>,
}

/// What files and variables say, merged.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    /// The files.
    pub files: Files,
    settings: BTreeMap<String, String>,
    api_key_variable: Option<String>,
}

impl Configuration {
    /// Reads the settings files and the variables of this process.
    pub(crate) fn load() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let files = Files::locate(variable);
        let mut merged = settings::read(&read_or_empty(&files.settings)?);
        merged.extend(settings::read(&read_or_empty(&files.workspace)?));
        Ok(Self {
            files,
            settings: merged,
            api_key_variable: variable("WANDB_API_KEY"),
        })
    }

    /// A setting of the settings files.
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        self.settings
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The server's address.
    pub(crate) fn base_url(&self, connection: &ConnectionArgs) -> Result<String> {
        let host = connection.host.as_deref().filter(|host| !host.is_empty());
        let Some(url) = host.or_else(|| self.setting("base_url")).map(normalize) else {
            return Err(Error::usage("no server is configured")
                .with_hint("run `slipway login --host URL`, or set `WANDB_BASE_URL` and `WANDB_API_KEY`"));
        };
        // A client with no key would say the same, but later than that there is no key.
        let valid = url::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if valid {
            Ok(url)
        } else {
            Err(Error::usage(format!("`{url}` is not a server address"))
                .with_hint("write it like http://localhost:8080"))
        }
    }

    /// The key for a server, if there is one.
    pub(crate) fn api_key(&self, base_url: &str) -> Result<Option<String>> {
        if let Some(key) = &self.api_key_variable {
            return Ok(Some(key.clone()));
        }
        let found = netrc::find(&read_or_empty(&self.files.netrc)?, machine(base_url));
        let same = self.setting("base_url").is_some_and(|url| normalize(url) == base_url);
        Ok(found.or_else(|| self.setting("api_key").filter(|_| same).map(str::to_owned)))
    }

    /// A client for the configured server.
    pub(crate) fn client(&self, connection: &ConnectionArgs) -> Result<Client> {
        let base_url = self.base_url(connection)?;
        let api_key = self.api_key(&base_url)?.ok_or_else(|| {
            Error::new(crate::exit::Exit::Refused, format!("no API key for {base_url}"))
                .with_hint(format!("run `slipway login --host {base_url}`, or set `WANDB_API_KEY`"))
        })?;
        client(base_url, Some(api_key))
    }
}

/// A client with a command's patience.
pub(crate) fn client(base_url: String, api_key: Option<String>) -> Result<Client> {
    let options = ClientOptions {
        username: std::env::var("WANDB_USERNAME").ok().filter(|name| !name.is_empty()),
        ..ClientOptions::new(base_url, api_key)
    };
    let client = Client::new(options)?.with_retry(Retry::For(PATIENCE));
    let server = client.base_url().to_owned();
    Ok(client.on_wait(MENTION, move |error| output::note(waiting(&server, error))))
}

/// What to say while a server does not answer.
fn waiting(server: &str, error: Option<&slipway_client::Error>) -> String {
    let what = error.map_or_else(|| format!("{server} has not answered yet"), ToString::to_string);
    format!("{what}; waiting for it {} s in all", PATIENCE.as_secs())
}

/// An address as settings files keep it: without a slash at the end.
pub(crate) fn normalize(url: &str) -> String {
    url.trim().trim_end_matches('/').to_owned()
}

/// The name of a server in a netrc file: host and port as its address spells them.
pub(crate) fn machine(base_url: &str) -> &str {
    let rest = base_url.split_once("://").map_or(base_url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::{Configuration, ConnectionArgs, machine};
    use crate::config::files::Files;
    use std::collections::BTreeMap;

    #[test]
    fn servers_are_named_by_host_and_port() {
        for (url, name) in [
            ("http://localhost:8080", "localhost:8080"),
            ("https://h.example/wandb/", "h.example"),
            ("https://h:443", "h:443"),
        ] {
            assert_eq!(machine(url), name);
        }
    }

    fn configuration(netrc: &str, settings: &[(&str, &str)], key: Option<&str>) -> (tempfile::TempDir, Configuration) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("netrc");
        std::fs::write(&path, netrc).unwrap();
        let configuration = Configuration {
            files: Files {
                netrc: path,
                settings: folder.path().join("settings"),
                workspace: folder.path().join("workspace"),
                agent_config: folder.path().join("agent"),
            },
            settings: settings
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect::<BTreeMap<_, _>>(),
            api_key_variable: key.map(str::to_owned),
        };
        (folder, configuration)
    }

    #[test]
    fn a_flag_beats_the_settings_and_without_either_there_is_no_server() {
        let flag = ConnectionArgs {
            host: Some("http://flag/".to_owned()),
        };
        let none = ConnectionArgs::default();
        let (_folder, set) = configuration("", &[("base_url", "http://set/")], None);
        assert_eq!(set.base_url(&flag).unwrap(), "http://flag");
        assert_eq!(set.base_url(&none).unwrap(), "http://set");
        let (_folder, unset) = configuration("", &[], None);
        assert!(
            unset
                .base_url(&none)
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("slipway login")
        );
    }

    #[test]
    fn keys_come_from_the_variable_then_netrc_then_the_settings_of_that_server() {
        let entry = "machine h password from-netrc";
        let file = [("base_url", "http://h"), ("api_key", "from-settings")];
        for (netrc, settings, variable, url, key) in [
            (
                entry,
                &file[..],
                Some("from-variable"),
                "http://h",
                Some("from-variable"),
            ),
            (entry, &file[..], None, "http://h", Some("from-netrc")),
            ("", &file[..], None, "http://h", Some("from-settings")),
            ("", &file[..], None, "http://elsewhere", None),
        ] {
            let (_folder, configuration) = configuration(netrc, settings, variable);
            assert_eq!(configuration.api_key(url).unwrap().as_deref(), key, "{url}");
        }
    }
}
