//! The fuzz targets, as functions of bytes. Each panics if its parser breaks or makes of its input what
//! it must not.
//!
//! A target is one function, named in [`TARGETS`] and again as a binary of `fuzz_targets/`, which gives
//! it what libFuzzer makes up. The same function meets its seeds in `tests/seeds.rs`, without libFuzzer.

mod agent;
mod client;
mod model;
mod runner;
mod server;
mod store;

pub use agent::*;
pub use client::*;
pub use model::*;
pub use runner::*;
pub use server::*;
pub use store::*;

/// A target: takes whatever bytes, and panics for a defect.
pub type Target = fn(&[u8]);

macro_rules! targets {
    ($($name:ident)*) => {
        /// Every target, by name.
        pub const TARGETS: &[(&str, Target)] = &[$((stringify!($name), $name)),*];
    };
}

targets! {
    artifact_manifest artifact_name artifact_path blob_path config console credentials docker_options
    file_stream filter git_source graphql graphql_body ids image_reference job_file listing macros relay
    run_spec sign_in storage_address storage_request template_variables
}

/// The texts of an input, between lines that are `%%`; the last ones are empty if the input has fewer.
/// None if it is no text, or has more.
fn texts<const N: usize>(input: &[u8]) -> Option<[&str; N]> {
    let text = std::str::from_utf8(input).ok()?;
    let mut texts = [""; N];
    let mut places = texts.iter_mut();
    let text = text.strip_suffix('\n').unwrap_or(text);
    for part in text.split("\n%%\n") {
        *places.next()? = part;
    }
    Some(texts)
}

/// A text as JSON, or null.
fn json(text: &str) -> serde_json::Value {
    slipway_model::json::parse(text).unwrap_or(serde_json::Value::Null)
}

/// What no job may come to see.
const SECRET: &str = "\u{1}credential\u{1}";

/// What an agent's environment holds: one name that a job may see and one that it may not.
fn environment(name: &str) -> Option<String> {
    match name {
        "HOME" => Some("/home/agent".to_owned()),
        "AGENT_TOKEN" => Some(SECRET.to_owned()),
        _ => None,
    }
}

/// Nothing that is made of `given` shows what only the agent's environment holds. An input may hold the
/// very words of the secret: then it knew them.
fn assert_no_secret(given: &serde_json::Value, shown: &serde_json::Value) {
    let secret = serde_json::Value::from(SECRET).to_string();
    let holds = |value: &serde_json::Value| value.to_string().contains(secret.trim_matches('"'));
    assert!(holds(given) || !holds(shown), "a credential gets out");
}
