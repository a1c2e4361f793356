//! `--compat official`: a document that uses an addition is refused, as by a server that has none.
//!
//! What is an addition is said once, where it is declared: `visible = "additions"`. That attribute
//! alone only hides a field from introspection; this extension refuses it in documents too.

use std::convert::Infallible;
use std::sync::Arc;

use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextParseQuery};
use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, Field, OperationDefinition, OperationType, Selection, SelectionSet,
};
use async_graphql::registry::{MetaType, MetaTypeName, Registry};
use async_graphql::{Pos, Positioned, ServerError, ServerResult, Value, Variables};

/// The extension.
pub(super) struct OfficialOnly;

impl ExtensionFactory for OfficialOnly {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self)
    }
}

#[async_graphql::async_trait::async_trait]
impl Extension for OfficialOnly {
    async fn parse_query(
        &self,
        context: &ExtensionContext<'_>,
        query: &str,
        variables: &Variables,
        next: NextParseQuery<'_>,
    ) -> ServerResult<ExecutableDocument> {
        let document = next.run(context, query, variables).await?;
        let registry = &context.schema_env.registry;
        check(registry, &document, variables).map_err(|(message, position)| ServerError::new(message, position))?;
        Ok(document)
    }
}

/// What is wrong, and where. Values of variables have no place in the document.
type Wrong = (String, Option<Pos>);

/// Refuses the first addition that a document uses.
fn check(registry: &Registry, document: &ExecutableDocument, variables: &Variables) -> Result<(), Wrong> {
    let operations: Vec<&OperationDefinition> = match &document.operations {
        DocumentOperations::Single(operation) => vec![&operation.node],
        DocumentOperations::Multiple(operations) => operations.values().map(|operation| &operation.node).collect(),
    };
    for operation in operations {
        let root = match operation.ty {
            OperationType::Query => Some(registry.query_type.as_str()),
            OperationType::Mutation => registry.mutation_type.as_deref(),
            OperationType::Subscription => registry.subscription_type.as_deref(),
        };
        check_selections(registry, root, &operation.selection_set.node)?;
        for definition in &operation.variable_definitions {
            let definition = &definition.node;
            if let Some(value) = variables.get(&definition.name.node) {
                check_value(registry, &definition.var_type.node.to_string(), value).map_err(|text| (text, None))?;
            }
        }
    }
    for fragment in document.fragments.values() {
        let on = fragment.node.type_condition.node.on.node.as_str();
        check_selections(registry, Some(on), &fragment.node.selection_set.node)?;
    }
    Ok(())
}

/// Checks selections and all below them. Types and fields that do not exist are left to validation.
fn check_selections(registry: &Registry, on: Option<&str>, selections: &SelectionSet) -> Result<(), Wrong> {
    let mut waiting = vec![(on, selections)];
    while let Some((on, selections)) = waiting.pop() {
        let kind = on.and_then(|name| registry.concrete_type_by_name(name));
        for selection in &selections.items {
            match &selection.node {
                Selection::Field(field) => {
                    let below = match kind {
                        Some(kind) => check_field(registry, kind, field)?,
                        None => None,
                    };
                    waiting.push((below, &field.node.selection_set.node));
                }
                Selection::InlineFragment(fragment) => {
                    let condition = fragment.node.type_condition.as_ref();
                    let on = condition.map_or(on, |condition| Some(condition.node.on.node.as_str()));
                    waiting.push((on, &fragment.node.selection_set.node));
                }
                // Its definition is checked by itself.
                Selection::FragmentSpread(_) => {}
            }
        }
    }
    Ok(())
}

/// Checks a field and its arguments; the field's type.
fn check_field<'r>(
    registry: &'r Registry,
    kind: &'r MetaType,
    field: &Positioned<Field>,
) -> Result<Option<&'r str>, Wrong> {
    let name = field.node.name.node.as_str();
    let Some(declared) = kind.field_by_name(name) else {
        return Ok(None);
    };
    if declared.visible.is_some() {
        let text = format!("Cannot query field \"{name}\" on type \"{}\".", kind.name());
        return Err((text, Some(field.pos)));
    }
    for (argument, value) in &field.node.arguments {
        let Some(known) = declared.args.get(argument.node.as_str()) else {
            continue;
        };
        if known.visible.is_some() {
            let text = format!(
                "Unknown argument \"{}\" on field \"{}.{name}\".",
                argument.node,
                kind.name()
            );
            return Err((text, Some(argument.pos)));
        }
        // A variable is checked by its own type.
        let Ok(given) = value.node.clone().into_const_with(|_| Ok::<_, Infallible>(Value::Null));
        check_value(registry, &known.ty, &given).map_err(|text| (text, Some(value.pos)))?;
    }
    Ok(Some(&declared.ty))
}

