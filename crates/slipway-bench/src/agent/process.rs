//! An agent under measurement: ours or the official one, as a process with a home of its own.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::queue::Watched;
use crate::server::{Server, USER};

/// How long an agent may take to come up or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// `slipway launch-agent`.
    Ours,
    /// `wandb launch-agent`.
    Official,
}

impl Whose {
    /// The agent's name in the tables.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Ours => "our agent",
            Self::Official => "official agent",
        }
    }
}

/// A running agent.
pub(super) struct Agent {
    child: Child,
    whose: Whose,
    home: TempDir,
}

impl Agent {
    /// Starts an agent on one queue, and waits until the server shows it there; how long that took.
    pub(super) async fn start(
        whose: Whose,
        binary: &Path,
        server: &Server,
        queue: &mut Watched,
        max_jobs: usize,
    ) -> Result<(Self, Duration)> {
        let home = tempfile::Builder::new().prefix("agent-").tempdir()?;
        let mut command = Command::new(binary);
        command
            .arg("launch-agent")
            .args(["-q", queue.name(), "-e", USER])
            .args(["--max-jobs", &max_jobs.to_string()])
            .current_dir(home.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home.path())
            .env("WANDB_API_KEY", server.key());
        match whose {
            Whose::Ours => {
                let config = home.path().join("launch-config.yaml");
                fs::write(&config, "process:\n  enabled: true\nstopped_run_timeout: 5\n")?;
                command
                    .env("WANDB_BASE_URL", format!("http://{}", server.address()))
                    .arg("--config")
                    .arg(config)
                    .arg("--state-dir")
                    .arg(home.path().join("state"));
            }
            // It lets containers reach a server on this machine only if the address says `localhost`.
            Whose::Official => {
                let port = server.address().rsplit(':').next().unwrap_or_default().to_owned();
                command
                    .env("WANDB_BASE_URL", format!("http://localhost:{port}"))
                    .env("WANDB_ERROR_REPORTING", "false");
            }
        }
        let log = File::create(home.path().join("agent.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let began = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let mut agent = Self { child, whose, home };
        while !queue.is_active().await? {
            agent.require_running()?;
            if began.elapsed() > PATIENCE {
                bail!(
                    "the {} did not register within a minute:\n{}",
                    whose.label(),
                    agent.log()
                );
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok((agent, began.elapsed()))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("agent.log")).unwrap_or_default()
    }

    /// Fails, with its log, if it has ended.
    pub(super) fn require_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the {} ended with {status}:\n{}", self.whose.label(), self.log()),
            None => Ok(()),
        }
    }

    /// Resident memory of the agent in MiB: of the official one with the processes that it started, of
    /// ours alone, since its jobs' shims are counted by themselves.
    pub(super) fn resident_mib(&self) -> Result<f64> {
        let own = self.child.id();
        let pids = match self.whose {
            Whose::Ours => vec![own],
            Whose::Official => descendants(own)?,
        };
        let kib: f64 = pids.into_iter().filter_map(|pid| field(pid, "status", "VmRSS:")).sum();
        if kib == 0.0 {
            bail!("the memory of the {} cannot be read", self.whose.label());
        }
        Ok(kib / 1024.0)
    }

    /// How many shims look after its jobs, and the memory of one in KiB: resident, and as its share where
    /// several have a page in common.
    pub(super) fn shims(&self) -> Result<(usize, f64, f64)> {
        let state = self.home.path().join("state");
        let state = state.as_os_str().as_encoded_bytes();
        let shims: Vec<u32> = processes()?
            .into_iter()
            .filter(|pid| *pid != self.child.id())
            .filter(|pid| {
                let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                command.windows(state.len()).any(|part| part == state)
            })
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "a mean")]
        let mean = |file, name| {
            shims.iter().filter_map(|pid| field(*pid, file, name)).sum::<f64>() / shims.len().max(1) as f64
        };
        Ok((shims.len(), mean("status", "VmRSS:"), mean("smaps_rollup", "Pss:")))
    }

    /// Tells it to end, as a person would, and waits until it has.
    pub(super) async fn stop(mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        // A second signal ends ours at once, and the official one knows only that of Ctrl-C.
        let signal = match self.whose {
            Whose::Ours => Signal::TERM,
            Whose::Official => Signal::INT,
        };
        let began = Instant::now();
        kill_process(pid, signal)?;
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > PATIENCE / 4 {
                self.child.kill()?;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Of an agent that was stopped nothing is left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary of the official client, if it is there.
pub(super) fn official(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

fn processes() -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").context("listing the processes")?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

/// A process and everything that it started and that its parents have not left.
fn descendants(root: u32) -> Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in processes()? {
        if let Some(parent) = field(pid, "status", "PPid:") {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a process's number"
            )]
            children.entry(parent as u32).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        at += 1;
        found.extend(children.remove(pid).unwrap_or_default());
    }
    Ok(found)
}

/// A number of one of a process's files, such as `VmRSS:` of `status`; none once it is gone.
fn field(pid: u32, file: &str, name: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Whether a process is there and not only waits for its end to be read.
pub(super) fn lives(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("State:"))
        .is_some_and(|state| !state.trim_start().starts_with(['Z', 'X']))
}
