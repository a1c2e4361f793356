//! The command line.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::commands;
use crate::config::connection::ConnectionArgs;
use crate::context::{Context, GlobalArgs};
use crate::exit::{Error, Result};
use crate::output::Format;

/// Launch jobs from queues: server, agent and command line of an open W&B Launch.
#[derive(Debug, Parser)]
#[command(name = "slipway", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Examples:
  slipway up                                   a server and an agent in one process
  slipway login --host http://localhost:8080   keep an API key for a server
  slipway job create code . -p first -n train -E \"python train.py\"
  slipway launch -j train -p first -q default --wait

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused, 5 unavailable;
`launch --wait` ends with the job's own code.")]
pub(crate) struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server
    Server(commands::server::ServerArgs),
    /// Run a server and an agent in one process
    Up(commands::up::UpArgs),
    /// Keep an API key for a server
    Login(commands::login::LoginArgs),
    /// Put a job on a queue, or run it on this machine
    Launch(Box<commands::launch::LaunchArgs>),
    /// Run an agent that takes jobs from queues
    LaunchAgent(commands::launch_agent::LaunchAgentArgs),
    /// Make and look at jobs
    #[command(subcommand)]
    Job(commands::job::JobCommand),
    /// Make, change and look at queues
    #[command(subcommand)]
    Queue(commands::queue::QueueCommand),
    /// Look at and change the items of queues
    #[command(subcommand)]
    Item(commands::item::ItemCommand),
    /// Look at and stop runs
    #[command(subcommand)]
    Run(commands::run::RunCommand),
    /// Look at and drain agents
    #[command(subcommand)]
    Agents(commands::agents::AgentsCommand),
    /// Make users
    #[command(subcommand)]
    User(commands::user::UserCommand),
    /// Make teams and change who is in them
    #[command(subcommand)]
    Team(commands::team::TeamCommand),
    /// Make, list and end your API keys
    #[command(subcommand)]
    Key(commands::key::KeyCommand),
    /// Print a script that completes commands in a shell
    Completions(commands::completions::CompletionsArgs),
    /// Print the reference of flags and variables
    #[command(hide = true)]
    Docs,
    /// Run one job for the agent
    #[command(hide = true)]
    Shim(commands::shim::ShimArgs),
    /// Look after one job that `launch --async` let go
    #[command(hide = true)]
    LookAfter,
}

/// Reads a command line.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> std::result::Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(long_forms(arguments))?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    if let (Command::Launch(args), Some((_, launch))) = (&mut cli.command, matches.subcommand()) {
        let ids = launch.ids().map(clap::Id::as_str);
        let by_variable = ids.filter(|id| launch.value_source(id) == Some(ValueSource::EnvVariable));
        args.by_variable = by_variable.map(str::to_owned).collect();
    }
    Ok(cli)
}

/// The form of output that a command line asks for, which may be wrong otherwise.
pub(crate) fn format_of(arguments: &[OsString]) -> Format {
    let words: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    let words = words.split(|word| *word == "--").next().unwrap_or_default();
    let asked = |pair: &[&str]| matches!(pair, ["-o" | "--output", "json"]);
    let joined = |word: &&str| matches!(*word, "--output=json" | "-o=json" | "-ojson");
    if words.windows(2).any(asked) || words.iter().any(joined) {
        Format::Json
    } else {
        Format::Table
    }
}

/// A command line that could not be read, in the words of the reader.
pub(crate) fn wrong_usage(error: &clap::Error) -> Error {
    let text = error.to_string();
    let said: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:"))
        .collect();
    let said = said.join(" ");
    Error::usage(said.trim().trim_start_matches("error: ")).with_hint("`--help` shows examples")
}

/// The whole command, for completions and the reference.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// The official client has two flags of two letters behind one dash.
fn long_forms(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.iter().skip(1).any(|argument| argument == "launch") {
        for argument in &mut arguments {
            match argument.to_str() {
                Some("-rg") => *argument = "--repository".into(),
                Some("-pq") => *argument = "--project-queue".into(),
                _ => {}
            }
        }
    }
    arguments
}

