//! The job directory: what agent and shim leave for each other.
//!
//! | Name | Written by | What |
//! | --- | --- | --- |
//! | `spec.json` | agent | what to run ([`Spec`](super::record::Spec)), mode 0600 |
//! | `lock` | agent | locked as long as the shim, or the agent that is about to start it, lives |
//! | `work/` | agent, job | the job's working directory |
//! | `started` | shim | before the job starts |
//! | `output` | shim | what the job printed, raw |
//! | `stop` | agent | that the job is to end |
//! | `exit` | shim | how the job ended ([`Exit`](crate::Exit)) |
//! | `control`, `events` | – | named pipes: a byte says "look at `stop`", "something changed" |
//! | `shim.log` | shim | why the shim itself failed |
//! | `stop.room`, `stop.room2`, `exit.room` | agent | blocks of the disk for a stop, a harder one, and the end |
//!
//! The pipes carry no information of their own, so a byte that is lost costs time and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FallocateFlags, FlockOperation, Mode, OFlags, fallocate, flock, mkfifoat};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::RunnerError;

pub(crate) const SPEC: &str = "spec.json";
pub(crate) const LOCK: &str = "lock";
pub(crate) const WORK: &str = "work";
pub(crate) const STARTED: &str = "started";
pub(crate) const OUTPUT: &str = "output";
pub(crate) const STOP: &str = "stop";
pub(crate) const EXIT: &str = "exit";
pub(crate) const CONTROL: &str = "control";
pub(crate) const EVENTS: &str = "events";
pub(crate) const SHIM_LOG: &str = "shim.log";

/// What has to be written in any case: a job may be asked to stop, and then not be given the time.
const ROOMS: [(&str, &[&str]); 2] = [(STOP, &["room", "room2"]), (EXIT, &["room"])];

/// Bytes that a record has when nothing is left of the disk: a block.
const ROOM: u64 = 4096;

/// How often it is looked whether a lock is free.
const CLAIM_AGAIN: Duration = Duration::from_millis(10);

/// One job directory.
#[derive(Debug, Clone)]
pub(crate) struct JobDirectory {
    path: PathBuf,
}

impl JobDirectory {
    /// The directory at `path`, which need not exist.
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Makes the directory with its lock, held by the returned file, its pipes, and room for what must
    /// be written in any case.
    ///
    /// Fails with [`io::ErrorKind::AlreadyExists`] if it exists: of two makers one wins.
    pub(crate) fn create(&self) -> io::Result<File> {
        fs::DirBuilder::new().mode(0o700).create(&self.path)?;
        let filled = self.fill();
        if filled.is_err() {
            let _ = fs::remove_dir_all(&self.path);
        }
        filled
    }

