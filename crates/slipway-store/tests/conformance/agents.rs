//! Agents: names, take-over, contact, draining.

use slipway_model::agent::AgentStatus;
use slipway_model::item::{AGENT_TERM, Refusal};
use slipway_store::Error;
use slipway_store::agents::NewAgent;

use crate::bed::{Bed, T0, USER, new_agent};

crate::cases!(
    an_agent_is_found_as_it_registered,
    a_name_without_an_agent_is_made_up,
    a_live_holder_keeps_its_name,
    a_successor_inherits_what_is_held,
    contact_is_written_now_and_then,
    many_agents_are_heard_in_one_write,
    an_ended_agent_stays_ended,
    a_last_word_outlasts_what_is_said_at_the_same_moment,
    a_queue_knows_its_live_agents,
    a_drain_is_asked_for_and_taken_back,
);

async fn an_agent_is_found_as_it_registered(bed: &Bed) {
    let queues = [bed.queue("a").await, bed.queue("b").await];
    let agent = bed.register(new_agent("agent", &queues), T0).await;
    assert_eq!(
        (agent.name.as_str(), agent.entity.as_str(), agent.epoch),
        ("agent", USER, 1)
    );
    assert_eq!(
        (agent.status, agent.max_jobs, agent.managed),
        (AgentStatus::Polling, 4, true)
    );
    assert_eq!(agent.queues, queues);
    assert_eq!(bed.store.agent(agent.id).await.unwrap().as_ref(), Some(&agent));
    assert_eq!(
        bed.store.agent_by_name(USER, "agent").await.unwrap().as_ref(),
        Some(&agent)
    );
    assert_eq!(bed.store.agents(USER).await.unwrap(), [agent]);
    assert_eq!(bed.store.agent_by_name(USER, "other").await.unwrap(), None);
}

async fn a_name_without_an_agent_is_made_up(bed: &Bed) {
    let nameless = NewAgent {
        name: None,
        instance: None,
        ..new_agent("", &[])
    };
    let first = bed.register(nameless.clone(), T0).await;
    let second = bed.register(nameless, T0).await;
    assert_ne!(first.name, second.name);
    assert!(
        first.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
        "{}",
        first.name
    );
}

async fn a_live_holder_keeps_its_name(bed: &Bed) {
    bed.register(new_agent("agent", &[]), T0).await;
    let elsewhere = NewAgent {
        instance: Some("machine-2".to_owned()),
        hostname: "elsewhere".to_owned(),
        ..new_agent("agent", &[])
    };
    let error = bed.store.register_agent(elsewhere.clone(), T0 + 1).await.unwrap_err();
    assert!(
        matches!(&error, Error::AgentHeld { name, host } if name == "agent" && host == "machine"),
        "{error}"
    );
    let forced = NewAgent {
        take_over: true,
        ..elsewhere.clone()
    };
    assert_eq!(bed.register(forced, T0 + 1).await.epoch, 2);
    // A holder that was not heard from for a term is not live.
    let later = T0 + 1 + AGENT_TERM;
    assert_eq!(bed.register(new_agent("agent", &[]), later).await.epoch, 3);
    assert_eq!(bed.store.agents(USER).await.unwrap().len(), 1);
}

async fn a_successor_inherits_what_is_held(bed: &Bed) {
    let queue = bed.queue("q").await;
    let first = bed.agent("agent", &[queue]).await;
    let handle = bed.started(first, queue, T0).await;
    let second = bed.register(new_agent("agent", &[queue]), T0 + 30_000).await;
    assert_ne!(second.id, first);
    let held = bed.store.held_items(second.id).await.unwrap();
    assert_eq!((held[0].id, held[0].epoch), (handle.item, handle.epoch));
    assert!(bed.store.held_items(first).await.unwrap().is_empty());
    let renew = |agent| bed.store.renew(agent, vec![handle], T0 + 31_000);
    assert_eq!(renew(first).await.unwrap(), [Err(Refusal::Stale)]);
    assert_eq!(renew(second.id).await.unwrap(), [Ok(false)]);
    assert!(!bed.store.touch_agent(first, None, T0 + 31_000).await.unwrap());
    assert_eq!(
        bed.store.agent(first).await.unwrap().unwrap().status,
        AgentStatus::Killed
    );
}