impl Cli {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<ExitCode> {
        let connect = || Context::new(&self.connection, &self.global);
        match self.command {
            // The shim makes its own small runtime.
            Command::Shim(args) => return Ok(commands::shim::run(&args)),
            Command::Completions(args) => commands::completions::run(&args)?,
            Command::Docs => commands::docs::run()?,
            Command::Server(args) => block_on(commands::server::run(args))?,
            Command::Up(args) => block_on(commands::up::run(args))?,
            Command::Login(args) => block_on(commands::login::run(args, &self.connection, &self.global))?,
            Command::LaunchAgent(args) => {
                block_on(commands::launch_agent::run(args, &self.connection, &self.global))?;
            }
            Command::Launch(args) => return block_on(commands::launch::run(*args, &connect()?)),
            Command::LookAfter => block_on(commands::launch_here::look_after(connect))?,
            Command::Job(command) => block_on(commands::job::run(command, &connect()?))?,
            Command::Queue(command) => block_on(commands::queue::run(command, connect, &self.global))?,
            Command::Item(command) => block_on(commands::item::run(command, &connect()?))?,
            Command::Run(command) => block_on(commands::run::run(command, &connect()?))?,
            Command::Agents(command) => block_on(commands::agents::run(command, &connect()?))?,
            Command::User(command) => {
                block_on(commands::user::run(command, &self.connection, &self.global))?;
            }
            Command::Team(command) => block_on(commands::team::run(command, &connect()?))?,
            Command::Key(command) => block_on(commands::key::run(command, &connect()?))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// How long work that cannot be broken off, such as a removal of files, may hold up the end of a command.
const LAST_WORK: Duration = Duration::from_secs(1);

fn block_on<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::failure(format!("cannot start threads: {error}")))?;
    let done = runtime.block_on(command);
    // Dropped it would wait as long as that takes. Nothing depends on it: it ends with the process, as by a kill.
    runtime.shutdown_timeout(LAST_WORK);
    done
}

#[cfg(test)]
mod tests {
    use super::{Cli, block_on, command, long_forms, parse};
    use crate::output::Format;

    #[test]
    fn a_command_ends_although_work_goes_on_that_cannot_be_broken_off() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (end, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let command = async {
                let (begin, begun) = tokio::sync::oneshot::channel();
                tokio::task::spawn_blocking(move || {
                    let _ = begin.send(());
                    held.recv()
                });
                begun
                    .await
                    .map_err(|error| crate::exit::Error::failure(error.to_string()))
            };
            end.send(block_on(command)).unwrap();
        });
        ended
            .recv_timeout(std::time::Duration::from_secs(60))
            .expect("it ends while the work waits")
            .unwrap();
        drop(release);
    }

    fn line(text: &str) -> Result<Cli, clap::Error> {
        parse(std::iter::once("slipway").chain(text.split(' ')).map(Into::into))
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn command_lines_of_the_official_client_are_understood() {
        for text in [
            "login --host http://h 0123456789abcdef0123456789abcdef01234567 --relogin --verify",
            "login --base-url http://h",
            "login --cloud --anonymously",
            "launch -j e/p/job:latest -q q -p p -e e -c config.json -R args.json -P high --name n",
            "launch -u https://example.com/r.git -E python -g main -J name -q",
            "launch -d image:tag -p p -q q -v a=1 -v b=2 --async -b -rg repo -pq other -r kubernetes",
            "launch -u . -E python --git-hash abc --build-context src -B base -D Dockerfile",
            "launch-agent -q a -q b -e e -j -1 -c config.yaml -l - -vv",
            "job create code . -p p -e e -n n -d text -a one -a two -E python -r 3.11",
            "job create image img:1 -p p",
            "job list -p p -e e",
            "job describe e/p/j:latest",
        ] {
            if let Err(error) = line(text) {
                panic!("{text}: {error}");
            }
        }
    }

    #[test]
    fn every_command_explains_itself() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} says not what it does");
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{path}: `{}` is not explained",
                    argument.get_id()
                );
            }
            let leaf = command.get_subcommands().next().is_none();
            assert!(
                !leaf || command.is_hide_set() || command.get_after_help().is_some(),
                "{path} shows no example"
            );
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                check(sub, &path);
            }
        }
        let mut whole = command();
        whole.build();
        check(&whole, "");
    }

    #[test]
    fn the_form_of_output_is_known_even_of_a_wrong_command_line() {
        let format = |text: &str| super::format_of(&text.split(' ').map(Into::into).collect::<Vec<_>>());
        for text in [
            "slipway -o json x",
            "slipway x --output json",
            "slipway x --output=json",
            "slipway -ojson x",
        ] {
            assert_eq!(format(text), Format::Json, "{text}");
        }
        for text in ["slipway x", "slipway -o table", "slipway x -- -o json"] {
            assert_eq!(format(text), Format::Table, "{text}");
        }
        let error = super::wrong_usage(&line("queue shwo gpu").unwrap_err());
        assert!(
            error.to_string().starts_with("unrecognized subcommand 'shwo'"),
            "{error}"
        );
    }

    #[test]
    fn two_letter_flags_are_rewritten_for_launch_only() {
        let words = |text: &str| long_forms(text.split(' ').map(Into::into));
        assert_eq!(
            words("slipway launch -rg x -pq y")[2..],
            ["--repository", "x", "--project-queue", "y"]
        );
        assert_eq!(words("slipway queue -rg")[2], "-rg");
    }
}
