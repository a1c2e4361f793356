//! Bodies of file_stream requests: what a job reports of its run.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slipway_server::fuzzing;

fuzz_target!(|body: &[u8]| fuzzing::file_stream(body));
