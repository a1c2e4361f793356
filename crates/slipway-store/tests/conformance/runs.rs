//! Runs: upsert, heartbeats, ends, and the item that follows.

use slipway_model::Millis;
use slipway_model::id::{LeaseHandle, RunName};
use slipway_model::item::{CRASH_TERM, ItemState};
use slipway_model::run::RunState;
use slipway_store::blobs::{BlobOptions, Blobs, path};
use slipway_store::items::{Acked, Outcome};
use slipway_store::run_data::Stream;
use slipway_store::runs::{Alert, Heartbeat, Run, RunFile, RunUpsert};
use slipway_store::{Error, garbage};

use crate::bed::{Bed, T0, USER, run_of};

crate::cases!(
    a_new_run_runs_and_has_a_name_for_people,
    an_upsert_leaves_what_it_does_not_name,
    a_run_needs_an_entity_and_names_that_addresses_carry,
    many_upserts_of_one_run_make_it_once,
    the_exit_code_decides_how_a_run_ended,
    the_first_exit_code_counts,
    a_resumed_run_runs_again_and_has_not_been_asked_to_stop,
    a_heartbeat_is_written_at_most_every_five_seconds,
    a_heartbeat_brings_the_newest_summary,
    a_silent_run_crashes_and_its_next_heartbeat_revives_it,
    a_request_to_stop_reaches_the_next_heartbeat_and_stays,
    a_deleted_run_is_gone_and_its_id_is_free,
    what_a_deleted_run_left_behind_is_collected,
    runs_are_listed_in_stable_pages,
    files_and_alerts_belong_to_their_run,
    an_acknowledged_run_is_pending_until_it_starts,
    the_item_of_an_agent_that_does_not_report_follows_its_run,
    the_item_of_our_agent_follows_its_report,
    a_run_that_names_its_item_is_followed_without_an_acknowledgement,
    stopping_a_run_asks_its_item_to_stop,
    a_run_may_live_in_another_entity_than_its_item,
);

fn name(id: &str) -> RunName {
    RunName {
        entity: USER.to_owned(),
        project: "p".to_owned(),
        run: id.to_owned(),
    }
}

fn starts() -> RunUpsert {
    RunUpsert {
        user: USER.to_owned(),
        starts: true,
        ..RunUpsert::default()
    }
}

fn exit(code: i64) -> Heartbeat {
    Heartbeat {
        exit_code: Some(code),
        ..Heartbeat::default()
    }
}

async fn run(bed: &Bed, name: &RunName) -> Run {
    bed.store.run(name).await.unwrap().expect("the run")
}

async fn beat(bed: &Bed, name: &RunName, now: Millis) -> slipway_store::runs::HeartbeatAck {
    bed.store.heartbeat(name, Heartbeat::default(), now).await.unwrap()
}

/// An item leased and acknowledged by an agent that reports nothing more.
async fn claimed_by_another_agent(bed: &Bed) -> LeaseHandle {
    let queue = bed.queue("q").await;
    bed.push(queue).await;
    let leased = bed.store.lease(None, vec![queue], 1, false, T0).await.unwrap();
    let handle = leased[0].handle;
    assert_eq!(bed.ack(handle, T0).await, Acked::Yes);
    handle
}

async fn a_new_run_runs_and_has_a_name_for_people(bed: &Bed) {
    let (made, inserted) = bed.store.upsert_run(name("r1"), starts(), T0).await.unwrap();
    assert!(inserted);
    assert_eq!((made.state, made.user.as_str()), (RunState::Running, USER));
    assert_eq!((made.config.as_str(), made.summary.as_str()), ("{}", "{}"));
    assert!(!made.display_name.is_empty());
    assert_eq!(
        (made.created_at, made.heartbeat_at, made.ended_at),
        (T0, Some(T0), None)
    );
    assert_eq!(run(bed, &name("r1")).await, made);
    let (other, _) = bed.store.upsert_run(name("r2"), starts(), T0).await.unwrap();
    assert_ne!(other.display_name, made.display_name);
    assert_eq!(bed.store.run(&name("r3")).await.unwrap(), None);
    assert!(bed.store.project(USER, "p").await.unwrap().is_some());
}

