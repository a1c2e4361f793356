//! Where the files of the official client are, and writing them safely.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::exit::{Error, Result};

/// The files that configure the command.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// The netrc file: `$NETRC`, `~/.netrc` or `~/_netrc`.
    pub netrc: PathBuf,
    /// The user's settings: `$WANDB_CONFIG_DIR/settings`, else `~/.config/wandb/settings`.
    pub settings: PathBuf,
    /// The workspace's settings: `wandb/settings` below `$WANDB_DIR`, else below the current folder.
    pub workspace: PathBuf,
    /// The default of the agent's configuration: `launch-config.yaml` beside the user's settings.
    pub agent_config: PathBuf,
}

impl Files {
    /// The files by the rules of the official client. `variable`: reads an environment variable.
    pub(crate) fn locate(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = PathBuf::from(set("HOME").unwrap_or_else(|| ".".to_owned()));
        let expand = |path: String| match path.strip_prefix("~/") {
            Some(rest) => home.join(rest),
            None => PathBuf::from(path),
        };
        let netrc = set("NETRC").map_or_else(
            || {
                let (unix, windows) = (home.join(".netrc"), home.join("_netrc"));
                if !unix.exists() && windows.exists() {
                    windows
                } else {
                    unix
                }
            },
            expand,
        );
        let config = set("WANDB_CONFIG_DIR").map_or_else(|| home.join(".config/wandb"), expand);
        let root = set("WANDB_DIR").map_or_else(PathBuf::new, expand);
        let hidden = root.join(".wandb");
        Self {
            netrc,
            settings: config.join("settings"),
            workspace: if hidden.exists() { hidden } else { root.join("wandb") }.join("settings"),
            agent_config: config.join("launch-config.yaml"),
        }
    }
}

/// A file's text; empty if there is none.
pub(crate) fn read_or_empty(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(cannot("read", path, &error)),
    }
}

/// Replaces a file as a whole, readable by its owner only: whoever reads it meanwhile sees the old
/// text or the new one.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let cannot = |error: io::Error| cannot("write", path, &error);
    // A link stays a link: people keep these files in repositories of their own.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        fs::create_dir_all(folder).map_err(cannot)?;
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let temporary = target.with_file_name(format!(".{name}.{:08x}", rand::random::<u32>()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, &target));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(cannot)
}

/// Says which file could not be used, and why.
pub(crate) fn cannot(action: &str, path: &Path, error: &io::Error) -> Error {
    Error::failure(format!("cannot {action} `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{Files, read_or_empty, write_private};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    #[test]
    fn variables_move_the_files() {
        let files = Files::locate(|name| match name {
            "HOME" => Some("/home/me".to_owned()),
            "NETRC" => Some("~/keys".to_owned()),
            "WANDB_CONFIG_DIR" => Some("/etc/wandb".to_owned()),
            "WANDB_DIR" => Some(String::new()),
            _ => None,
        });
        assert_eq!(files.netrc, Path::new("/home/me/keys"));
        assert_eq!(files.settings, Path::new("/etc/wandb/settings"));
        assert_eq!(files.agent_config, Path::new("/etc/wandb/launch-config.yaml"));
        assert_eq!(files.workspace, Path::new("wandb/settings"));
        let files = Files::locate(|name| (name == "HOME").then(|| "/nowhere".to_owned()));
        assert_eq!(files.netrc, Path::new("/nowhere/.netrc"));
        assert_eq!(files.settings, Path::new("/nowhere/.config/wandb/settings"));
    }

    #[test]
    fn files_are_private_and_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/netrc");
        assert_eq!(read_or_empty(&path).unwrap(), "");
        write_private(&path, "one").unwrap();
        write_private(&path, "two").unwrap();
        assert_eq!(read_or_empty(&path).unwrap(), "two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1);
    }
}
