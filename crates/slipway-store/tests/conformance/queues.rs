//! Queues and their revisions.

use slipway_model::item::{ItemState, LEASE_TERM};
use slipway_model::queue::{Prioritization, QueuePolicy, Resource};
use slipway_model::run::RunState;
use slipway_store::Error;
use slipway_store::events::Scope;
use slipway_store::items::{Acked, ItemFilter, ReturnCause};
use slipway_store::queues::{NewRevision, QueueCounts, QueueUpdate};

use crate::bed::{Bed, T0, USER, new_item, new_queue};

crate::cases!(
    a_queue_is_found_as_it_was_made,
    a_name_is_taken_once_per_project,
    a_revision_belongs_to_one_queue,
    an_equal_revision_is_not_stored_again,
    a_queue_without_configuration_takes_one_later,
    counts_are_by_state,
    a_deleted_queue_takes_its_waiting_items_along,
    what_was_handed_out_survives_its_queue,
    what_comes_back_to_a_deleted_queue_fails_and_says_why,
    a_change_is_in_the_record_and_the_audit_log_with_its_author,
);

fn revision(config: &str, policy: Option<QueuePolicy>) -> NewRevision {
    NewRevision {
        resource: Resource::LocalProcess,
        config: config.to_owned(),
        template_variables: "{}".to_owned(),
        policy,
        created_by: USER.to_owned(),
    }
}

async fn a_queue_is_found_as_it_was_made(bed: &Bed) {
    let mut new = new_queue("näme q");
    new.links.insert("grafana".to_owned(), "https://example.org".to_owned());
    let made = bed.store.create_queue(new, T0).await.unwrap();
    assert_eq!(
        (made.entity.as_str(), made.name.as_str(), made.paused),
        (USER, "näme q", false)
    );
    assert_eq!(made.prioritization, Prioritization::V0);
    let found = bed.store.queue(USER, &made.project, "näme q").await.unwrap();
    assert_eq!(found.as_ref(), Some(&made));
    assert_eq!(bed.store.queue_by_id(made.id).await.unwrap(), found);
    assert_eq!(bed.store.queues(USER, None).await.unwrap(), [made.clone()]);
    assert_eq!(bed.store.queues(USER, Some(&made.project)).await.unwrap(), [made]);
    assert!(bed.store.queues(USER, Some("other")).await.unwrap().is_empty());
    assert_eq!(bed.store.queue("bob", "p", "q").await.unwrap(), None);
}

