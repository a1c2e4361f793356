//! What agents keep on disk: `<state directory>/<name>/`, and beside them `.name`, the name of the
//! agent that was given none.
//!
//! Nothing in it is needed to find work again. The lock keeps two agents of one name apart on a
//! machine, the instance id tells the server that a restart is the same agent, the home tells
//! whose jobs are there, and the cache saves downloads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::error::AgentError;

/// Keeps two agents of one name apart.
const LOCK: &str = "lock";

/// What tells the server that a restart is the same agent.
const INSTANCE: &str = "instance";

/// The name of the agent that was given none. No agent's directory is called like this: names do not
/// begin with a dot.
const KEPT_NAME: &str = ".name";

/// Where the process target keeps jobs, unless it is configured.
pub(crate) const JOBS: &str = "jobs";

/// Where the Docker target keeps what it knows of its containers.
pub(crate) const CONTAINERS: &str = "containers";

/// Whose items an agent's jobs belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Home {
    /// The server's address.
    pub(crate) server: String,
    /// The owner of the queues.
    pub(crate) entity: String,
}

/// An agent's directory, locked while this lives.
#[derive(Debug)]
pub(crate) struct StateDirectory {
    path: PathBuf,
    name: String,
    instance: String,
    _lock: File,
}

impl StateDirectory {
    /// Opens the directory of an agent, makes it if absent, and locks it.
    pub(crate) fn open(parent: &Path, name: &str) -> Result<Self, AgentError> {
        let path = parent.join(name);
        make(&path)?;
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| AgentError::AlreadyRunning {
            name: name.to_owned(),
            directory: parent.to_owned(),
        })?;
        let instance_path = path.join(INSTANCE);
        let instance = read_or_create(&instance_path).map_err(failed("write", &instance_path))?;
        Ok(Self {
            path,
            name: name.to_owned(),
            instance,
            _lock: lock,
        })
    }

    /// The same across restarts on this machine.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// Notes whose jobs are here. Refuses to become another's while there are some, unless told that
    /// it is the same server under another address.
    pub(crate) fn settle(&self, home: &Home, jobs: usize, same: bool) -> Result<(), AgentError> {
        let path = self.path.join("home");
        let known: Option<Home> = match fs::read(&path) {
            // One that cannot be read says nothing; the directory is older, or was touched by others.
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("read", &path)(error)),
        };
        match known {
            Some(known) if known == *home => Ok(()),
            Some(known) if jobs > 0 && !same => Err(AgentError::OtherHome {
                name: self.name.clone(),
                jobs,
                entity: known.entity,
                server: known.server,
            }),
            _ => serde_json::to_vec(home)
                .map_err(io::Error::other)
                .and_then(|bytes| write_whole(&path, &bytes))
                .map_err(failed("write", &path)),
        }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where downloaded sources are kept.
    pub(crate) fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }
}

/// The name of the agent that is given none. `first` makes one up, once for a state directory: of
/// two agents that start together one waits for the other's.
pub(crate) fn kept_name(parent: &Path, first: impl FnOnce() -> String) -> Result<String, AgentError> {
    make(parent)?;
    let path = parent.join(KEPT_NAME);
    let read_or_write = || -> io::Result<String> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // Without the end of its line the name was not written to its end.
        if let Some((name, _)) = text.split_once('\n')
            && !name.is_empty()
        {
            return Ok(name.to_owned());
        }
        let name = first();
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(format!("{name}\n").as_bytes())?;
        file.sync_all()?;
        Ok(name)
    };
    read_or_write().map_err(failed("keep the agent's name in", &path))
}

/// The name that [`kept_name`] keeps, if it does already.
pub(crate) fn known_name(parent: &Path) -> Option<String> {
    let text = fs::read_to_string(parent.join(KEPT_NAME)).ok()?;
    let (name, _) = text.split_once('\n')?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Whether an agent of this name has run here, so that a server takes this one for the same.
pub(crate) fn has_run(parent: &Path, name: &str) -> bool {
    parent.join(name).join(INSTANCE).exists()
}

/// Whether an agent of this name runs here.
pub(crate) fn runs(parent: &Path, name: &str) -> bool {
    let Ok(lock) = File::open(parent.join(name).join(LOCK)) else {
        return false;
    };
    flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
}

/// Agents besides `own` that left jobs here and do not run, with how many.
pub(crate) fn left_behind(parent: &Path, own: &str) -> Vec<(String, usize)> {
    let jobs = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok().filter(|name| name != own)?;
        let entries = |kind| {
            let listed = fs::read_dir(entry.path().join(kind)).into_iter().flatten().flatten();
            listed.filter(|entry| entry.path().is_dir()).count()
        };
        let count = entries(JOBS) + entries(CONTAINERS);
        (count > 0 && !runs(parent, &name)).then_some((name, count))
    };
    let mut found: Vec<(String, usize)> = match fs::read_dir(parent) {
        Ok(entries) => entries.flatten().filter_map(jobs).collect(),
        // Only a hint to people hangs on it.
        Err(_) => Vec::new(),
    };
    found.sort();
    found
}

