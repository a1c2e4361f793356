//! The engine itself: reopening, a full disk, an unfit database.

use std::time::{Duration, Instant};

use slipway_model::item::ItemState;
use slipway_store::{Error, Options, Store};

use crate::bed::{Bed, T0, new_item};

crate::cases!(
    what_was_acknowledged_is_there_after_reopening,
    the_store_is_ready,
    a_broken_connection_is_made_again,
);

async fn what_was_acknowledged_is_there_after_reopening(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let handle = bed.started(agent, queue, T0).await;
    let key = bed.store.signing_key().await.unwrap();
    // On SQLite a second server is refused while the first runs; a copy of its files is not.
    let copy = tempfile::tempdir().unwrap();
    let options = match &bed.options.database {
        slipway_store::Database::Sqlite { dir } => {
            for name in ["control.db", "control.db-wal", "run-data.db", "run-data.db-wal"] {
                if dir.join(name).exists() {
                    std::fs::copy(dir.join(name), copy.path().join(name)).unwrap();
                }
            }
            Options::sqlite(copy.path())
        }
        slipway_store::Database::Postgres { .. } => bed.options.clone(),
    };
    let again = Store::open(options).await.unwrap();
    let item = again.item(handle.item).await.unwrap().unwrap();
    assert_eq!((item.state, item.start_recorded), (ItemState::Claimed, true));
    assert_eq!(again.signing_key().await.unwrap(), key);
}

async fn the_store_is_ready(bed: &Bed) {
    bed.store.ping().await.unwrap();
    assert_eq!(
        bed.store.signing_key().await.unwrap(),
        bed.store.signing_key().await.unwrap()
    );
}

async fn a_broken_connection_is_made_again(bed: &Bed) {
    let queue = bed.queue("q").await;
    for count in 1..=3 {
        bed.break_connections();
        bed.push(queue).await;
        bed.break_connections();
        let waiting = bed.store.waiting(queue, 0, 10).await.unwrap();
        assert_eq!(waiting.rows.len(), count);
    }
}

#[tokio::test]
async fn unsafe_settings_are_refused_by_name() {
    let bed = Bed::postgres().await;
    let slipway_store::Database::Postgres { url, .. } = &bed.options.database else {
        unreachable!("a PostgreSQL bed")
    };
    let options = Options::postgres(format!("{url}%20-csynchronous_commit%3Doff"));
    let error = Store::open(options.clone()).await.err().unwrap();
    assert!(
        matches!(&error, Error::Unfit(text) if text.contains("synchronous_commit = off")),
        "{error}"
    );
    let careless = Options {
        require_durable: false,
        ..options
    };
    Store::open(careless).await.unwrap();
}

#[tokio::test]
async fn statistics_follow_a_table_that_grows() {
    let bed = Bed::postgres().await;
    let queue = bed.queue("q").await;
    let tables = ["items", "item_specs", "events"];
    tables.iter().for_each(|table| bed.without_autovacuum(table));
    for (count, known) in [(300, 300), (1_000, 1_300)] {
        bed.push_many(queue, vec![new_item(); count], T0).await;
        // A connection tells of its rows after ten seconds at the latest.
        let deadline = Instant::now() + Duration::from_secs(60);
        for table in tables {
            while bed.expected_rows(table) < known {
                assert!(
                    Instant::now() < deadline,
                    "`{table}` grew without the planner's knowledge"
                );
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(Options::sqlite(dir.path())).await.unwrap());
    let connection = rusqlite::Connection::open(dir.path().join("control.db")).unwrap();
    connection
        .execute_batch(
            "INSERT INTO schema_history (version, name, applied_on, checksum) \
             VALUES (4711, 'future', '2030-01-01T00:00:00Z', '1')",
        )
        .unwrap();
    drop(connection);
    let error = Store::open(Options::sqlite(dir.path())).await.err().unwrap();
    assert!(
        matches!(&error, Error::Unfit(text) if text.contains("4711") && text.contains("newer")),
        "{error}"
    );
}

#[tokio::test]
async fn a_full_disk_is_told_and_costs_nothing_that_was_acknowledged() {
    let bed = Bed::sqlite().await;
    let queue = bed.queue("q").await;
    let mut options = bed.options.clone();
    drop(bed.store);
    options.sqlite_max_pages = Some(200);
    let store = Store::open(options.clone()).await.unwrap();
    let big = |number: usize| slipway_store::items::NewItem {
        spec: format!(r#"{{"number":{number},"text":"{}"}}"#, "x".repeat(20_000)),
        ..new_item()
    };
    let mut acknowledged = Vec::new();
    let mut refusals = 0;
    // Several at once, so that a full disk meets a group of writes.
    for round in 0..20 {
        let pushes: Vec<_> = (0..4)
            .map(|place| {
                let (store, item) = (store.clone(), big(round * 4 + place));
                tokio::spawn(async move { store.push(queue, vec![item], T0).await })
            })
            .collect();
        for push in pushes {
            match push.await.unwrap() {
                Ok(pushed) => acknowledged.push(pushed[0].id),
                Err(Error::Unavailable(_)) => refusals += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(refusals > 0 && !acknowledged.is_empty(), "{refusals} refused");
    drop(store);
    options.sqlite_max_pages = None;
    let store = Store::open(options).await.unwrap();
    let mut stored: Vec<_> = store
        .waiting(queue, 0, 1000)
        .await
        .unwrap()
        .rows
        .iter()
        .map(|item| item.id)
        .collect();
    stored.sort_unstable();
    acknowledged.sort_unstable();
    assert_eq!(stored, acknowledged);
    store.push(queue, vec![new_item()], T0).await.unwrap();
}