async fn contact_is_written_now_and_then(bed: &Bed) {
    let agent = bed.agent("agent", &[]).await;
    let heartbeat = || async { bed.store.agent(agent).await.unwrap().unwrap().heartbeat_at };
    let touch = |status, now| bed.store.touch_agent(agent, status, now);
    assert!(touch(Some(AgentStatus::Polling), T0 + 4_999).await.unwrap());
    assert_eq!(heartbeat().await, T0);
    assert!(touch(Some(AgentStatus::Running), T0 + 4_999).await.unwrap());
    assert_eq!(heartbeat().await, T0 + 4_999);
    assert!(touch(None, T0 + 9_999).await.unwrap());
    assert_eq!(heartbeat().await, T0 + 9_999);
    // The clock was set back.
    assert!(touch(None, T0).await.unwrap());
    assert_eq!(heartbeat().await, T0);
    assert_eq!(
        bed.store.agent(agent).await.unwrap().unwrap().status,
        AgentStatus::Running
    );
}

async fn many_agents_are_heard_in_one_write(bed: &Bed) {
    let first = bed.agent("first", &[]).await;
    let second = bed.agent("second", &[]).await;
    let ended = bed.agent("ended", &[]).await;
    bed.store
        .touch_agent(ended, Some(AgentStatus::Killed), T0)
        .await
        .unwrap();
    let unknown = slipway_model::id::AgentId::new(first.entity, 4711);
    bed.store
        .touch_agents(vec![second, unknown, ended, first], T0 + 1)
        .await
        .unwrap();
    bed.store.touch_agents(Vec::new(), T0 + 2).await.unwrap();
    for (agent, heard) in [(first, T0 + 1), (second, T0 + 1), (ended, T0)] {
        assert_eq!(bed.store.agent(agent).await.unwrap().unwrap().heartbeat_at, heard);
    }
}

async fn an_ended_agent_stays_ended(bed: &Bed) {
    let agent = bed.agent("agent", &[]).await;
    assert!(
        bed.store
            .touch_agent(agent, Some(AgentStatus::Killed), T0)
            .await
            .unwrap()
    );
    assert!(
        !bed.store
            .touch_agent(agent, Some(AgentStatus::Polling), T0)
            .await
            .unwrap()
    );
    assert_eq!(
        bed.store.agent(agent).await.unwrap().unwrap().status,
        AgentStatus::Killed
    );
    let unknown = slipway_model::id::AgentId::new(agent.entity, 4711);
    assert!(!bed.store.touch_agent(unknown, None, T0).await.unwrap());
    // Its name is free at once.
    let elsewhere = NewAgent {
        instance: None,
        ..new_agent("agent", &[])
    };
    assert_eq!(bed.register(elsewhere, T0).await.epoch, 2);
}

async fn a_last_word_outlasts_what_is_said_at_the_same_moment(bed: &Bed) {
    for round in 0..30 {
        let agent = bed.agent(&format!("agent-{round}"), &[]).await;
        let say = |status| bed.store.touch_agent(agent, Some(status), T0);
        let (running, killed, draining) = tokio::join!(
            say(AgentStatus::Running),
            say(AgentStatus::Killed),
            say(AgentStatus::Draining)
        );
        assert!(killed.unwrap(), "round {round}");
        let (_, _) = (running.unwrap(), draining.unwrap());
        let status = bed.store.agent(agent).await.unwrap().unwrap().status;
        assert_eq!(status, AgentStatus::Killed, "round {round}");
    }
}

async fn a_queue_knows_its_live_agents(bed: &Bed) {
    let queue = bed.queue("q").await;
    let busy = bed.agent("busy", &[queue]).await;
    bed.started(busy, queue, T0).await;
    let draining = bed.register(new_agent("draining", &[queue]), T0 + 10_000).await;
    bed.store.request_drain(draining.id, true, USER, T0).await.unwrap();
    let ended = bed.agent("ended", &[queue]).await;
    bed.store
        .touch_agent(ended, Some(AgentStatus::Killed), T0)
        .await
        .unwrap();
    let loads = |now| async move {
        let agents = bed.store.queue_agents(queue, now).await.unwrap();
        agents
            .into_iter()
            .map(|(_, load)| (load.name, load.running, load.max_jobs, load.draining))
            .collect::<Vec<_>>()
    };
    let busy = ("busy".to_owned(), 1, 4, false);
    let draining = ("draining".to_owned(), 0, 4, true);
    assert_eq!(loads(T0 + 1).await, [busy, draining.clone()]);
    assert_eq!(loads(T0 + AGENT_TERM).await, [draining]);
}

async fn a_drain_is_asked_for_and_taken_back(bed: &Bed) {
    let agent = bed.agent("agent", &[]).await;
    for drain in [true, true, false] {
        bed.store.request_drain(agent, drain, USER, T0).await.unwrap();
        assert_eq!(bed.store.agent(agent).await.unwrap().unwrap().drain_requested, drain);
    }
    let unknown = slipway_model::id::AgentId::new(agent.entity, 4711);
    let error = bed.store.request_drain(unknown, true, USER, T0).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: "agent", .. }), "{error}");
}