/// Checks the fields of input objects in a value. Variables in it are checked where they are declared.
fn check_value(registry: &Registry, kind: &str, value: &Value) -> Result<(), String> {
    let kind = MetaTypeName::concrete_typename(kind);
    match value {
        Value::List(values) => values.iter().try_for_each(|value| check_value(registry, kind, value)),
        Value::Object(fields) => {
            let Some(MetaType::InputObject { input_fields, .. }) = registry.concrete_type_by_name(kind) else {
                return Ok(());
            };
            fields
                .iter()
                .try_for_each(|(name, value)| match input_fields.get(name.as_str()) {
                    Some(known) if known.visible.is_some() => {
                        Err(format!("Field \"{name}\" is not defined by type \"{kind}\"."))
                    }
                    Some(known) => check_value(registry, &known.ty, value),
                    None => Ok(()),
                })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::options::ServerOptions;
    use crate::testing::TestServer;

    async fn official_only() -> TestServer {
        TestServer::with(ServerOptions {
            compat_official: true,
            ..ServerOptions::default()
        })
        .await
    }

    #[tokio::test]
    async fn documents_with_additions_are_refused_as_by_a_server_that_has_none() {
        let server = official_only().await;
        let key = server.admin("ada").await;
        let push = "mutation M($input: PushToRunQueueByNameInput!) \
                    { pushToRunQueueByName(input: $input) { runQueueItemId } }";
        let pushed = |extra: (&str, serde_json::Value)| {
            let mut input = json!({"queueName": "q", "runSpec": "{}"});
            input[extra.0] = extra.1;
            json!({ "input": input })
        };
        let cases = [
            (
                "{ launchAgents(entityName: \"ada\") { id } }",
                json!({}),
                "Cannot query field \"launchAgents\" on type \"Query\".",
            ),
            (
                "mutation { createTeam(input: {name: \"t\"}) { entity { name } } }",
                json!({}),
                "Cannot query field \"createTeam\" on type \"Mutation\".",
            ),
            (
                "query Q { ...F } fragment F on Query { project(entityName: \"ada\", name: \"p\") \
                 { ... on Project { runQueues { position: paused } } } }",
                json!({}),
                "Cannot query field \"paused\" on type \"RunQueue\".",
            ),
            (
                push,
                pushed(("idempotencyKey", json!("k"))),
                "Field \"idempotencyKey\" is not defined by type \"PushToRunQueueByNameInput\".",
            ),
            (
                "mutation { pushToRunQueueByName(input: {queueName: \"q\", runSpec: \"{}\", dryRun: true}) \
                 { runQueueItemId } }",
                json!({}),
                "Field \"dryRun\" is not defined by type \"PushToRunQueueByNameInput\".",
            ),
        ];
        for (document, variables, expected) in cases {
            let refused = server.graphql(&key, document, variables.clone()).await.error();
            assert_eq!(
                refused,
                (400, "BAD_USER_INPUT".to_owned(), expected.to_owned()),
                "{document}"
            );
        }
        // Without the addition the same mutation gets as far as looking for the queue.
        let answer = server.graphql(&key, push, pushed(("priority", json!(2)))).await.error();
        assert_eq!(answer.1, "NOT_FOUND", "{}", answer.2);
    }

    #[tokio::test]
    async fn introspection_shows_no_addition() {
        let server = official_only().await;
        let key = server.admin("ada").await;
        let document = "{ __schema { types { name fields { name } inputFields { name } } } }";
        let shown = server.graphql(&key, document, json!({})).await.data().to_string();
        for official in ["pushToRunQueueByName", "CreateLaunchAgentInput", "runQueueItems"] {
            assert!(shown.contains(&format!("\"{official}\"")), "{official}");
        }
        for addition in [
            "createTeam",
            "CreateTeamInput",
            "LeasedItem",
            "idempotencyKey",
            "launchAgents",
        ] {
            assert!(!shown.contains(&format!("\"{addition}\"")), "{addition}");
        }
    }
}
