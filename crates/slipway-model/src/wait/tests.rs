use super::*;

fn queue(project: &str, name: &str) -> Option<QueueName> {
    Some(QueueName {
        entity: "alice".to_owned(),
        project: project.to_owned(),
        name: name.to_owned(),
    })
}

fn pending() -> WaitFacts {
    WaitFacts {
        state: ItemState::Pending,
        queue: queue("model-registry", "gpu"),
        position: Some(1),
        paused: false,
        agents: vec![agent("a", 0, 1)],
        leased_at: None,
        holder: None,
        holder_lost_since: None,
        warning: None,
    }
}

fn held(state: ItemState) -> WaitFacts {
    WaitFacts {
        state,
        position: None,
        leased_at: Some(1_000),
        holder: Some("gpu-box".to_owned()),
        ..pending()
    }
}

fn agent(name: &str, running: i64, max_jobs: i64) -> AgentLoad {
    AgentLoad {
        name: name.to_owned(),
        running,
        max_jobs,
        draining: false,
    }
}

fn draining(agent: AgentLoad) -> AgentLoad {
    AgentLoad {
        draining: true,
        ..agent
    }
}

#[test]
fn every_wait_has_a_reason_in_words() {
    let full = vec![agent("a", 2, 2), agent("b", 1, 1), draining(agent("c", 0, 9))];
    for (facts, code, sentence) in [
        (
            WaitFacts {
                paused: true,
                agents: vec![],
                ..pending()
            },
            "queue-paused",
            "The queue is paused; resume it to run its items",
        ),
        (
            WaitFacts {
                agents: vec![],
                ..pending()
            },
            "no-agent",
            "No agent serves this queue; start one with `slipway launch-agent -q gpu --entity alice`",
        ),
        (
            WaitFacts {
                agents: vec![],
                queue: queue("model-registry", "big GPUs"),
                ..pending()
            },
            "no-agent",
            "No agent serves this queue; start one with `slipway launch-agent -q 'big GPUs' --entity alice`",
        ),
        (
            WaitFacts {
                agents: vec![],
                queue: queue("model-registry", "-gpu"),
                ..pending()
            },
            "no-agent",
            "No agent serves this queue; start one with `slipway launch-agent --queue=-gpu --entity alice`",
        ),
        (
            WaitFacts {
                agents: vec![],
                queue: queue("other", "gpu"),
                ..pending()
            },
            "no-agent",
            "No agent serves this queue, which is of project `other`: launch agents serve those of `model-registry`; \
             move the item to one of them with `slipway item move`",
        ),
        (
            WaitFacts {
                agents: vec![],
                queue: None,
                ..pending()
            },
            "no-agent",
            "No agent serves this queue",
        ),
        (
            WaitFacts {
                agents: vec![draining(agent("a", 0, 1))],
                ..pending()
            },
            "agents-draining",
            "Every agent of this queue is draining and takes nothing new",
        ),
        (
            WaitFacts {
                agents: full,
                position: Some(3),
                ..pending()
            },
            "agent-full",
            "Waiting for a free slot: agents run 3 of 3 jobs; position 3 in the queue",
        ),
        (
            WaitFacts {
                agents: vec![agent("a", 0, 0)],
                ..pending()
            },
            "agent-full",
            "The agents of this queue take no jobs: their `max_jobs` is 0",
        ),
        (
            WaitFacts {
                position: Some(7),
                ..pending()
            },
            "position",
            "Position 7 in the queue",
        ),
        (
            WaitFacts {
                agents: vec![agent("a", 900, -1)],
                ..pending()
            },
            "not-yet-leased",
            "Next in the queue; an agent has not taken it yet",
        ),
        (held(ItemState::Leased), "starting", "Agent `gpu-box` is preparing it"),
        (held(ItemState::Claimed), "starting", "Agent `gpu-box` is preparing it"),
        (
            WaitFacts {
                holder: None,
                ..held(ItemState::Leased)
            },
            "starting",
            "An agent is preparing it",
        ),
        (
            WaitFacts {
                warning: Some("no node has 8 GPUs".to_owned()),
                ..held(ItemState::Claimed)
            },
            "warning",
            "no node has 8 GPUs",
        ),
        (
            WaitFacts {
                holder_lost_since: Some(10_000),
                warning: Some("w".to_owned()),
                ..held(ItemState::Claimed)
            },
            "agent-lost",
            "Agent `gpu-box` has not been heard from for 1 h 30 min; the job may still run",
        ),
        (
            WaitFacts {
                holder_lost_since: Some(5_400_000),
                ..held(ItemState::Running)
            },
            "agent-lost",
            "Agent `gpu-box` has not been heard from for 10 s; the job may still run",
        ),
    ] {
        let reason = wait_reason(&facts).expect("it waits");
        assert_eq!((reason.code(), reason.sentence(5_410_000).as_str()), (code, sentence));
    }
}

#[test]
fn what_runs_or_has_ended_does_not_wait() {
    for state in ItemState::ALL {
        if state == ItemState::Running || state.is_terminal() {
            assert_eq!(wait_reason(&held(state)), None, "{state:?}");
        }
    }
}

#[test]
fn durations_are_readable() {
    for (millis, text) in [
        (-5, "0 s"),
        (999, "0 s"),
        (59_999, "59 s"),
        (60_000, "1 min"),
        (3_599_000, "59 min"),
        (3_600_000, "1 h"),
        (5_460_000, "1 h 31 min"),
        (90_000_000, "1 d 1 h"),
        (172_800_000, "2 d"),
    ] {
        assert_eq!(duration(millis), text);
    }
}
