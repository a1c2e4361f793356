//! Phrases and sentences of the pages that hold names and numbers, in English and Japanese.
//!
//! Words and sentences without any are in [`super::words`]. What users, agents and jobs wrote is
//! never translated.

use slipway_model::Millis;
use slipway_model::queue::QUEUE_PROJECT;
use slipway_model::wait::WaitReason;

use super::format::duration;
use super::words::Language;

impl Language {
    /// How long the oldest of what waits has waited.
    pub(super) fn oldest(self, waited: Millis) -> String {
        match self {
            Self::English => format!("oldest {}", duration(waited)),
            Self::Japanese => format!("最長 {}", duration(waited)),
        }
    }

    /// How many slots are taken.
    pub(super) fn slots(self, taken: i64, slots: i64) -> String {
        match self {
            Self::English => format!("{taken} of {slots} slots"),
            Self::Japanese => format!("{slots} スロット中 {taken} 使用"),
        }
    }

    /// For how long, after the word of a state.
    pub(super) fn lasting(self, time: Millis) -> String {
        match self {
            Self::English => format!("for {}", duration(time)),
            Self::Japanese => duration(time),
        }
    }

    /// Who did something.
    pub(super) fn by(self, who: &str) -> String {
        match self {
            Self::English => format!("by {who}"),
            Self::Japanese => format!("{who} による"),
        }
    }

    /// Which revision of a configuration it is.
    pub(super) fn revision(self, number: i64, author: &str) -> String {
        match self {
            Self::English => format!("revision {number} by {author}"),
            Self::Japanese => format!("リビジョン {number}（{author}）"),
        }
    }

    /// That nobody takes what waits in a queue.
    pub(super) fn unserved(self, queue: &str, waiting: i64) -> String {
        match (self, waiting) {
            (Self::English, 0) => format!("{queue}: no agent serves this queue"),
            (Self::English, 1) => format!("{queue}: no agent serves this queue; 1 item waits"),
            (Self::English, _) => format!("{queue}: no agent serves this queue; {waiting} items wait"),
            (Self::Japanese, 0) => format!("{queue}: このキューを処理するエージェントがありません"),
            (Self::Japanese, _) => {
                format!("{queue}: このキューを処理するエージェントがありません。{waiting} 件が待機中です")
            }
        }
    }

    /// How many wait that are not shown.
    pub(super) fn more_waiting(self, hidden: i64) -> String {
        match self {
            Self::English => format!("{hidden} more wait behind these."),
            Self::Japanese => format!("このほかに {hidden} 件が待機中です。"),
        }
    }

    /// Where something failed.
    pub(super) fn failed_at(self, stage: &str, reason: &str) -> String {
        let text = match self {
            Self::English => format!("Failed at stage {stage}"),
            Self::Japanese => format!("{stage} の段階で失敗しました"),
        };
        match (self, reason) {
            (_, "") => text,
            (Self::English, reason) => format!("{text} ({reason})"),
            (Self::Japanese, reason) => format!("{text}（{reason}）"),
        }
    }

    /// That a run failed, and how.
    pub(super) fn run_failed(self, exit_code: Option<i64>) -> String {
        match (self, exit_code) {
            (Self::English, None) => "The run failed.".to_owned(),
            (Self::English, Some(code)) => format!("The run failed with exit code {code}."),
            (Self::Japanese, None) => "Run は失敗しました。".to_owned(),
            (Self::Japanese, Some(code)) => format!("Run は終了コード {code} で失敗しました。"),
        }
    }

    /// On which agent a job runs.
    pub(super) fn on(self, agent: &str) -> String {
        match self {
            Self::English => format!("on {agent}"),
            Self::Japanese => format!("{agent} で実行中"),
        }
    }

