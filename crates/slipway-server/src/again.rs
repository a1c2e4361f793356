//! Items that are submitted anew without a new spec: retried, or moved to another queue.
//!
//! The rules of a queue hold for whatever comes into it. An item was held against those of its own
//! queue at the time; where it now meets others, it is held against them as a push of whoever sends
//! it there.

use serde_json::Value;
use slipway_model::id::RunName;
use slipway_model::push::{Push, check_push};
use slipway_model::queue::Prioritization;
use slipway_model::spec::LaunchSpec;
use slipway_store::items::Item;
use slipway_store::queues::Queue;

use crate::app::App;
use crate::auth::Principal;
use crate::error::{ApiError, Code};
use crate::{access, lookup::QueueConfig};

/// Whether the principal may move a waiting item to this queue.
///
/// # Errors
/// Says which rule of the queue the item's spec breaks.
pub(crate) async fn may_move(app: &App, principal: &Principal, item: &Item, target: &Queue) -> Result<(), ApiError> {
    if target.id == item.queue {
        return Ok(());
    }
    check_rules(app, principal, item, target).await
}

/// Whether the principal may submit an ended item to its queue again. The run becomes the
/// principal's own.
///
/// # Errors
/// If its run goes where the principal may not launch, or says which rule of the queue, as it is
/// now, the item's spec breaks.
pub(crate) async fn may_retry(app: &App, principal: &Principal, item: &Item) -> Result<(), ApiError> {
    let queue = app.store.queue_by_id(item.queue).await?.ok_or_else(|| {
        ApiError::new(Code::NotFound, "the item's queue was deleted").with_hint("submit the job to another queue")
    })?;
    let spec = LaunchSpec::parse(&item.spec).map_err(ApiError::internal)?;
    let destination = RunName {
        entity: spec.entity().unwrap_or(&queue.entity).to_owned(),
        project: spec.run_project().unwrap_or_default(),
        run: String::new(),
    };
    access::launch_run(principal, &destination)?;
    if queue.revision.as_ref().map(|revision| revision.id) == item.revision {
        return Ok(());
    }
    check_rules(app, principal, item, &queue).await
}

async fn check_rules(app: &App, principal: &Principal, item: &Item, queue: &Queue) -> Result<(), ApiError> {
    let revision = queue.revision.as_ref().map(|revision| revision.id);
    let config = app.lookup.config(&app.store, revision).await?;
    let is_owner = access::owns_queues(principal, &queue.entity);
    check(&config, item, is_owner)
}

fn check(config: &QueueConfig, item: &Item, is_owner: bool) -> Result<(), ApiError> {
    let template_values: Value = serde_json::from_str(&item.template_values).map_err(ApiError::internal)?;
    let push = Push {
        pusher: &item.author,
        is_owner,
        may_attribute_to: &[],
        spec: LaunchSpec::parse(&item.spec).map_err(ApiError::internal)?,
        template_values,
        // The item has one already.
        priority: None,
    };
    match check_push(config.rules(Prioritization::default()), push) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(ApiError::bad(error.to_string()).with_hint("the item keeps its spec: submit the job anew instead"))
        }
    }
}
