//! One suite for both engines: every case runs on SQLite and on PostgreSQL.
//!
//! PostgreSQL is the server at `SLIPWAY_TEST_POSTGRES_URL`; each case gets a schema of its own
//! there. `make test` sets the variable; `scripts/postgres.sh start` prints a value for it.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, in its helpers too")]

mod bed;

mod agents;
mod artifacts;
mod engine;
mod events;
mod identity;
mod leases;
mod listings;
mod people;
mod pushes;
mod queues;
mod run_data;
mod runs;
mod time;
mod transitions;

/// Makes two tests of each function `async fn case(bed: &Bed)`: one per engine.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(&crate::bed::Bed::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(&crate::bed::Bed::postgres().await).await;
            })*
        }
    };
}
pub(crate) use cases;