    /// Why an item waits.
    pub(super) fn wait_reason(self, reason: &WaitReason, now: Millis) -> String {
        if self == Self::English {
            // Sentences quote names as terminals do; on a page the quotes are noise.
            return reason.sentence(now).replace('`', "");
        }
        let subject = |agent: &str| match agent {
            "" => "エージェント".to_owned(),
            name => format!("エージェント {name}"),
        };
        match reason {
            WaitReason::QueuePaused => "キューが一時停止中です。再開すると実行されます".to_owned(),
            WaitReason::NoAgent { queue } => {
                let none = "このキューを処理するエージェントがありません";
                let Some(queue) = queue else { return none.to_owned() };
                match queue.agent_command() {
                    Some(command) => format!("{none}。{command} で起動できます"),
                    None => format!(
                        "{none}。エージェントが処理するのはプロジェクト {QUEUE_PROJECT} のキューで、このキューは {} \
                         のものです。slipway item move でアイテムを移動できます",
                        queue.project
                    ),
                }
            }
            WaitReason::AgentsDraining => "すべてのエージェントが新規受付を停止しています".to_owned(),
            WaitReason::AgentFull { slots: 0, .. } => {
                "エージェントの max_jobs が 0 のため、ジョブを受け付けません".to_owned()
            }
            WaitReason::AgentFull {
                running,
                slots,
                position,
            } => format!("空きスロット待ちです: {slots} 件中 {running} 件を実行中、順番は {position} 番目です"),
            WaitReason::Position { position } => format!("順番は {position} 番目です"),
            WaitReason::NotYetLeased => "次に実行されます。エージェントの取得待ちです".to_owned(),
            WaitReason::Starting { agent } => format!("{} が準備しています", subject(agent)),
            WaitReason::AgentLost { agent, since } => format!(
                "{} から {} 連絡がありません。ジョブは実行中の可能性があります",
                subject(agent),
                duration(now - since)
            ),
            WaitReason::Warning { message } => message.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use slipway_model::queue::QueueName;

    use super::*;

    #[test]
    fn every_reason_has_a_sentence_in_each_language() {
        let agent = || "a1".to_owned();
        let queue = |project: &str| QueueName {
            entity: "alice".to_owned(),
            project: project.to_owned(),
            name: "my queue".to_owned(),
        };
        let cases = [
            (WaitReason::QueuePaused, "paused", "一時停止"),
            (WaitReason::NoAgent { queue: None }, "No agent", "ありません"),
            (
                WaitReason::NoAgent {
                    queue: Some(queue(QUEUE_PROJECT)),
                },
                "with slipway launch-agent -q 'my queue' --entity alice",
                "slipway launch-agent -q 'my queue' --entity alice で",
            ),
            (
                WaitReason::NoAgent {
                    queue: Some(queue("other")),
                },
                "of project other",
                "このキューは other",
            ),
            (WaitReason::AgentsDraining, "draining", "停止"),
            (
                WaitReason::AgentFull {
                    running: 3,
                    slots: 4,
                    position: 7,
                },
                "3 of 4",
                "4 件中 3 件",
            ),
            (
                WaitReason::AgentFull {
                    running: 0,
                    slots: 0,
                    position: 1,
                },
                "max_jobs is 0",
                "max_jobs が 0",
            ),
            (WaitReason::Position { position: 9 }, "Position 9", "9 番目"),
            (WaitReason::NotYetLeased, "Next", "次に"),
            (WaitReason::Starting { agent: agent() }, "Agent a1", "エージェント a1"),
            (
                WaitReason::AgentLost {
                    agent: agent(),
                    since: 0,
                },
                "1 min",
                "1m",
            ),
            (
                WaitReason::Warning {
                    message: "no GPU".to_owned(),
                },
                "no GPU",
                "no GPU",
            ),
        ];
        for (reason, english, japanese) in cases {
            for (language, expected) in [(Language::English, english), (Language::Japanese, japanese)] {
                let text = language.wait_reason(&reason, 60_000);
                assert!(text.contains(expected) && !text.contains('`'), "{text}");
            }
        }
    }

    #[test]
    fn counts_are_worded_by_their_number() {
        for (waiting, expected) in [(0, "this queue"), (1, "1 item waits"), (2, "2 items wait")] {
            assert!(Language::English.unserved("q", waiting).ends_with(expected));
        }
    }
}
