//! What is reported of a workload that has ended. Pure.

use slipway_model::item::Failure;
use slipway_runner::{Exit, ExitCause};
use slipway_wire::item::{Outcome, Report};

use super::plan::failure;

/// Lines of output that a failure report repeats.
const TAIL_LINES: usize = 20;

/// Bytes of output from which these lines are taken.
pub(crate) const TAIL_BYTES: usize = 4096;

/// What is known when a workload has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended<'a> {
    /// How it ended.
    pub(crate) exit: &'a Exit,
    /// Whether somebody had asked it to stop.
    pub(crate) stop_wanted: bool,
    /// Whether its run has called `wandb.init`.
    pub(crate) run_started: bool,
    /// The last bytes that it printed.
    pub(crate) tail: &'a [u8],
}

/// How an item ended, before it is put into a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conclusion {
    /// The word.
    pub(crate) outcome: Outcome,
    /// The workload's exit code.
    pub(crate) exit_code: Option<i64>,
    /// Why it failed; only with [`Outcome::Failed`].
    pub(crate) failure: Option<Failure>,
}

impl Conclusion {
    /// A failure without exit code.
    pub(crate) fn failed(failure: Failure) -> Self {
        Self {
            outcome: Outcome::Failed,
            exit_code: None,
            failure: Some(failure),
        }
    }

    /// Stopped before it was started.
    pub(crate) const fn killed() -> Self {
        Self {
            outcome: Outcome::Killed,
            exit_code: None,
            failure: None,
        }
    }

    /// The report to the server.
    pub(crate) fn report(&self, handle: &str) -> Report {
        let failure = self.failure.as_ref();
        Report {
            run_queue_item_id: handle.to_owned(),
            outcome: self.outcome,
            exit_code: self.exit_code,
            stage: failure.map(|failure| failure.stage.clone()),
            message: failure.map(|failure| failure.message.clone()),
            reason: failure.map(|failure| failure.reason.clone()),
            file_paths: failure
                .map(|failure| failure.file_paths.clone())
                .filter(|paths| !paths.is_empty()),
        }
    }
}

/// Judges an end.
pub(crate) fn conclude(ended: Ended<'_>) -> Conclusion {
    let Ended { exit, .. } = ended;
    let exit_code = exit.code().map(i64::from);
    if exit.stopped && ended.stop_wanted {
        return Conclusion {
            outcome: Outcome::Killed,
            exit_code,
            failure: None,
        };
    }
    let in_run = |reason: &str, sentence: String| Failure {
        stage: "run".to_owned(),
        message: with_tail(sentence, ended.tail),
        reason: reason.to_owned(),
        file_paths: Vec::new(),
    };
    let before = if ended.run_started {
        ""
    } else {
        " before it called wandb.init"
    };
    let memory = if exit.memory_ran_out {
        "; one of its processes was killed because memory ran out: raise `memory`, or use less"
    } else {
        ""
    };
    let failure = match &exit.cause {
        ExitCause::NotStarted(why) => failure("start-failed", format!("the job could not be started: {why}")),
        _ if exit.stopped => failure(
            "interrupted",
            "the job was ended because its machine shuts down or its supervisor was told to end",
        ),
        ExitCause::Code(0) if ended.run_started => {
            return Conclusion {
                outcome: Outcome::Finished,
                exit_code,
                failure: None,
            };
        }
        ExitCause::Code(0) => in_run(
            "no-run",
            "the job exited successfully but never called wandb.init, so there is no run to show".to_owned(),
        ),
        ExitCause::Code(code) => in_run("exit-code", format!("the job exited with code {code}{before}{memory}")),
        ExitCause::OutOfMemory => in_run(
            "out-of-memory",
            format!("the job was killed{before} because it used more memory than it may; raise `memory` or use less"),
        ),
        ExitCause::Signal(9) => in_run(
            "signal",
            format!("the job was killed by signal 9{before}; often the machine had run out of memory"),
        ),
        ExitCause::Signal(signal) => in_run(
            "signal",
            format!("the job was ended by signal {signal}{before}{memory}"),
        ),
    };
    Conclusion {
        outcome: Outcome::Failed,
        exit_code,
        failure: Some(failure),
    }
}