async fn an_upsert_leaves_what_it_does_not_name(bed: &Bed) {
    let first = RunUpsert {
        config: Some(r#"{"lr":{"value":1}}"#.to_owned()),
        display_name: Some("first".to_owned()),
        tags: Some(vec!["a".to_owned(), "b".to_owned()]),
        notes: Some("notes".to_owned()),
        group: Some("group".to_owned()),
        job_type: Some("train".to_owned()),
        commit: Some("abc".to_owned()),
        sweep: Some("s1".to_owned()),
        ..starts()
    };
    let (before, _) = bed.store.upsert_run(name("r1"), first, T0).await.unwrap();
    let second = RunUpsert {
        config: Some(r#"{"lr":{"value":2}}"#.to_owned()),
        display_name: Some(String::new()),
        user: "somebody".to_owned(),
        ..RunUpsert::default()
    };
    let (after, inserted) = bed.store.upsert_run(name("r1"), second, T0 + 1).await.unwrap();
    assert!(!inserted);
    let expected = Run {
        config: r#"{"lr":{"value":2}}"#.to_owned(),
        ..before
    };
    assert_eq!(after, expected);
    let third = RunUpsert {
        tags: Some(Vec::new()),
        notes: Some(String::new()),
        ..RunUpsert::default()
    };
    let (after, _) = bed.store.upsert_run(name("r1"), third, T0 + 1).await.unwrap();
    assert_eq!((after.tags, after.notes.as_deref()), (Vec::new(), Some("")));
}

async fn a_run_needs_an_entity_and_names_that_addresses_carry(bed: &Bed) {
    let elsewhere = RunName {
        entity: "nobody".to_owned(),
        ..name("r1")
    };
    let refused = bed.store.upsert_run(elsewhere, starts(), T0).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })));
    for id in ["", ".", "..", "a/b", "a:b", "a%20b", "a\nb", &"x".repeat(129)] {
        let refused = bed.store.upsert_run(name(id), starts(), T0).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{id:?}");
    }
    let odd_project = RunName {
        project: "a/b".to_owned(),
        ..name("r1")
    };
    assert!(matches!(
        bed.store.upsert_run(odd_project, starts(), T0).await,
        Err(Error::Invalid(_))
    ));
}

async fn many_upserts_of_one_run_make_it_once(bed: &Bed) {
    let upserts = (0..8).map(|number| {
        let store = bed.store.clone();
        let upsert = RunUpsert {
            notes: (number == 3).then(|| "third".to_owned()),
            ..starts()
        };
        tokio::spawn(async move { store.upsert_run(name("r1"), upsert, T0).await.unwrap().1 })
    });
    let mut inserted = 0;
    for upsert in upserts.collect::<Vec<_>>() {
        inserted += usize::from(upsert.await.unwrap());
    }
    assert_eq!(inserted, 1);
    assert_eq!(run(bed, &name("r1")).await.notes.as_deref(), Some("third"));
}

async fn the_exit_code_decides_how_a_run_ended(bed: &Bed) {
    let cases = [
        (0, false, RunState::Finished),
        (0, true, RunState::Finished),
        (1, false, RunState::Failed),
        (255, true, RunState::Killed),
    ];
    for (number, (code, stopped, state)) in cases.into_iter().enumerate() {
        let run_name = name(&format!("r{number}"));
        bed.store.upsert_run(run_name.clone(), starts(), T0).await.unwrap();
        if stopped {
            bed.store.stop_run(&run_name, USER, T0).await.unwrap();
        }
        let ack = bed.store.heartbeat(&run_name, exit(code), T0 + 9).await.unwrap();
        assert_eq!((ack.changed, ack.stop_requested), (Some(state), stopped));
        let ended = run(bed, &run_name).await;
        assert_eq!(
            (ended.state, ended.exit_code, ended.ended_at),
            (state, Some(code), Some(T0 + 9))
        );
    }
    assert!(matches!(
        bed.store.heartbeat(&name("nobody"), exit(0), T0).await,
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        bed.store.heartbeat(&name("nobody"), Heartbeat::default(), T0).await,
        Err(Error::NotFound { .. })
    ));
}

