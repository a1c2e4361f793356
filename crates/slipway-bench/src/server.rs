//! The server under measurement: a child process with a data directory of its own.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tokio::net::TcpStream;

/// The user that the load speaks for.
pub(crate) const USER: &str = "bench";
const KEY: &str = "benchbenchbenchbenchbenchbenchbenchbenchbench";

/// Where the server keeps its data.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    /// In the data directory.
    Sqlite,
    /// At a URL, in a schema that is dropped first.
    Postgres(String),
}

impl Database {
    /// The store's name in the tables.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }
}

/// A running server. Killed with its handle, so that a measurement that fails leaves none behind; its
/// data and log stay then.
pub(crate) struct Server {
    child: Child,
    port: u16,
    binary: PathBuf,
    dir: PathBuf,
    database: Database,
}

/// Processor seconds of the server and of the load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// Cores that the server kept busy, on average.
    pub(crate) server: f64,
    /// Cores that this process kept busy, on average.
    pub(crate) load: f64,
}

/// Takes the processor time at the start of a measurement.
pub(crate) struct Meter {
    server_pid: u32,
    start: Instant,
    server: f64,
    load: f64,
}

impl Meter {
    /// What was used since the start.
    pub(crate) fn used(&self) -> Result<Used> {
        let seconds = self.start.elapsed().as_secs_f64();
        Ok(Used {
            server: (cpu_seconds(self.server_pid)? - self.server) / seconds,
            load: (cpu_seconds(std::process::id())? - self.load) / seconds,
        })
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// User and system time of a process so far, in seconds.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("reading the server's processor time")?;
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

/// Starts a server on a fresh data directory and waits until it is ready.
pub(crate) async fn start(binary: &Path, dir: &Path, database: &Database) -> Result<Server> {
    let dir = tempfile::Builder::new().prefix("server-").tempdir_in(dir)?.keep();
    if let Database::Postgres(url) = database {
        let status = Command::new("psql")
            .args([url, "-qc", "drop schema public cascade; create schema public"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("running psql to empty the database")?;
        if !status.success() {
            bail!("psql could not empty the database");
        }
    }
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut server = Server {
        child: spawn(binary, &dir, database, port)?,
        port,
        binary: binary.to_owned(),
        dir,
        database: database.clone(),
    };
    server.wait_until_ready().await?;
    Ok(server)
}

fn spawn(binary: &Path, dir: &Path, database: &Database, port: u16) -> Result<Child> {
    let log = File::options().create(true).append(true).open(dir.join("server.log"))?;
    let mut command = Command::new(binary);
    command
        .arg("server")
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .env("SLIPWAY_ADMIN_USER", USER)
        .env("SLIPWAY_ADMIN_API_KEY", KEY)
        .stdout(Stdio::null())
        .stderr(log);
    if let Database::Postgres(url) = database {
        command.args(["--database-url", url, "--single-replica"]);
    }
    command.spawn().with_context(|| {
        format!(
            "starting {}; build it with `cargo build --release -p slipway`",
            binary.display()
        )
    })
}

impl Server {
    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The value of the `Authorization` header.
    pub(crate) fn authorization(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("api:{KEY}")))
    }

    /// The user's API key.
    pub(crate) const fn key(&self) -> &'static str {
        KEY
    }

    /// Begins to count processor time.
    pub(crate) fn meter(&self) -> Result<Meter> {
        let server_pid = self.child.id();
        Ok(Meter {
            server_pid,
            start: Instant::now(),
            server: cpu_seconds(server_pid)?,
            load: cpu_seconds(std::process::id())?,
        })
    }

    /// Resident memory.
    pub(crate) fn resident_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .context("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).context("no VmRSS")?.parse()?;
        Ok(kib / 1024.0)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
                bail!("the server ended with {status}:\n{log}");
            }
            if self.is_ready().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "the server was not ready within a minute; see {}",
                    self.dir.join("server.log").display()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn is_ready(&self) -> bool {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let Ok(mut stream) = TcpStream::connect(self.address()).await else {
            return false;
        };
        let request = format!(
            "GET /readyz HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.address()
        );
        let mut answer = Vec::new();
        stream.write_all(request.as_bytes()).await.is_ok()
            && stream.read_to_end(&mut answer).await.is_ok()
            && answer.starts_with(b"HTTP/1.1 200")
    }

    fn terminate(&mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }

    /// Stops the server and starts it again on the same data; how long until it is ready.
    pub(crate) async fn restart(&mut self) -> Result<Duration> {
        self.terminate()?;
        let start = Instant::now();
        self.child = spawn(&self.binary, &self.dir, &self.database, self.port)?;
        self.wait_until_ready().await?;
        Ok(start.elapsed())
    }

    /// Stops the server and deletes its data.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.terminate()?;
        fs::remove_dir_all(&self.dir).with_context(|| format!("removing {}", self.dir.display()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Of one that was stopped nothing is left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets this process and its children have as many open files as the system allows.
pub(crate) fn raise_file_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
    .context("raising the limit of open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_ends_with_its_handle() {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let server = Server {
            child,
            port: 0,
            binary: PathBuf::new(),
            dir: PathBuf::new(),
            database: Database::Sqlite,
        };
        drop(server);
        assert!(rustix::process::test_kill_process(pid).is_err(), "it still runs");
    }
}
