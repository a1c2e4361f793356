//! The command line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::commands;
use crate::config::connection::ConnectionArgs;
use crate::context::{Context, GlobalArgs};
use crate::exit::{Error, Result};

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
}

/// Reads a command line.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> std::result::Result<Cli, clap::Error> {
    Cli::try_parse_from(long_forms(arguments))
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
            Command::Server(args) => runtime()?.block_on(commands::server::run(args))?,
            Command::Up(args) => runtime()?.block_on(commands::up::run(args))?,
            Command::Login(args) => runtime()?.block_on(commands::login::run(args, &self.connection))?,
            Command::LaunchAgent(args) => {
                runtime()?.block_on(commands::launch_agent::run(args, &self.connection, &self.global))?;
            }
            Command::Launch(args) => return runtime()?.block_on(commands::launch::run(*args, &connect()?)),
            Command::Job(command) => runtime()?.block_on(commands::job::run(command, &connect()?))?,
            Command::Queue(command) => runtime()?.block_on(commands::queue::run(command, &connect()?))?,
            Command::Item(command) => runtime()?.block_on(commands::item::run(command, &connect()?))?,
            Command::Run(command) => runtime()?.block_on(commands::run::run(command, &connect()?))?,
            Command::Agents(command) => runtime()?.block_on(commands::agents::run(command, &connect()?))?,
            Command::User(command) => {
                runtime()?.block_on(commands::user::run(command, &self.connection, &self.global))?;
            }
            Command::Team(command) => runtime()?.block_on(commands::team::run(command, &connect()?))?,
            Command::Key(command) => runtime()?.block_on(commands::key::run(command, &connect()?))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::failure(format!("cannot start threads: {error}")))
}

#[cfg(test)]
mod tests {
    use super::{Cli, command, long_forms, parse};

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
    fn two_letter_flags_are_rewritten_for_launch_only() {
        let words = |text: &str| long_forms(text.split(' ').map(Into::into));
        assert_eq!(
            words("slipway launch -rg x -pq y")[2..],
            ["--repository", "x", "--project-queue", "y"]
        );
        assert_eq!(words("slipway queue -rg")[2], "-rg");
    }
}