    fn fill(&self) -> io::Result<File> {
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.file(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        for pipe in [CONTROL, EVENTS] {
            mkfifoat(CWD, self.file(pipe), Mode::RUSR | Mode::WUSR)?;
        }
        for room in ROOMS.iter().flat_map(|(name, _)| self.rooms(name)) {
            keep_room(&room)?;
        }
        sync(&self.path)?;
        // Without this a power cut could forget a job that the server was told has started.
        sync(self.path.parent().unwrap_or(Path::new(".")))?;
        Ok(lock)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a record so that after any crash it is there completely or not at all. One for which room is
    /// kept is written on a full disk too, as often as it has rooms.
    pub(crate) fn write<T: Serialize>(&self, name: &str, record: &T) -> io::Result<()> {
        let bytes = serde_json::to_vec(record).map_err(io::Error::other)?;
        let temporary = self.file(&format!("{name}.new"));
        let mut fresh = OpenOptions::new();
        fresh.write(true).create(true).truncate(true).mode(0o600);
        let Err(error) = self.put(name, &temporary, &fresh, &bytes) else {
            return Ok(());
        };
        for room in self.rooms(name) {
            if self.put(name, &room, OpenOptions::new().write(true), &bytes).is_ok() {
                return Ok(());
            }
        }
        Err(error)
    }

    /// Writes a record by way of another file, which takes its place.
    fn put(&self, name: &str, by_way_of: &Path, open: &OpenOptions, bytes: &[u8]) -> io::Result<()> {
        let mut file = open.open(by_way_of)?;
        file.write_all(bytes)?;
        file.set_len(bytes.len() as u64)?;
        file.sync_all()?;
        fs::rename(by_way_of, self.file(name))?;
        sync(&self.path)
    }

    /// The files that keep room for a record; each serves once.
    fn rooms(&self, name: &str) -> impl Iterator<Item = PathBuf> {
        let kept = ROOMS.iter().find(|(kept, _)| *kept == name);
        let rooms = kept.map_or(&[][..], |(_, rooms)| rooms);
        rooms.iter().map(move |room| self.file(&format!("{name}.{room}")))
    }

    /// Reads a record; `None` if it was not written.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.file(name)) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads up to `limit` bytes of the job's output from an offset; nothing while there is none.
    pub(crate) fn output(&self, offset: u64, limit: usize) -> Result<Vec<u8>, RunnerError> {
        let path = self.file(OUTPUT);
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&path)?;
            file.seek(io::SeekFrom::Start(offset))?;
            let mut bytes = Vec::new();
            file.take(limit as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(RunnerError::io("read", &path)),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    /// Takes the lock; `None` while a shim lives, which may end within `wait`. A missing lock counts as free:
    /// nothing was begun.
    pub(crate) fn claim(&self, wait: Duration) -> io::Result<Option<File>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.file(LOCK))?;
        let begin = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(file)),
                // One that was stopped would keep a lock that is waited for, and its waiter, for ever.
                Err(Errno::WOULDBLOCK) if begin.elapsed() < wait => std::thread::sleep(CLAIM_AGAIN),
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether a shim lives. Looks without keeping others from the lock for long.
    pub(crate) fn locked(&self) -> io::Result<bool> {
        let file = match File::open(self.file(LOCK)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

/// Keeps room on the disk for a record. A file system that keeps none gives none.
fn keep_room(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, ROOM) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        kept => Ok(kept?),
    }
}

/// Why a job cannot run in the directory that its submitter names.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BelowError {
    /// It leads out of the source.
    #[error("`{0}` leads out of the job's source; give a path below it, such as `src/train`")]
    Outside(String),
    /// It does not exist, or is a file.
    #[error("the job's source has no directory `{0}`")]
    Missing(String),
    /// It cannot be looked at.
    #[error("`{path}` in the job's source cannot be looked at: {source}")]
    Unreadable { path: String, source: io::Error },
}

/// The directory `wanted` below `work`. A link in the source leads no further than its words do.
pub(crate) fn below(work: &Path, wanted: &str) -> Result<PathBuf, BelowError> {
    let outside = || BelowError::Outside(wanted.to_owned());
    let unreadable = |source| BelowError::Unreadable {
        path: wanted.to_owned(),
        source,
    };
    let mut steps = Path::new(wanted).components();
    if wanted.contains('\0') || !steps.all(|step| matches!(step, Component::Normal(_) | Component::CurDir)) {
        return Err(outside());
    }
    let real = match fs::canonicalize(work.join(wanted)) {
        Ok(real) if real.is_dir() => real,
        Ok(_) => return Err(BelowError::Missing(wanted.to_owned())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Err(BelowError::Missing(wanted.to_owned()));
        }
        Err(error) => return Err(unreadable(error)),
    };
    if !real.starts_with(fs::canonicalize(work).map_err(unreadable)?) {
        return Err(outside());
    }
    Ok(real)
}

/// Opens a pipe for single bytes that never wait: a full pipe, or one that nobody reads, is an error.
///
/// `keep`: open it for reading too, so that bytes stay until a reader comes.
pub(crate) fn open_pipe(path: &Path, keep: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(keep)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
}

/// What ends an output of which no more is kept.
pub(crate) fn cut(limit: u64) -> String {
    format!("\n[slipway] the output limit of {limit} bytes is reached; what follows is not kept\n")
}

/// Makes the entries of a directory durable.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Copies a tree: files with their permissions, directories, and symbolic links as links.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_makers_one_wins() {
        let parent = tempfile::tempdir().unwrap();
        let directory = JobDirectory::at(parent.path().join("job"));
        let _lock = directory.create().unwrap();
        assert_eq!(directory.create().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn the_lock_tells_whether_its_holder_lives() {
        let parent = tempfile::tempdir().unwrap();
        let directory = JobDirectory::at(parent.path().join("job"));
        assert!(!directory.locked().unwrap());
        let lock = directory.create().unwrap();
        assert!(directory.locked().unwrap());
        assert!(directory.claim(Duration::ZERO).unwrap().is_none());
        drop(lock);
        assert!(!directory.locked().unwrap());
        let claimed = directory.claim(Duration::ZERO).unwrap();
        assert!(claimed.is_some() && directory.locked().unwrap());
    }

    #[test]
    fn a_torn_record_is_an_error_and_a_missing_one_is_none() {
        let parent = tempfile::tempdir().unwrap();
        let directory = JobDirectory::at(parent.path().join("job"));
        let _lock = directory.create().unwrap();
        assert_eq!(directory.read::<Vec<i32>>("record").unwrap(), None);
        directory.write("record", &[1, 2]).unwrap();
        assert_eq!(directory.read("record").unwrap(), Some(vec![1, 2]));
        fs::write(directory.file("record"), "[1,").unwrap();
        assert_eq!(
            directory.read::<Vec<i32>>("record").unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn a_record_for_which_room_is_kept_is_written_where_nothing_else_can_be() {
        let parent = tempfile::tempdir().unwrap();
        let directory = JobDirectory::at(parent.path().join("job"));
        let _lock = directory.create().unwrap();
        for (name, times) in [(STOP, 2), (EXIT, 1), (STARTED, 0)] {
            // No new file can be made, as on a full disk.
            fs::create_dir(directory.file(&format!("{name}.new"))).unwrap();
            for time in 0..=times {
                let written = directory.write(name, &[7, time]);
                assert_eq!(written.is_ok(), time < times, "{name} {time}: {written:?}");
                let last = time.min(times - 1);
                let read = directory.read::<Vec<i32>>(name).unwrap();
                assert_eq!(read, (times > 0).then(|| vec![7, last]), "{name} {time}");
            }
        }
    }

    #[test]
    fn a_working_directory_lies_below_the_source() {
        let parent = tempfile::tempdir().unwrap();
        let work = parent.path().join("work");
        fs::create_dir_all(work.join("src/train")).unwrap();
        fs::write(work.join("file"), "").unwrap();
        std::os::unix::fs::symlink("src/train", work.join("inside")).unwrap();
        std::os::unix::fs::symlink("..", work.join("outside")).unwrap();
        let real = fs::canonicalize(&work).unwrap();
        for (wanted, expected) in [
            ("src/train", Ok("src/train")),
            ("./src//train/", Ok("src/train")),
            ("inside", Ok("src/train")),
            (".", Ok("")),
            ("..", Err("leads out")),
            ("src/../../etc", Err("leads out")),
            ("src/..", Err("leads out")),
            ("/etc", Err("leads out")),
            ("outside", Err("leads out")),
            ("src\0", Err("leads out")),
            ("file", Err("no directory `file`")),
            ("file/below", Err("no directory `file/below`")),
            ("absent", Err("no directory `absent`")),
        ] {
            match (below(&work, wanted), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, real.join(expected), "{wanted}"),
                (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{wanted}: {error}"),
                (found, _) => panic!("{wanted}: {found:?}"),
            }
        }
    }

    #[test]
    fn trees_are_copied_with_links_and_permissions() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let from = parent.path().join("from");
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/run.sh"), "#!/bin/sh").unwrap();
        fs::set_permissions(from.join("a/b/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("b/run.sh", from.join("a/link")).unwrap();
        let to = parent.path().join("to");
        copy_tree(&from, &to).unwrap();
        assert_eq!(fs::read_link(to.join("a/link")).unwrap(), Path::new("b/run.sh"));
        let mode = fs::metadata(to.join("a/b/run.sh")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }
}
