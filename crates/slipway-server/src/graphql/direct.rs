//! A short way for the documents that make up a queue's traffic.
//!
//! Parsing, validating and executing a document costs several times what the operation itself does.
//! Our client sends a fixed text for each operation, so a text that is known needs none of that: its
//! variables are read straight into the input of the function that the resolver calls, and the
//! answer is written with the fields that the text selects. Only the way is short; the operation,
//! its checks and its errors are the same.
//!
//! Whatever is unusual takes the long way: another text, variables of another shape, an operation
//! name that the document does not have. Refused input is therefore worded in one place only.

use async_graphql::{PathSegment, Pos, ServerError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use slipway_wire::Document;
use slipway_wire::document::{additions, official};

use super::Result;
use super::context::Caller;
use super::items::hold::{self, ItemResults, PopRunQueueItemsPayload};
use super::items::push::{self, OfficialPush, PushRunQueueItemsPayload, PushToRunQueueByNameInput};
use super::items::push::{PushRunQueueItemsInput, PushToRunQueueByNamePayload};
use super::strict::Object;

/// A known document with its variables, read.
pub(super) enum Direct {
    /// The official client's push, in each of its four texts.
    Push(Box<PushToRunQueueByNameInput>),
    /// A push that also asks for the origins of values.
    PushWithOrigins(Box<PushToRunQueueByNameInput>),
    /// A bulk push.
    PushMany(PushRunQueueItemsInput),
    /// A pop.
    Pop(hold::PopRunQueueItemsInput),
    /// Acknowledgements.
    Ack(hold::AckRunQueueItemsInput),
    /// Starts.
    Start(hold::StartRunQueueItemsInput),
    /// Renewals.
    Renew(hold::RenewRunQueueItemsInput),
    /// Outcomes.
    Finish(hold::FinishRunQueueItemsInput),
}

/// The variables of a document that takes its input as a whole.
#[derive(Deserialize)]
struct Whole<T> {
    input: Object<T>,
}

/// Where the one field of each document stands.
const POSITION: Pos = Pos { line: 2, column: 3 };

impl Direct {
    /// Recognises a request; `None` sends it the long way. `additions`: whether this server has them.
    pub(super) fn read(
        query: &str,
        operation_name: Option<&str>,
        variables: Option<&RawValue>,
        additions: bool,
    ) -> Option<Self> {
        let is = |document: Document| {
            query == document.text && operation_name.is_none_or(|name| name.is_empty() || name == document.name)
        };
        let variables = variables?.get();
        if [
            official::PUSH,
            official::PUSH_WITH_VALUES,
            official::PUSH_WITH_PRIORITY,
            official::PUSH_WITH_PRIORITY_AND_VALUES,
        ]
        .into_iter()
        .any(is)
        {
            return declared(query, variables).map(Self::Push);
        }
        if !additions {
            return None;
        }
        if is(additions::PUSH) {
            whole(variables).map(Self::PushWithOrigins)
        } else if is(additions::PUSH_MANY) {
            whole(variables).map(Self::PushMany)
        } else if is(additions::POP) {
            whole(variables).map(Self::Pop)
        } else if is(additions::ACK) {
            whole(variables).map(Self::Ack)
        } else if is(additions::START) {
            whole(variables).map(Self::Start)
        } else if is(additions::RENEW) {
            whole(variables).map(Self::Renew)
        } else if is(additions::FINISH) {
            whole(variables).map(Self::Finish)
        } else {
            None
        }
    }

    /// Whether the resolver of the document would take the variables too.
    ///
    /// # Errors
    /// What it would say.
    #[cfg(feature = "fuzzing")]
    pub(super) fn takes_the_long_way(&self, variables: &serde_json::Value) -> std::result::Result<(), String> {
        use async_graphql::{InputType, Value};
        fn taken<T: InputType>(input: &serde_json::Value) -> std::result::Result<(), String> {
            let input = Value::from_json(input.clone()).map_err(|error| error.to_string())?;
            T::parse(Some(input))
                .map(drop)
                .map_err(|error| error.into_server_error(POSITION).message)
        }
        let variables = variables.as_object().ok_or("`variables` must be a JSON object")?;
        let input = variables.get("input").unwrap_or(&serde_json::Value::Null);
        match self {
            Self::Push(_) => taken::<PushToRunQueueByNameInput>(&variables.clone().into()),
            Self::PushWithOrigins(_) => taken::<PushToRunQueueByNameInput>(input),
            Self::PushMany(_) => taken::<PushRunQueueItemsInput>(input),
            Self::Pop(_) => taken::<hold::PopRunQueueItemsInput>(input),
            Self::Ack(_) => taken::<hold::AckRunQueueItemsInput>(input),
            Self::Start(_) => taken::<hold::StartRunQueueItemsInput>(input),
            Self::Renew(_) => taken::<hold::RenewRunQueueItemsInput>(input),
            Self::Finish(_) => taken::<hold::FinishRunQueueItemsInput>(input),
        }
    }

    /// The field that the document selects.
    const fn field(&self) -> &'static str {
        match self {
            Self::Push(_) | Self::PushWithOrigins(_) => "pushToRunQueueByName",
            Self::PushMany(_) => "pushRunQueueItems",
            Self::Pop(_) => "popRunQueueItems",
            Self::Ack(_) => "ackRunQueueItems",
            Self::Start(_) => "startRunQueueItems",
            Self::Renew(_) => "renewRunQueueItems",
            Self::Finish(_) => "finishRunQueueItems",
        }
    }

    /// Runs the operation.
    ///
    /// # Errors
    /// The operation's error, placed in the document.
    pub(super) async fn run(self, caller: &Caller) -> std::result::Result<DirectAnswer, ServerError> {
        let field = self.field();
        let payload = self.payload(caller).await;
        payload.map(|payload| DirectAnswer { field, payload }).map_err(|error| {
            let mut error = async_graphql::Error::from(error).into_server_error(POSITION);
            error.path = vec![PathSegment::Field(field.to_owned())];
            error
        })
    }

    async fn payload(self, caller: &Caller) -> Result<Payload> {
        let field = self.field();
        Ok(match self {
            Self::Push(input) => {
                let pushed = push::push_by_name(caller, *input, field).await?;
                Payload::Push(pushed.into())
            }
            Self::PushWithOrigins(input) => Payload::PushWithOrigins(push::push_by_name(caller, *input, field).await?),
            Self::PushMany(input) => Payload::PushMany(push::push_many(caller, input).await?),
            Self::Pop(input) => Payload::Pop(hold::pop_items(caller, input).await?),
            Self::Ack(input) => Payload::Results(hold::ack_items(caller, input).await?),
            Self::Start(input) => Payload::Results(hold::start_items(caller, input).await?),
            Self::Renew(input) => Payload::Results(hold::renew_items(caller, input).await?),
            Self::Finish(input) => Payload::Results(hold::finish_items(caller, input).await?),
        })
    }
}

