//! The record: commit order, scopes, resuming, pruning, watching.

use std::time::{Duration, Instant};

use slipway_store::events::{Event, Position, Scope};
use slipway_store::items::Outcome;

use crate::bed::{Bed, T0, new_item};

crate::cases!(
    a_follower_sees_every_event_once_and_in_order,
    scopes_narrow_the_record,
    too_old_a_position_is_told,
    watchers_hear_of_commits,
    a_tail_has_what_the_table_has_however_far_it_falls_behind,
);

/// Reads on from a position until some number of events came.
async fn follow(bed: &Bed, scope: Scope, from: Position, count: usize) -> Vec<Event> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut all: Vec<Event> = Vec::new();
    while all.len() < count && Instant::now() < deadline {
        let after = all.last().map_or(from, |event| event.position);
        all.extend(bed.store.events(scope, after, 7).await.unwrap().unwrap());
        tokio::task::yield_now().await;
    }
    all
}

async fn a_follower_sees_every_event_once_and_in_order(bed: &Bed) {
    let queue = bed.queue("q").await;
    let start = settled(bed).await;
    let pushers = (0..6).map(|_| {
        let store = bed.store.clone();
        tokio::spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..20 {
                ids.push(store.push(queue, vec![new_item()], T0).await.unwrap()[0].id);
            }
            ids
        })
    });
    let pushers: Vec<_> = pushers.collect();
    let seen = follow(bed, Scope::All, start, 120).await;
    let mut pushed = Vec::new();
    for pusher in pushers {
        pushed.extend(pusher.await.unwrap());
    }
    assert!(seen.is_sorted_by(|one, next| one.position < next.position));
    let mut items: Vec<_> = seen.iter().filter_map(|event| event.item).collect();
    items.sort_unstable();
    pushed.sort_unstable();
    assert_eq!(items, pushed);
    assert_eq!(bed.store.last_position().await.unwrap(), seen.last().unwrap().position);
}

/// The newest position once everything that was committed counts.
async fn settled(bed: &Bed) -> Position {
    let deadline = Instant::now() + Duration::from_secs(60);
    let marker = bed.queue(&format!("marker-{}", rand_name())).await;
    loop {
        let events = bed
            .store
            .events(Scope::Queue(marker), Position::default(), 10)
            .await
            .unwrap()
            .unwrap();
        if let Some(event) = events.last() {
            return event.position;
        }
        assert!(Instant::now() < deadline, "the queue's event never showed");
        tokio::task::yield_now().await;
    }
}

fn rand_name() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

async fn scopes_narrow_the_record(bed: &Bed) {
    let (queue, other) = (bed.queue("q").await, bed.queue("other").await);
    let agent = bed.agent("agent", &[queue]).await;
    bed.push(other).await;
    let handle = bed.started(agent, queue, T0).await;
    bed.finish(handle, Outcome::Finished, T0).await.unwrap();
    settled(bed).await;
    let kinds = |scope| async move {
        let events = bed
            .store
            .events(scope, Position::default(), 100)
            .await
            .unwrap()
            .unwrap();
        events.into_iter().map(|event| event.kind).collect::<Vec<_>>()
    };
    let life = ["pushed", "leased", "acked", "started", "finished"];
    assert_eq!(kinds(Scope::Item(handle.item)).await, life);
    assert_eq!(kinds(Scope::Queue(queue)).await[1..], life);
    assert_eq!(
        kinds(Scope::Agent(agent)).await,
        ["agent-registered", "leased", "acked", "started", "finished"]
    );
    assert!(kinds(Scope::Entity(queue.entity)).await.len() >= 9);
    assert!(kinds(Scope::Entity(queue.entity + 1)).await.is_empty());
}

async fn too_old_a_position_is_told(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let ended = bed.started(agent, queue, T0).await;
    bed.finish(ended, Outcome::Finished, T0).await.unwrap();
    let held = bed.started(agent, queue, T0).await;
    let last = settled(bed).await;
    let mut deleted = 0;
    loop {
        let some = bed.store.prune_events(T0 + 1, 3).await.unwrap();
        deleted += some;
        if some < 3 {
            break;
        }
    }
    assert!(deleted >= 5, "{deleted}");
    assert_eq!(
        bed.history(held.item, 4).await,
        ["pushed", "leased", "acked", "started"]
    );
    assert_eq!(
        bed.store.events(Scope::All, Position::default(), 10).await.unwrap(),
        None
    );
    assert_eq!(bed.store.events(Scope::All, last, 10).await.unwrap(), Some(Vec::new()));
    // What comes next is not too old for whoever was up to date.
    bed.push_many(queue, vec![new_item()], T0 + 2).await;
    assert_eq!(follow(bed, Scope::All, last, 1).await[0].kind, "pushed");
    assert_eq!(bed.store.prune_events(T0 + 1, 100).await.unwrap(), 0);
}

async fn watchers_hear_of_commits(bed: &Bed) {
    let queue = bed.queue("q").await;
    let mut watch = bed.store.subscribe();
    watch.mark_unchanged();
    bed.push(queue).await;
    tokio::time::timeout(Duration::from_secs(60), watch.changed())
        .await
        .unwrap()
        .unwrap();
}

async fn a_tail_has_what_the_table_has_however_far_it_falls_behind(bed: &Bed) {
    let queue = bed.queue("q").await;
    let start = settled(bed).await;
    let mut tail = bed.store.tail().await.unwrap();
    let mut seen = Vec::new();
    // The second round makes more commits than a tail that nobody reads is kept for.
    for pushes in [3, 1_100, 2] {
        for _ in 0..pushes {
            bed.push(queue).await;
        }
        let enough = seen.len() + pushes;
        while seen.len() < enough {
            let events = tokio::time::timeout(Duration::from_secs(60), tail.next()).await;
            seen.extend(events.expect("events come").unwrap().iter().cloned());
        }
        assert_eq!(seen.len(), enough);
    }
    assert_eq!(seen, follow(bed, Scope::All, start, seen.len()).await);
}
