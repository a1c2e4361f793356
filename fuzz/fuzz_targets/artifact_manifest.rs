//! Manifests of artifacts, as a client uploads them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slipway_server::fuzzing;

fuzz_target!(|manifest: &[u8]| fuzzing::artifact_manifest(manifest));