async fn a_name_is_taken_once_per_project(bed: &Bed) {
    bed.queue("q").await;
    let error = bed.store.create_queue(new_queue("q"), T0).await.unwrap_err();
    assert!(matches!(error, Error::Exists { kind: "queue", .. }), "{error}");
    let mut other = new_queue("q");
    other.project = "other".to_owned();
    bed.store.create_queue(other, T0).await.unwrap();
    for bad in ["", "a/b", "a\nb"] {
        let error = bed.store.create_queue(new_queue(bad), T0).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
    let mut foreign = new_queue("q");
    foreign.entity = "nobody".to_owned();
    let error = bed.store.create_queue(foreign, T0).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

async fn a_revision_belongs_to_one_queue(bed: &Bed) {
    let id = bed.store.add_revision(USER, revision("{}", None), T0).await.unwrap();
    assert_eq!(bed.store.revision(id).await.unwrap().unwrap().number, 0);
    let mut first = new_queue("first");
    first.revision = Some(id);
    let made = bed.store.create_queue(first, T0).await.unwrap();
    assert_eq!(
        made.revision.as_ref().map(|revision| (revision.id, revision.number)),
        Some((id, 1))
    );
    let mut second = new_queue("second");
    second.revision = Some(id);
    let error = bed.store.create_queue(second, T0).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    assert_eq!(bed.store.queue(USER, &made.project, "second").await.unwrap(), None);
}

async fn an_equal_revision_is_not_stored_again(bed: &Bed) {
    let policy = QueuePolicy {
        allowed_overrides: vec!["/env".to_owned()],
        ..QueuePolicy::default()
    };
    let queue = bed.queue_with("q", policy.clone()).await;
    let same = queue.revision.clone().unwrap();
    let update = |config: &str| QueueUpdate {
        revision: Some(revision(config, None)),
        ..QueueUpdate::default()
    };
    let unchanged = bed
        .store
        .update_queue(queue.id, update(&same.config), USER, T0 + 1)
        .await
        .unwrap();
    assert_eq!(unchanged, queue);
    let changed = bed
        .store
        .update_queue(queue.id, update("{}"), USER, T0 + 1)
        .await
        .unwrap();
    let newest = changed.revision.unwrap();
    assert_eq!((newest.number, &newest.policy), (2, &policy), "the policy is kept");
    let all = bed.store.revisions(queue.id).await.unwrap();
    assert_eq!(all, [newest, same]);
}

async fn a_queue_without_configuration_takes_one_later(bed: &Bed) {
    let queue = bed.store.create_queue(new_queue("q"), T0).await.unwrap();
    assert_eq!(queue.revision, None);
    let update = QueueUpdate {
        revision: Some(revision("{}", None)),
        prioritization: Some(Prioritization::Disabled),
        paused: Some(true),
        ..QueueUpdate::default()
    };
    let updated = bed.store.update_queue(queue.id, update, USER, T0).await.unwrap();
    assert_eq!(updated.revision.unwrap().number, 1);
    assert_eq!(
        (updated.prioritization, updated.paused),
        (Prioritization::Disabled, true)
    );
}

async fn counts_are_by_state(bed: &Bed) {
    let (queue, empty) = (bed.queue("q").await, bed.queue("empty").await);
    let agent = bed.agent("agent", &[queue]).await;
    let running = bed.started(agent, queue, T0).await;
    bed.store.running(None, vec![running], T0).await.unwrap();
    bed.started(agent, queue, T0).await;
    bed.push_many(queue, vec![new_item(); 3], T0 + 7).await;
    bed.lease(agent, &[queue], 1, T0).await;
    let counts = bed.store.queue_counts(&[empty, queue]).await.unwrap();
    assert_eq!(counts[0], QueueCounts::default());
    assert_eq!((counts[1].pending, counts[1].starting, counts[1].running), (2, 2, 1));
    assert_eq!(
        (counts[1].oldest_pending_at, counts[1].last_success_at),
        (Some(T0 + 7), None)
    );
}

async fn a_deleted_queue_takes_its_waiting_items_along(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    // More than one slice.
    bed.push_many(queue, vec![new_item(); 2_500], T0).await;
    assert_eq!(bed.store.delete_queue(queue, USER, T0).await.unwrap(), Some(2_500));
    assert_eq!(bed.store.delete_queue(queue, USER, T0).await.unwrap(), None);
    assert_eq!(bed.store.queue_by_id(queue).await.unwrap(), None);
    assert!(bed.lease(agent, &[queue], 1, T0).await.is_empty());
    let error = bed.store.push(queue, vec![new_item()], T0).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: "queue", .. }), "{error}");
    assert_ne!(bed.queue("q").await, queue);
}

async fn what_was_handed_out_survives_its_queue(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let handle = bed.started(agent, queue, T0).await;
    assert_eq!(bed.store.delete_queue(queue, USER, T0).await.unwrap(), Some(0));
    assert_eq!(bed.store.running(None, vec![handle], T0).await.unwrap(), [Ok(())]);
    assert_eq!(bed.store.held_items(agent).await.unwrap().len(), 1);
    bed.finish(handle, slipway_store::items::Outcome::Finished, T0)
        .await
        .unwrap();
}