async fn the_first_exit_code_counts(bed: &Bed) {
    bed.store.upsert_run(name("r1"), starts(), T0).await.unwrap();
    bed.store.heartbeat(&name("r1"), exit(0), T0 + 1).await.unwrap();
    for late in [exit(1), exit(0), Heartbeat::default()] {
        let ack = bed.store.heartbeat(&name("r1"), late, T0 + 60_000).await.unwrap();
        assert_eq!(ack.changed, None);
    }
    let ended = run(bed, &name("r1")).await;
    assert_eq!(
        (ended.state, ended.exit_code, ended.ended_at),
        (RunState::Finished, Some(0), Some(T0 + 1))
    );
}

async fn a_resumed_run_runs_again_and_has_not_been_asked_to_stop(bed: &Bed) {
    bed.store.upsert_run(name("r1"), starts(), T0).await.unwrap();
    bed.store.stop_run(&name("r1"), USER, T0).await.unwrap();
    bed.store.heartbeat(&name("r1"), exit(255), T0 + 1).await.unwrap();
    let only_config = RunUpsert {
        config: Some("{}".to_owned()),
        ..RunUpsert::default()
    };
    let (after, _) = bed.store.upsert_run(name("r1"), only_config, T0 + 2).await.unwrap();
    assert_eq!(after.state, RunState::Killed, "a late change is not a start");
    let (resumed, inserted) = bed.store.upsert_run(name("r1"), starts(), T0 + 3).await.unwrap();
    assert!(!inserted);
    assert_eq!(
        (resumed.state, resumed.exit_code, resumed.ended_at),
        (RunState::Running, None, None)
    );
    assert!(!resumed.stop_requested);
}

async fn a_heartbeat_is_written_at_most_every_five_seconds(bed: &Bed) {
    bed.store.upsert_run(name("r1"), starts(), T0).await.unwrap();
    for (now, noted) in [(T0 + 4_999, T0), (T0 + 5_000, T0 + 5_000), (T0 + 9_000, T0 + 5_000)] {
        beat(bed, &name("r1"), now).await;
        assert_eq!(run(bed, &name("r1")).await.heartbeat_at, Some(noted));
    }
}

