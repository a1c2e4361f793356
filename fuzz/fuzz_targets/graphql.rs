//! GraphQL documents, up to where they would run: the bounds on size, the parser, validation.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use slipway_server::fuzzing::GraphQl;

static SCHEMA: LazyLock<GraphQl> = LazyLock::new(GraphQl::default);

fuzz_target!(|document: &str| SCHEMA.check(document));
