//! What a request to the server brings.

use serde_json::json;
use slipway_model::id::RunName;
use slipway_server::fuzzing;
use slipway_wire::document::{additions, official};

use crate::texts;

/// Bodies of file_stream requests: what a job reports of its run.
pub fn file_stream(input: &[u8]) {
    fuzzing::file_stream(input);
}

/// Manifests of artifacts, as a client uploads them.
pub fn artifact_manifest(input: &[u8]) {
    fuzzing::artifact_manifest(input);
}

/// GraphQL documents, up to where they would run: the bounds on size, the parser, validation.
pub fn graphql(input: &[u8]) {
    if let Ok(document) = std::str::from_utf8(input) {
        fuzzing::graphql(document);
    }
}

/// Bodies of requests to `/graphql`: as they come, or the name of a document that the server knows by
/// its text and, on the lines after it, its variables.
pub fn graphql_body(input: &[u8]) {
    fuzzing::graphql_body(input);
    let Some((name, variables)) = std::str::from_utf8(input).ok().and_then(|text| text.split_once('\n')) else {
        return;
    };
    let known = official::ALL.iter().chain(additions::ALL);
    for document in known.filter(|document| document.name == name) {
        let query = json!(document.text);
        let body = format!("{{\"query\": {query}, \"operationName\": \"{name}\", \"variables\": {variables}}}");
        fuzzing::graphql_body(body.as_bytes());
    }
}

/// What a job prints, as a console line and as captured bytes.
pub fn console(input: &[u8]) {
    for line in String::from_utf8_lossy(input).lines() {
        fuzzing::console(line, line.as_bytes());
    }
    fuzzing::console("", input);
}

/// Addresses of files. Texts: a run as `entity/project/id`, the name of a file.
pub fn storage_address(input: &[u8]) {
    let Some([run, name]) = texts(input) else { return };
    let parts: Vec<&str> = run.split('/').collect();
    if let [entity, project, run] = parts[..] {
        let run = RunName {
            entity: entity.to_owned(),
            project: project.to_owned(),
            run: run.to_owned(),
        };
        fuzzing::storage_address(&run, name);
    }
}

/// Requests for files. Texts: the query, the path by digest, the `Range` header.
pub fn storage_request(input: &[u8]) {
    if let Some([query, path, range]) = texts(input) {
        fuzzing::storage_request(query, path, range);
    }
}

/// Credentials. Texts: the `Authorization` header, the `Cookie` header, the numbers of a lease.
pub fn credentials(input: &[u8]) {
    if let Some([authorization, cookie, lease]) = texts(input) {
        fuzzing::credentials(authorization.as_bytes(), cookie.as_bytes(), lease);
    }
}

/// Listings. Texts: `first` and `after`, the name of a file, a pattern.
pub fn listing(input: &[u8]) {
    let Some([page, name, pattern]) = texts(input) else {
        return;
    };
    let (first, after) = page.split_once(' ').unwrap_or((page, ""));
    fuzzing::listing(after, first.parse().unwrap_or(i32::MAX), name, pattern);
}

/// The sign-in form, as a browser posts it.
pub fn sign_in(input: &[u8]) {
    fuzzing::sign_in(input);
}