async fn a_heartbeat_brings_the_newest_summary(bed: &Bed) {
    bed.store.upsert_run(name("r1"), starts(), T0).await.unwrap();
    let with = |summary: Option<&str>, metrics: Option<&str>| Heartbeat {
        summary: summary.map(str::to_owned),
        system_metrics: metrics.map(str::to_owned),
        ..Heartbeat::default()
    };
    bed.store
        .heartbeat(&name("r1"), with(Some(r#"{"loss":1}"#), None), T0)
        .await
        .unwrap();
    bed.store
        .heartbeat(&name("r1"), with(None, Some(r#"{"cpu":2}"#)), T0)
        .await
        .unwrap();
    bed.store
        .heartbeat(&name("r1"), with(Some(r#"{"loss":0}"#), None), T0)
        .await
        .unwrap();
    let found = run(bed, &name("r1")).await;
    assert_eq!(
        (found.summary.as_str(), found.system_metrics.as_str()),
        (r#"{"loss":0}"#, r#"{"cpu":2}"#)
    );
    assert_eq!(found.config, "{}");
}

async fn a_silent_run_crashes_and_its_next_heartbeat_revives_it(bed: &Bed) {
    for id in ["silent", "alive", "ended"] {
        bed.store.upsert_run(name(id), starts(), T0).await.unwrap();
    }
    bed.store.heartbeat(&name("ended"), exit(0), T0).await.unwrap();
    let half = CRASH_TERM / 2;
    bed.pass_time(T0, T0 + half).await;
    beat(bed, &name("alive"), T0 + half).await;
    let ticked = bed.pass_time(T0 + half, T0 + CRASH_TERM + 10_000).await;
    assert_eq!(ticked.crashed, [name("silent")]);
    let crashed = run(bed, &name("silent")).await;
    assert_eq!((crashed.state, crashed.ended_at), (RunState::Crashed, Some(T0)));
    let ack = beat(bed, &name("silent"), T0 + CRASH_TERM + 11_000).await;
    assert_eq!(ack.changed, Some(RunState::Running));
    let revived = run(bed, &name("silent")).await;
    assert_eq!((revived.state, revived.ended_at), (RunState::Running, None));
}

async fn a_request_to_stop_reaches_the_next_heartbeat_and_stays(bed: &Bed) {
    bed.store.upsert_run(name("r1"), starts(), T0).await.unwrap();
    assert!(!beat(bed, &name("r1"), T0).await.stop_requested);
    assert!(bed.store.stop_run(&name("r1"), USER, T0).await.unwrap());
    for now in [T0 + 1, T0 + 2] {
        assert!(beat(bed, &name("r1"), now).await.stop_requested);
    }
    // The client may start its process again while it is asked to stop.
    bed.store.upsert_run(name("r1"), starts(), T0 + 3).await.unwrap();
    assert!(beat(bed, &name("r1"), T0 + 4).await.stop_requested);
    assert!(!bed.store.stop_run(&name("nobody"), USER, T0).await.unwrap());
}

async fn a_deleted_run_is_gone_and_its_id_is_free(bed: &Bed) {
    let first = RunUpsert {
        notes: Some("first".to_owned()),
        ..starts()
    };
    bed.store.upsert_run(name("r1"), first, T0).await.unwrap();
    assert!(bed.store.delete_run(&name("r1")).await.unwrap());
    assert!(!bed.store.delete_run(&name("r1")).await.unwrap());
    assert_eq!(bed.store.run(&name("r1")).await.unwrap(), None);
    assert!(matches!(
        bed.store.heartbeat(&name("r1"), Heartbeat::default(), T0).await,
        Err(Error::NotFound { .. })
    ));
    let (again, inserted) = bed.store.upsert_run(name("r1"), starts(), T0).await.unwrap();
    assert!(inserted && again.notes.is_none());
}

async fn what_a_deleted_run_left_behind_is_collected(bed: &Bed) {
    let dir = tempfile::tempdir().unwrap();
    let options = BlobOptions::Local {
        dir: dir.path().to_owned(),
    };
    let blobs = Blobs::open(&options).unwrap();
    let mut numbers = Vec::new();
    // The same id three times: the last run lives.
    for _ in 0..3 {
        bed.store.delete_run(&name("r1")).await.unwrap();
        let (made, _) = bed.store.upsert_run(name("r1"), starts(), T0).await.unwrap();
        let lines = vec!["line".to_owned()];
        bed.store
            .write_lines(&made.name, Stream::Console, 0, lines)
            .await
            .unwrap();
        let file = path::run_file(made.number, "output.log");
        blobs.put_bytes(&file, "line".into()).await.unwrap();
        numbers.push(made.number);
    }
    assert_eq!(bed.store.deleted_runs(10).await.unwrap(), numbers[..2]);
    assert_eq!(garbage::collect(&bed.store, &blobs, 1).await.unwrap(), 1);
    assert_eq!(garbage::collect(&bed.store, &blobs, 10).await.unwrap(), 1);
    assert_eq!(garbage::collect(&bed.store, &blobs, 10).await.unwrap(), 0);
    for (number, kept) in numbers.into_iter().zip([false, false, true]) {
        let found = blobs.head(&path::run_file(number, "output.log")).await;
        assert_eq!(found.is_ok(), kept, "run {number}");
    }
    assert_eq!(run(bed, &name("r1")).await.log_lines, 1);
}

async fn runs_are_listed_in_stable_pages(bed: &Bed) {
    // Three runs of each moment, so that a page ends within a moment.
    for number in 0..12 {
        bed.store
            .upsert_run(name(&format!("r{number:02}")), starts(), T0 + number / 3)
            .await
            .unwrap();
    }
    let other = RunName {
        project: "other".to_owned(),
        ..name("x")
    };
    bed.store.upsert_run(other, starts(), T0).await.unwrap();
    for oldest_first in [false, true] {
        let mut expected: Vec<String> = (0..12).map(|number| format!("r{number:02}")).collect();
        if !oldest_first {
            expected.reverse();
        }
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = bed.store.runs(USER, "p", after, oldest_first, 5).await.unwrap();
            let last = page.rows.last().expect("a page has rows");
            after = Some((last.created_at, last.name.run.clone()));
            found.extend(page.rows.into_iter().map(|run| run.name.run));
            if !page.more {
                break;
            }
            // What comes and goes meanwhile does not shift the pages.
            bed.store.delete_run(&name("extra")).await.unwrap();
            let at = if oldest_first { T0 - 1 } else { T0 + 99 };
            bed.store.upsert_run(name("extra"), starts(), at).await.unwrap();
        }
        assert_eq!(found, expected);
        bed.store.delete_run(&name("extra")).await.unwrap();
    }
    let none = bed.store.runs(USER, "nothing", None, false, 5).await.unwrap();
    assert!(none.rows.is_empty() && !none.more);
}

async fn files_and_alerts_belong_to_their_run(bed: &Bed) {
    bed.store.upsert_run(name("r1"), starts(), T0).await.unwrap();
    let file = |name: &str, size| RunFile {
        name: name.to_owned(),
        size,
        md5: "CY9rzUYh03PK3k6DJie09g==".to_owned(),
        updated_at: T0,
    };
    for (path, size) in [("media/a=1.png", 1), ("config.yaml", 2), ("media/a=1.png", 3)] {
        bed.store.put_run_file(&name("r1"), file(path, size)).await.unwrap();
    }
    let files = bed.store.run_files(&name("r1")).await.unwrap();
    assert_eq!(files, [file("config.yaml", 2), file("media/a=1.png", 3)]);
    let alert = |title: &str| Alert {
        title: title.to_owned(),
        text: "text".to_owned(),
        severity: "WARN".to_owned(),
        at: T0,
    };
    for title in ["one", "two"] {
        bed.store.add_alert(&name("r1"), alert(title)).await.unwrap();
    }
    assert_eq!(
        bed.store.alerts(&name("r1")).await.unwrap(),
        [alert("two"), alert("one")]
    );
    bed.store.delete_run(&name("r1")).await.unwrap();
    bed.store.upsert_run(name("r1"), starts(), T0).await.unwrap();
    assert!(bed.store.run_files(&name("r1")).await.unwrap().is_empty());
    assert!(bed.store.alerts(&name("r1")).await.unwrap().is_empty());
    let unknown = bed.store.put_run_file(&name("nobody"), file("a", 1)).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
    let unknown = bed.store.add_alert(&name("nobody"), alert("a")).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
}

async fn an_acknowledged_run_is_pending_until_it_starts(bed: &Bed) {
    let handle = claimed_by_another_agent(bed).await;
    let run_name = run_of(handle.item);
    let pending = run(bed, &run_name).await;
    assert_eq!((pending.state, pending.item), (RunState::Pending, Some(handle.item)));
    assert_eq!((pending.user.as_str(), pending.heartbeat_at), (USER, None));
    let (started, inserted) = bed.store.upsert_run(run_name, starts(), T0).await.unwrap();
    assert!(!inserted);
    assert_eq!((started.state, started.item), (RunState::Running, Some(handle.item)));
    assert_eq!(started.display_name, pending.display_name);
}

async fn the_item_of_an_agent_that_does_not_report_follows_its_run(bed: &Bed) {
    let handle = claimed_by_another_agent(bed).await;
    let run_name = run_of(handle.item);
    bed.store.upsert_run(run_name.clone(), starts(), T0).await.unwrap();
    assert_eq!(bed.state(handle.item).await, ItemState::Running);
    bed.pass_time(T0, T0 + CRASH_TERM + 10_000).await;
    assert_eq!(bed.state(handle.item).await, ItemState::Crashed);
    let ack = beat(bed, &run_name, T0 + CRASH_TERM + 11_000).await;
    assert_eq!(ack.item, Some(handle.item));
    assert_eq!(bed.state(handle.item).await, ItemState::Running);
    let end = bed
        .store
        .heartbeat(&run_name, exit(3), T0 + CRASH_TERM + 12_000)
        .await
        .unwrap();
    assert_eq!(end.item, Some(handle.item));
    let item = bed.item(handle.item).await;
    assert_eq!((item.state, item.exit_code), (ItemState::Failed, Some(3)));
}

async fn the_item_of_our_agent_follows_its_report(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("a", &[queue]).await;
    // The run ends by itself first: the item waits for the agent's word, the run keeps its own.
    let handle = bed.started(agent, queue, T0).await;
    let run_name = run_of(handle.item);
    bed.store.upsert_run(run_name.clone(), starts(), T0).await.unwrap();
    assert_eq!(bed.state(handle.item).await, ItemState::Running);
    bed.store.heartbeat(&run_name, exit(0), T0 + 1).await.unwrap();
    assert_eq!(bed.state(handle.item).await, ItemState::Running);
    let failed = Outcome::Failed(crate::bed::failure("exit"));
    bed.finish(handle, failed, T0 + 2).await.unwrap();
    assert_eq!(bed.state(handle.item).await, ItemState::Failed);
    assert_eq!(run(bed, &run_name).await.state, RunState::Finished);
    // The agent reports first: the run ends with the item, and its own late word still counts.
    let handle = bed.started(agent, queue, T0).await;
    let run_name = run_of(handle.item);
    bed.store.upsert_run(run_name.clone(), starts(), T0).await.unwrap();
    bed.finish(handle, Outcome::Finished, T0 + 2).await.unwrap();
    let ended = run(bed, &run_name).await;
    assert_eq!(
        (ended.state, ended.ended_at, ended.exit_code),
        (RunState::Finished, Some(T0 + 2), None)
    );
    bed.store.heartbeat(&run_name, exit(1), T0 + 3).await.unwrap();
    let ended = run(bed, &run_name).await;
    assert_eq!(
        (ended.state, ended.ended_at, ended.exit_code),
        (RunState::Failed, Some(T0 + 2), Some(1))
    );
    assert_eq!(bed.state(handle.item).await, ItemState::Finished);
}

async fn a_run_that_names_its_item_is_followed_without_an_acknowledgement(bed: &Bed) {
    let handle = claimed_by_another_agent(bed).await;
    let upsert = RunUpsert {
        item: Some(handle.item),
        ..starts()
    };
    // A run of another id than the one acknowledged: a job that sets its own.
    let (made, _) = bed.store.upsert_run(name("own"), upsert, T0).await.unwrap();
    assert_eq!(made.item, Some(handle.item));
    assert_eq!(bed.state(handle.item).await, ItemState::Running);
    bed.store.heartbeat(&name("own"), exit(0), T0 + 1).await.unwrap();
    assert_eq!(bed.state(handle.item).await, ItemState::Finished);
}

async fn stopping_a_run_asks_its_item_to_stop(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("a", &[queue]).await;
    let handle = bed.started(agent, queue, T0).await;
    assert!(bed.store.stop_run(&run_of(handle.item), USER, T0).await.unwrap());
    assert!(bed.item(handle.item).await.stop_requested);
    assert!(run(bed, &run_of(handle.item)).await.stop_requested);
    let renewed = bed.store.renew(agent, vec![handle], T0).await.unwrap();
    assert_eq!(renewed, [Ok(true)]);
    // Cancelling the item asks its run, likewise.
    let other = bed.started(agent, queue, T0).await;
    bed.store.cancel(other.item, USER, T0).await.unwrap();
    assert!(run(bed, &run_of(other.item)).await.stop_requested);
}

async fn a_run_may_live_in_another_entity_than_its_item(bed: &Bed) {
    bed.store.create_team("vision", USER, T0).await.unwrap();
    let queue = bed.queue("q").await;
    bed.push(queue).await;
    let leased = bed.store.lease(None, vec![queue], 1, false, T0).await.unwrap();
    let run_name = RunName {
        entity: "vision".to_owned(),
        project: "other".to_owned(),
        run: "r1".to_owned(),
    };
    let acked = bed
        .store
        .ack(None, vec![(leased[0].handle, run_name.clone())], T0)
        .await
        .unwrap();
    assert_eq!(acked, [Acked::Yes]);
    bed.store.upsert_run(run_name.clone(), starts(), T0).await.unwrap();
    bed.store.heartbeat(&run_name, exit(0), T0 + 1).await.unwrap();
    assert_eq!(bed.state(leased[0].handle.item).await, ItemState::Finished);
}