fn make(path: &Path) -> Result<(), AgentError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("create", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AgentError {
    let path = path.to_owned();
    move |source| AgentError::State { action, path, source }
}

/// Writes a file so that after any crash it is there completely or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

fn read_or_create(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let instance = random_base36(20);
    write_whole(path, instance.as_bytes())?;
    Ok(instance)
}

/// Random text of `0-9a-z`, as run ids consist of.
pub(crate) fn random_base36(length: usize) -> String {
    use rand::RngExt as _;
    let mut random = rand::rng();
    (0..length)
        .map(|_| char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[random.random_range(0..36)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_first_start_is_kept_and_a_torn_one_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let kept = |name: &str| kept_name(parent.path(), || name.to_owned()).unwrap();
        assert_eq!(known_name(parent.path()), None);
        assert_eq!(kept("first"), "first");
        assert_eq!(known_name(parent.path()).as_deref(), Some("first"));
        assert_eq!(kept("second"), "first");
        fs::write(parent.path().join(".name"), "fir").unwrap();
        assert_eq!(kept("third"), "third");
        assert_eq!(kept("fourth"), "third");
    }

    #[test]
    fn jobs_of_another_home_are_not_taken_over_by_mistake() {
        let parent = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(parent.path(), "agent").unwrap();
        let home = |server: &str, entity: &str| Home {
            server: server.to_owned(),
            entity: entity.to_owned(),
        };
        for (home, jobs, same, settles) in [
            (home("s", "a"), 2, false, true),
            (home("s", "a"), 2, false, true),
            (home("s", "b"), 1, false, false),
            (home("t", "a"), 1, false, false),
            (home("t", "a"), 1, true, true),
            (home("s", "a"), 1, false, false),
            (home("s", "a"), 0, false, true),
        ] {
            assert_eq!(
                state.settle(&home, jobs, same).is_ok(),
                settles,
                "{home:?} {jobs} {same}"
            );
        }
        let error = state.settle(&home("s", "b"), 3, false).unwrap_err().to_string();
        assert!(error.contains("3 jobs here of entity `a` on s"), "{error}");
        fs::write(parent.path().join("agent/home"), "{").unwrap();
        state.settle(&home("s", "b"), 3, false).unwrap();
    }

    #[test]
    fn jobs_that_no_agent_looks_after_are_found() {
        let parent = tempfile::tempdir().unwrap();
        for (name, jobs) in [("idle", 0), ("left", 2), ("own", 1), ("running", 1)] {
            StateDirectory::open(parent.path(), name).unwrap();
            for job in 0..jobs {
                fs::create_dir_all(parent.path().join(format!("{name}/jobs/{job}"))).unwrap();
            }
        }
        let _running = StateDirectory::open(parent.path(), "running").unwrap();
        assert!(runs(parent.path(), "running") && !runs(parent.path(), "left"));
        assert!(has_run(parent.path(), "left") && !has_run(parent.path(), "never"));
        assert_eq!(left_behind(parent.path(), "own"), [("left".to_owned(), 2)]);
        assert_eq!(left_behind(&parent.path().join("absent"), "own"), []);
    }

    #[test]
    fn the_instance_survives_and_a_second_agent_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let first = StateDirectory::open(parent.path(), "agent").unwrap();
        let instance = first.instance().to_owned();
        assert!(matches!(
            StateDirectory::open(parent.path(), "agent"),
            Err(AgentError::AlreadyRunning { .. })
        ));
        assert!(StateDirectory::open(parent.path(), "other").is_ok());
        drop(first);
        assert_eq!(
            StateDirectory::open(parent.path(), "agent").unwrap().instance(),
            instance
        );
    }
}
