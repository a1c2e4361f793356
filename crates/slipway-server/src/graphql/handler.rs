//! `POST /graphql`: from bytes to a document and back, with the official API's status codes.

use std::sync::Arc;

use async_graphql::parser::types::{DocumentOperations, ExecutableDocument};
use async_graphql::{Request, Response as Answer, ServerError, Variables};
use axum::body::{Body, Bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::context::Caller;
use super::direct::Direct;
use super::{size, wording};
use crate::app::App;
use crate::deliveries::Claims;
use crate::error::{ApiError, Code};
use crate::http::{peer, read_body, too_slow};

/// The longest document, in bytes.
const MAX_DOCUMENT: usize = 256 << 10;

/// What a client posts.
#[derive(Deserialize)]
pub(super) struct Posted<'a> {
    /// The document.
    pub(super) query: Option<String>,
    /// Its variables, not read yet.
    #[serde(borrow)]
    pub(super) variables: Option<&'a RawValue>,
    /// Which of several operations is meant.
    #[serde(rename = "operationName")]
    pub(super) operation_name: Option<String>,
}

/// Answers a GraphQL request.
pub(crate) async fn post_graphql(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let claims = Claims::default();
    let limit = app.options.request_timeout;
    let answered = tokio::time::timeout(limit, answer(&app, request, &claims)).await;
    let mut response = match answered.unwrap_or_else(|_| Err(too_slow(limit))) {
        Ok(response) => response,
        Err(error) => respond(Answer::from_errors(vec![
            async_graphql::Error::from(error).into_server_error(async_graphql::Pos::default()),
        ])),
    };
    if !claims.is_empty() {
        response.extensions_mut().insert(claims);
    }
    response
}

async fn answer(app: &Arc<App>, request: HttpRequest, claims: &Claims) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let now = app.now();
    let principal = app.authenticate(&parts.headers).await?;
    let bytes = read_body(body, app.options.max_body).await?;
    let posted = parse_body(&bytes)?;
    let query = posted
        .query
        .ok_or_else(|| ApiError::bad("the request body has no `query`"))?;
    if query.len() > MAX_DOCUMENT {
        return Err(ApiError::new(
            Code::TooLarge,
            format!(
                "the document has {} bytes; at most {MAX_DOCUMENT} are accepted",
                query.len()
            ),
        ));
    }
    let caller = Caller {
        app: Arc::clone(app),
        base_url: app.base_url(&parts.headers, peer(&parts.extensions)),
        principal,
        now,
        claims: claims.clone(),
    };
    let operation_name = posted.operation_name.filter(|name| !name.is_empty());
    let additions = !app.options.compat_official;
    match Direct::read(&query, operation_name.as_deref(), posted.variables, additions) {
        Some(direct) => Ok(match direct.run(&caller).await {
            Ok(answer) => respond_with(serde_json::to_vec(&answer), None),
            Err(error) => respond(Answer::from_errors(vec![error])),
        }),
        None => execute(query, operation_name, posted.variables, caller).await,
    }
}

/// Parses, validates and runs a document.
async fn execute(
    query: String,
    operation_name: Option<String>,
    variables: Option<&RawValue>,
    caller: Caller,
) -> Result<Response, ApiError> {
    let variables = match variables.map_or(Ok(Value::Null), |text| serde_json::from_str(text.get())) {
        Ok(Value::Null) => serde_json::Map::new(),
        Ok(Value::Object(map)) => map,
        Ok(_) => return Err(ApiError::bad("`variables` must be a JSON object")),
        Err(error) => return Err(not_json(&error)),
    };
    size::check_text(&query)?;
    let document = match async_graphql::parser::parse_query(&query) {
        Ok(document) => document,
        Err(error) => return Ok(respond(Answer::from_errors(vec![error.into()]))),
    };
    size::check_document(&document)?;
    if let Some(message) = wording::check_variables(&document, operation_name.as_deref(), &variables) {
        return Err(ApiError::bad(message));
    }
    let app = Arc::clone(&caller.app);
    let mut request = Request::new(query)
        .variables(Variables::from_json(Value::Object(variables)))
        .data(caller);
    request.operation_name = operation_name.filter(|_| has_named_operation(&document));
    request.set_parsed_query(document);
    Ok(respond(app.schema.execute(request).await))
}

/// An anonymous operation runs whatever name the request gives.
fn has_named_operation(document: &ExecutableDocument) -> bool {
    matches!(document.operations, DocumentOperations::Multiple(_))
}

/// Reads the body of a request.
///
/// # Errors
/// If it is not one JSON object of this shape.
pub(super) fn parse_body(bytes: &Bytes) -> Result<Posted<'_>, ApiError> {
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Err(ApiError::bad(
            "batches of GraphQL requests are not accepted; send one object",
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| not_json(&error))
}

fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::bad(format!("the request body is not GraphQL JSON: {error}"))
}

fn respond(mut answer: Answer) -> Response {
    for error in &mut answer.errors {
        wording::reword(error);
    }
    respond_with(serde_json::to_vec(&answer), worst(&answer.errors))
}

fn respond_with(body: serde_json::Result<Vec<u8>>, code: Option<Code>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(error) => return ApiError::internal(error).into_response(),
    };
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(code) = code {
        *response.status_mut() = code.status();
        if let Some(seconds) = code.retry_after() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    } else {
        *response.status_mut() = StatusCode::OK;
    }
    response
}

/// The code that decides the status: trouble of ours first, else that of the first error.
fn worst(errors: &[ServerError]) -> Option<Code> {
    let codes: Vec<Code> = errors.iter().map(wording::code_of).collect();
    [Code::Internal, Code::Unavailable]
        .into_iter()
        .find(|code| codes.contains(code))
        .or_else(|| codes.first().copied())
}
