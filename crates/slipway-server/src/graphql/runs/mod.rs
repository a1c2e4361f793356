//! Runs: what a client makes, reports and reads back.

mod listing;
mod mutation;
mod run;

pub(crate) use mutation::RunMutation;
pub(crate) use run::Run;

use std::sync::Arc;

use async_graphql::{Context, Object, SimpleObject};
use slipway_model::id::RunName;
use slipway_store::projects::Project;

use super::Result;
use super::context::RequestContext as _;
use super::page::PageInfo;
use super::scalars::JsonString;
use crate::ApiError;

/// The runs of a project.
pub(crate) struct ProjectRuns(pub(crate) Arc<Project>);

impl ProjectRuns {
    async fn find(&self, ctx: &Context<'_>, run: String) -> Result<Option<Run>> {
        let name = RunName {
            entity: self.0.entity.clone(),
            project: self.0.name.clone(),
            run,
        };
        let found = ctx.store().run(&name).await?;
        Ok(found.map(|row| Run(Arc::new(row))))
    }
}

#[Object]
impl ProjectRuns {
    /// A run by its id; null if there is none.
    ///
    /// `desc` is taken and not looked at: `wandb verify` sends ten megabytes in it to see that they arrive.
    async fn run(
        &self,
        ctx: &Context<'_>,
        name: String,
        #[graphql(name = "desc")] _desc: Option<String>,
    ) -> Result<Option<Run>> {
        self.find(ctx, name).await
    }

    /// The official API's older name of `run`. An error if there is none, unless `missingOk`.
    async fn bucket(&self, ctx: &Context<'_>, name: String, missing_ok: Option<bool>) -> Result<Option<Run>> {
        let found = self.find(ctx, name.clone()).await?;
        if found.is_none() && missing_ok != Some(true) {
            let full = format!("{}/{}/{name}", self.0.entity, self.0.name);
            return Err(ApiError::not_found("run", &full));
        }
        Ok(found)
    }

    /// The runs that a filter selects, in an order such as `+created_at` or `-summary_metrics.loss`.
    async fn runs(
        &self,
        ctx: &Context<'_>,
        filters: Option<JsonString>,
        after: Option<String>,
        first: Option<i32>,
        order: Option<String>,
    ) -> Result<RunConnection> {
        let query = listing::Query::read(filters.as_ref(), order.as_deref())?;
        listing::page(ctx.store(), &self.0, &query, after.as_deref(), first).await
    }

    /// How many runs a filter selects.
    async fn run_count(&self, ctx: &Context<'_>, filters: Option<JsonString>) -> Result<i32> {
        let query = listing::Query::read(filters.as_ref(), None)?;
        listing::count(ctx.store(), &self.0, &query).await
    }
}

/// Runs of a listing.
#[derive(SimpleObject)]
pub(crate) struct RunConnection {
    edges: Vec<RunEdge>,
    page_info: PageInfo,
}

/// A run in a listing.
#[derive(SimpleObject)]
pub(crate) struct RunEdge {
    node: Run,
    cursor: String,
}

#[cfg(test)]
mod tests;