fn whole<T: for<'de> Deserialize<'de>>(variables: &str) -> Option<T> {
    let Object(whole) = serde_json::from_str::<Object<Whole<T>>>(variables).ok()?;
    Some(whole.input.0)
}

/// Reads variables that are themselves the fields of the input. A variable that the text does not
/// declare would mean nothing, so it may not be read as a field either.
fn declared(query: &str, variables: &str) -> Option<Box<PushToRunQueueByNameInput>> {
    let head = query.split_once('{').map_or(query, |(head, _)| head);
    let Object(input) = serde_json::from_str::<Object<PushToRunQueueByNameInput>>(variables).ok()?;
    input
        .given()
        .into_iter()
        .all(|name| head.contains(&format!("${name}:")))
        .then(|| Box::new(input))
}

/// The data of an answer: one field.
pub(super) struct DirectAnswer {
    field: &'static str,
    payload: Payload,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload {
    Push(OfficialPush),
    PushWithOrigins(PushToRunQueueByNamePayload),
    PushMany(PushRunQueueItemsPayload),
    Pop(PopRunQueueItemsPayload),
    Results(ItemResults),
}

impl Serialize for DirectAnswer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map([("data", std::collections::HashMap::from([(self.field, &self.payload)]))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestServer;
    use serde_json::{Value, json};

    fn recognises(document: Document, variables: &Value, additions: bool) -> bool {
        let variables = serde_json::value::to_raw_value(variables).expect("JSON");
        Direct::read(document.text, Some(document.name), Some(&variables), additions).is_some()
    }

    #[test]
    fn only_the_usual_takes_the_short_way() {
        let push = json!({"entityName": "a", "projectName": "p", "queueName": "q", "runSpec": "{}"});
        let mut with_priority = push.clone();
        with_priority["priority"] = json!(1);
        let mut in_place = push.clone();
        in_place["runSpec"] = json!({});
        let start = json!({"input": {"launchAgentId": "a", "runQueueItemIds": ["x"]}});
        for (what, document, variables, additions, expected) in [
            ("a push", official::PUSH, &push, false, true),
            ("an undeclared variable", official::PUSH, &with_priority, true, false),
            (
                "a declared one",
                official::PUSH_WITH_PRIORITY,
                &with_priority,
                true,
                true,
            ),
            ("a spec in place", official::PUSH, &in_place, true, false),
            ("an addition", additions::START, &start, true, true),
            ("an addition that is hidden", additions::START, &start, false, false),
            (
                "an unknown field",
                additions::START,
                &json!({"input": {"x": 1}}),
                true,
                false,
            ),
            ("nothing", additions::START, &Value::Null, true, false),
            (
                "a list in place of the variables",
                additions::START,
                &json!([start["input"]]),
                true,
                false,
            ),
            (
                "a list in place of the input",
                additions::START,
                &json!({"input": ["a", ["x"], null]}),
                true,
                false,
            ),
            (
                "a list in place of an item",
                additions::ACK,
                &json!({"input": {"launchAgentId": "a", "items": [["x", null, null, "r"]]}}),
                true,
                false,
            ),
            (
                "an object in place of a word",
                additions::FINISH,
                &json!({"input": {"launchAgentId": "a",
                    "reports": [{"runQueueItemId": "x", "outcome": {"KILLED": null}}]}}),
                true,
                false,
            ),
        ] {
            assert_eq!(recognises(document, variables, additions), expected, "{what}");
        }
        let variables = serde_json::value::to_raw_value(&start).expect("JSON");
        assert!(Direct::read(additions::START.text, Some("Other"), Some(&variables), true).is_none());
        assert!(Direct::read("{ viewer { id } }", None, Some(&variables), true).is_none());
    }

    /// Sends a document both ways, each time in a world of its own, and expects the same answers.
    #[tokio::test]
    async fn both_ways_answer_the_same() {
        let short = play("").await;
        let long = play(" # the long way").await;
        assert_eq!(short.len(), long.len());
        for (short, long) in short.iter().zip(&long) {
            assert_eq!(short, long);
        }
    }

    async fn play(suffix: &str) -> Vec<(u16, Value)> {
        let server = TestServer::new().await;
        let key = server.user("alice").await;
        let queue = server.queue(&key, "alice", "q").await;
        let mut answers = Vec::new();
        let agent = server
            .graphql(
                &key,
                additions::CREATE_LAUNCH_AGENT.text,
                json!({"input": {"entityName": "alice", "projectName": "model-registry", "runQueues": [queue],
                    "hostname": "h", "agentConfig": "{\"max_jobs\":-1}", "name": "n", "instance": "i",
                    "takeOver": false, "managed": true}}),
            )
            .await
            .data()["createLaunchAgent"]["launchAgentId"]
            .clone();
        let spec =
            json!({"docker": {"docker_image": "i"}, "entity": "alice", "project": "p", "overrides": {}}).to_string();
        let push = json!({"entityName": "alice", "projectName": "model-registry", "queueName": "q", "runSpec": spec});
        let mut unknown = push.clone();
        unknown["queueName"] = json!("other");
        let many = json!({"input": {"entityName": "alice", "projectName": "model-registry", "queueName": "q",
            "items": [{"runSpec": spec}, {"runSpec": spec, "priority": 1, "idempotencyKey": "k"}]}});
        let pop = json!({"input": {"launchAgentId": agent, "limit": 10}});
        for (document, variables) in [
            (official::PUSH, push.clone()),
            (official::PUSH, unknown),
            (additions::PUSH, json!({"input": push})),
            (additions::PUSH_MANY, many),
            (additions::POP, json!({"input": {"launchAgentId": agent, "limit": -1}})),
            (additions::POP, pop),
        ] {
            let text = format!("{}{suffix}", document.text);
            let answer = server.graphql(&key, &text, variables).await;
            answers.push((answer.status.as_u16(), answer.json()));
            answer.delivered();
        }
        let leased = answers.last().expect("a pop").1["data"]["popRunQueueItems"]["items"].clone();
        let mut handles: Vec<Value> = leased
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["runQueueItemId"].clone())
            .collect();
        assert_eq!(handles.len(), 4);
        handles.push(json!("no handle"));
        let input = |extra: &str, values: Vec<Value>| json!({"input": {"launchAgentId": agent, extra: values}});
        let acks = handles
            .iter()
            .enumerate()
            .map(|(number, handle)| json!({"runQueueItemId": handle, "runName": format!("run{number}")}))
            .collect();
        let ended = |handle: &Value| json!({"runQueueItemId": handle, "outcome": "FINISHED", "exitCode": 0});
        let reports: Vec<Value> = handles.iter().map(ended).collect();
        for (document, variables) in [
            (additions::ACK, input("items", acks)),
            (additions::START, input("runQueueItemIds", handles.clone())),
            (additions::RENEW, input("runQueueItemIds", handles.clone())),
            (additions::FINISH, input("reports", reports.clone())),
            (additions::FINISH, input("reports", reports)),
        ] {
            let text = format!("{}{suffix}", document.text);
            let answer = server.graphql(&key, &text, variables).await;
            answers.push((answer.status.as_u16(), answer.json()));
        }
        answers
    }
}