async fn what_comes_back_to_a_deleted_queue_fails_and_says_why(bed: &Bed) {
    /// How an item comes back.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Path {
        LeaseExpired,
        ClaimExpired,
        Handed(ReturnCause),
    }
    let paths = [
        Path::LeaseExpired,
        Path::ClaimExpired,
        Path::Handed(ReturnCause::Released),
        Path::Handed(ReturnCause::Absent),
        Path::Handed(ReturnCause::Preempted),
    ];
    bed.store.tick(T0).await.unwrap();
    for (number, path) in paths.into_iter().enumerate() {
        let queue = bed.queue(&format!("q{number}")).await;
        let agent = bed.agent(&format!("agent-{number}"), &[queue]).await;
        let handle = match path {
            Path::Handed(ReturnCause::Absent | ReturnCause::Preempted) => bed.started(agent, queue, T0).await,
            Path::LeaseExpired | Path::ClaimExpired | Path::Handed(ReturnCause::Released) => {
                bed.push(queue).await;
                let handle = bed.lease(agent, &[queue], 1, T0).await[0].handle;
                if path != Path::LeaseExpired {
                    assert_eq!(bed.ack(handle, T0).await, Acked::Yes);
                }
                handle
            }
        };
        assert_eq!(bed.store.delete_queue(queue, USER, T0).await.unwrap(), Some(0));
        match path {
            Path::Handed(cause) => {
                let returned = bed.store.hand_back(Some(agent), handle, cause, T0).await.unwrap();
                assert_eq!(returned, Ok(()), "{path:?}");
            }
            Path::LeaseExpired | Path::ClaimExpired => {}
        }
    }
    let ticked = bed.pass_time(T0, T0 + LEASE_TERM + 1).await;
    assert_eq!((ticked.requeued.len(), ticked.failed.len()), (0, 2));
    let items = bed.store.items(ItemFilter::default(), None, 10).await.unwrap().rows;
    assert_eq!(items.len(), paths.len());
    for item in items {
        assert_eq!(item.state, ItemState::Failed, "{item:?}");
        let failure = item.failure.expect("a failure");
        assert_eq!(failure.reason, "queue-deleted");
        assert!(
            failure.message.contains("queue had been deleted"),
            "{}",
            failure.message
        );
        if let Some(run) = &item.run {
            assert_eq!(bed.store.run(run).await.unwrap().unwrap().state, RunState::Failed);
        }
    }
}

async fn a_change_is_in_the_record_and_the_audit_log_with_its_author(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let item = bed.push(queue).await;
    let changes = [
        QueueUpdate {
            paused: Some(true),
            ..QueueUpdate::default()
        },
        QueueUpdate {
            paused: Some(false),
            ..QueueUpdate::default()
        },
        QueueUpdate {
            revision: Some(revision(
                "{}",
                Some(QueuePolicy {
                    run_key_scopes: vec!["launch".to_owned()],
                    ..QueuePolicy::default()
                }),
            )),
            ..QueueUpdate::default()
        },
    ];
    for change in changes {
        bed.store.update_queue(queue, change, "bob", T0).await.unwrap();
    }
    bed.store.request_drain(agent, true, "carol", T0).await.unwrap();
    bed.store.delete_queue(queue, "dave", T0).await.unwrap();

    let log = bed.store.audit_log(10).await.unwrap();
    let told: Vec<(&str, &str, &str)> = log
        .iter()
        .map(|entry| (entry.actor.as_str(), entry.action.as_str(), entry.subject.as_str()))
        .collect();
    const QUEUE: &str = "alice/model-registry/q";
    assert_eq!(
        told,
        [
            ("dave", "queue.delete", QUEUE),
            ("carol", "agent.drain", "alice/agent"),
            ("bob", "queue.update", QUEUE),
            ("bob", "queue.resume", QUEUE),
            ("bob", "queue.pause", QUEUE),
            (USER, "queue.create", QUEUE),
        ]
    );
    assert!(log[2].detail.contains("launch"), "{}", log[2].detail);

    assert_eq!(bed.history(item, 2).await, ["pushed", "deleted"]);
    let events = bed.store.events(Scope::Queue(queue), Default::default(), 100).await;
    let events = events.unwrap().unwrap();
    let told: Vec<(&str, &str)> = events
        .iter()
        .map(|event| (event.kind.as_ref(), event.actor.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("queue-created", USER),
            ("pushed", USER),
            ("queue-updated", "bob"),
            ("queue-updated", "bob"),
            ("queue-updated", "bob"),
            ("deleted", "dave"),
            ("queue-deleted", "dave"),
        ]
    );
    let of_agent = bed.store.events(Scope::Agent(agent), Default::default(), 100).await;
    let of_agent = of_agent.unwrap().unwrap();
    assert_eq!(of_agent.last().map(|event| event.actor.as_str()), Some("carol"));
}
