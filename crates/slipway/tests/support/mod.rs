//! The real binary against a real server, for tests of the command.

#![allow(dead_code, reason = "each test program uses its part")]
#![expect(clippy::unwrap_used, reason = "a test fails by a panic, in its helpers too")]

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);

/// A server with a data directory of its own, and a home without anybody's login.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    server: Option<Child>,
}

impl World {
    /// Nothing runs yet.
    pub(crate) fn empty() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            server: None,
        }
    }

    /// A server runs, and its admin is signed in.
    pub(crate) fn with_server() -> Self {
        let mut world = Self::empty();
        world.start();
        world.sign_in();
        world
    }

    /// The same with further flags of the server.
    pub(crate) fn with_server_as(arguments: &[&str]) -> Self {
        let mut world = Self::empty();
        world.start_with(arguments, &[]);
        world.sign_in();
        world
    }

    pub(crate) fn start(&mut self) {
        self.start_with(&[], &[]);
    }

    pub(crate) fn start_with(&mut self, arguments: &[&str], variables: &[(&str, &str)]) {
        let log = fs::File::create(self.path("server.log")).unwrap();
        let _ = fs::remove_file(self.path("data/address"));
        let server = self
            .command(&["server", "--data-dir", "data", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(server);
        let begin = Instant::now();
        while !self.path("data/address").exists() {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && begin.elapsed() < DEADLINE, "{}", self.log());
            std::thread::yield_now();
        }
    }

    /// Ends the server without a chance to say goodbye.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Signs the admin in.
    pub(crate) fn sign_in(&self) {
        let signed_in = self.run_with(&["login", "--host", &self.address()], &self.admin_key());
        assert!(signed_in.status.success(), "{}", stderr(&signed_in));
    }

    /// Makes a code job of the folder `code`.
    pub(crate) fn create_job(&self, name: &str) -> Value {
        self.json(&[
            "job",
            "create",
            "code",
            "code",
            "-p",
            "p",
            "-n",
            name,
            "-E",
            "sh run.sh",
            "-r",
            "3.11",
        ])
    }

    /// A job of code goes up and its definition comes back; an item of it is submitted.
    pub(crate) fn round_trip(&self) {
        fs::create_dir_all(self.path("code")).unwrap();
        fs::write(self.path("code/run.sh"), "echo hi").unwrap();
        self.create_job("train");
        let described = self.json(&["job", "describe", "train", "-p", "p"]);
        assert_eq!(described["definition"]["source"]["entrypoint"], json!(["sh", "run.sh"]));
        self.json(&["queue", "create", "q", "-r", "local-process"]);
        let pushed = self.json(&["launch", "-j", "admin/p/train:latest", "-p", "p", "-q", "q"]);
        let item = self.json(&["item", "show", pushed["runQueueItemId"].as_str().unwrap()]);
        assert_eq!(item["state"], "PENDING");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }

    pub(crate) fn address(&self) -> String {
        fs::read_to_string(self.path("data/address")).unwrap().trim().to_owned()
    }

    pub(crate) fn admin_key(&self) -> String {
        fs::read_to_string(self.path("data/admin-key")).unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
        self.at_home(command.args(arguments));
        command
    }

    fn at_home<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "")
    }

    /// Runs a command with text on standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        // A command that does not read its input may have ended already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Starts a command that goes on.
    pub(crate) fn spawn(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Program {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied()).stdin(Stdio::null());
        Program::start(&mut command)
    }

    /// The same with another file of the program.
    pub(crate) fn spawn_program(&self, program: &Path, arguments: &[&str]) -> Program {
        let mut command = Command::new(program);
        command.args(arguments);
        Program::start(self.at_home(&mut command).stdin(Stdio::null()))
    }

    /// Runs a command that must succeed, and reads its JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A command that goes on, and what it says on standard error.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = loop {
            match command.spawn() {
                // A program that was just written is held open by what another test is about to start.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                spawned => break spawned.unwrap(),
            }
        };
        let said = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // The test may have heard enough.
            said.lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self {
            child,
            lines,
            heard: Vec::new(),
        }
    }

    /// Waits until it says something that holds `text`, from what it has not been asked about yet.
    pub(crate) fn says(&mut self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.heard.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => {
                    let heard = self.heard.join("\n");
                    let _ = self.child.kill();
                    panic!("`{text}` was not said ({error}); heard:\n{heard}");
                }
            }
        }
    }

    /// Waits for its end; what it printed, and everything that it said.
    pub(crate) fn end(&mut self) -> (ExitStatus, String, String) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    panic!("it did not end; heard:\n{}", self.heard.join("\n"));
                }
            }
        }
        let printed = std::io::read_to_string(self.child.stdout.take().unwrap()).unwrap();
        (self.child.wait().unwrap(), printed, self.heard.join("\n"))
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ends it without a chance to say goodbye.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