fn with_tail(sentence: String, tail: &[u8]) -> String {
    let text = String::from_utf8_lossy(tail);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    match &lines[lines.len().saturating_sub(TAIL_LINES)..] {
        [] => format!("{sentence}. It printed nothing"),
        last => format!("{sentence}. It last printed:\n{}", last.join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concluded(cause: ExitCause, stopped: bool, stop_wanted: bool, run_started: bool) -> (Outcome, String) {
        let exit = Exit {
            cause,
            stopped,
            started_at: 0,
            ended_at: 1,
            output_dropped: 0,
            memory_ran_out: false,
        };
        let conclusion = conclude(Ended {
            exit: &exit,
            stop_wanted,
            run_started,
            tail: b"one\n\ntwo\n",
        });
        let why = conclusion
            .failure
            .map_or(String::new(), |failure| format!("{}/{}", failure.stage, failure.reason));
        (conclusion.outcome, why)
    }

    #[test]
    fn every_end_has_an_outcome_and_every_failure_a_reason() {
        use ExitCause::{Code, NotStarted, OutOfMemory, Signal};
        for (cause, stopped, wanted, started, outcome, why) in [
            (Code(0), false, false, true, Outcome::Finished, ""),
            (Code(0), false, false, false, Outcome::Failed, "run/no-run"),
            (Code(3), false, false, true, Outcome::Failed, "run/exit-code"),
            (Code(3), false, false, false, Outcome::Failed, "run/exit-code"),
            (Signal(9), false, false, true, Outcome::Failed, "run/signal"),
            (OutOfMemory, false, false, true, Outcome::Failed, "run/out-of-memory"),
            (Signal(15), true, true, true, Outcome::Killed, ""),
            (Code(0), true, true, false, Outcome::Killed, ""),
            // It ended by itself while the wish to stop was on its way.
            (Code(0), false, true, true, Outcome::Finished, ""),
            (Signal(15), true, false, true, Outcome::Failed, "agent/interrupted"),
            (
                NotStarted("no".to_owned()),
                false,
                false,
                false,
                Outcome::Failed,
                "agent/start-failed",
            ),
        ] {
            let case = format!("{cause:?} stopped={stopped} wanted={wanted} started={started}");
            assert_eq!(
                concluded(cause, stopped, wanted, started),
                (outcome, why.to_owned()),
                "{case}"
            );
        }
    }

    #[test]
    fn a_failure_says_that_a_process_of_the_job_ran_out_of_memory() {
        for (cause, ran_out, says) in [
            (ExitCause::Code(1), true, true),
            (ExitCause::Signal(6), true, true),
            (ExitCause::Code(1), false, false),
        ] {
            let exit = Exit {
                cause,
                stopped: false,
                started_at: 0,
                ended_at: 1,
                output_dropped: 0,
                memory_ran_out: ran_out,
            };
            let failure = conclude(Ended {
                exit: &exit,
                stop_wanted: false,
                run_started: true,
                tail: b"",
            })
            .failure
            .unwrap();
            assert_eq!(failure.message.contains("raise `memory`"), says, "{failure:?}");
        }
    }

    #[test]
    fn a_failure_repeats_the_last_lines_and_survives_binary_output() {
        assert_eq!(
            with_tail("bad".to_owned(), b"one\n\ntwo\n"),
            "bad. It last printed:\none\ntwo"
        );
        assert_eq!(with_tail("bad".to_owned(), b""), "bad. It printed nothing");
        assert!(with_tail("bad".to_owned(), b"\xff\x00x").contains('x'));
        let many = "line\n".repeat(100);
        assert_eq!(
            with_tail("bad".to_owned(), many.as_bytes()).lines().count(),
            1 + TAIL_LINES
        );
    }
}
