//! What a server does without being asked: passing the record on to connected clients, ending
//! leases, noting deliveries, forgetting old events.

use std::sync::Arc;
use std::time::Duration;

use slipway_model::Millis;
use slipway_model::id::{ItemId, LeaseHandle};
use slipway_model::item::ItemState;
use slipway_store::events::Event;
use slipway_store::{Error, Result, garbage};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::app::App;
use crate::metrics;

/// How often leases and heartbeats are looked at.
const TICK: Duration = Duration::from_secs(1);

/// How often old events are deleted, and how many at a time.
const PRUNE: Duration = Duration::from_secs(60);
const PRUNE_SLICE: usize = 5_000;

/// How many deleted runs are cleaned up at a time.
const COLLECT_SLICE: usize = 100;

/// How long the events of ended items are kept.
const KEEP_EVENTS: Millis = 30 * 24 * 3_600_000;

/// How long to wait when the store is away.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Runs everything until the future is dropped.
pub(crate) async fn run(app: Arc<App>) {
    tokio::join!(
        dispatch(&app),
        tick(&app),
        prune(&app),
        app.deliveries.run(app.store.clone())
    );
}

/// Follows the record and passes it on.
async fn dispatch(app: &App) {
    let mut tail = loop {
        match app.store.tail().await {
            Ok(tail) => break tail,
            Err(error) => back_off(&error).await,
        }
    };
    loop {
        let events = match tail.next().await {
            Ok(events) => events,
            Err(error) => {
                back_off(&error).await;
                continue;
            }
        };
        for event in events.iter() {
            metrics::item_event(&event.kind);
            metrics::event_lag(app.now() - event.at);
            while let Err(error) = tell_holder(app, event).await {
                back_off(&error).await;
                if !matches!(error, Error::Unavailable(_)) {
                    // It would be so for ever, and everybody else waits behind it.
                    break;
                }
            }
        }
        app.hub.publish(&events);
    }
}

async fn back_off(error: &Error) {
    tracing::warn!(%error, "the record cannot be read");
    sleep(BACK_OFF).await;
}

/// Words for one agent that take a look into the store.
async fn tell_holder(app: &App, event: &Event) -> Result<()> {
    match (&*event.kind, event.item, event.agent) {
        ("stop-requested", Some(item), _) => stop(app, item, ItemState::is_held).await?,
        // By somebody other than its agent, which may be preparing it.
        ("killed", Some(item), Some(_)) if !event.actor.is_empty() => {
            stop(app, item, |state| state == ItemState::Killed).await?;
        }
        ("agent-status", _, Some(agent)) => {
            let detail: serde_json::Value = serde_json::from_str(&event.detail).unwrap_or_default();
            if let Some(drain) = detail.get("drain").and_then(serde_json::Value::as_bool) {
                app.hub.drain(agent, drain);
            }
        }
        _ => {}
    }
    Ok(())
}

/// Tells the agent of an item to stop it, if it is in the state for that.
async fn stop(app: &App, item: ItemId, applies: impl Fn(ItemState) -> bool) -> Result<()> {
    if let Some(item) = app.store.item(item).await?
        && applies(item.state)
        && let Some(agent) = item.agent
    {
        let handle = LeaseHandle {
            item: item.id,
            epoch: item.epoch,
        };
        app.hub.stop(agent, handle);
    }
    Ok(())
}

/// Ends leases whose term is over, notes lost agents and crashed runs. The store writes all of it
/// to the record, from where it is passed on.
async fn tick(app: &App) {
    let mut turns = interval(TICK);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        app.contacts.write_down(&app.store, app.now()).await;
        match app.store.tick(app.now()).await {
            Ok(ticked) => {
                if ticked.deaf_for > 0 {
                    tracing::info!(
                        milliseconds = ticked.deaf_for,
                        "no server could be heard for a while: every lease and heartbeat got a full term"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "leases and heartbeats could not be looked at"),
        }
        app.hub.items.sweep();
        metrics::fold();
    }
}

/// Deletes old events, and what deleted runs left behind, in slices.
async fn prune(app: &App) {
    let mut turns = interval(PRUNE);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        if let Err(error) = app.store.prune_events(app.now() - KEEP_EVENTS, PRUNE_SLICE).await {
            tracing::warn!(%error, "old events could not be deleted");
        }
        if let Err(error) = garbage::collect(&app.store, &app.blobs, COLLECT_SLICE).await {
            tracing::warn!(%error, "lines and files of deleted runs could not be removed yet");
        }
    }
}
