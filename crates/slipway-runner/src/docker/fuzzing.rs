//! What the fuzz targets reach: how a submitter's values become a container.
//!
//! Each function panics if a value is accepted that must not be, or becomes what it must not. Nothing
//! here belongs into a program.

use std::collections::BTreeMap;

use serde_json::Value;
use slipway_model::docker_options::{ContainerRequest, Lookup, OptionError, request};

use super::credentials::registry;
use super::relay::{Loopback, Subnet};
use super::request::{compose, is_image, split_reference};
use crate::{Workload, WorkloadId};

/// Reads the name of an image: what is pulled, and where credentials go, is what it says.
pub fn image_reference(text: &str) {
    if !is_image(text) {
        return;
    }
    let (name, version) = split_reference(text);
    assert!(!name.is_empty(), "{text:?} names nothing");
    // An engine takes an empty tag for all of them.
    assert!(!version.is_empty(), "{text:?} names no version");
    let rest = text.strip_prefix(name).expect("a name begins its reference");
    assert!(
        rest.is_empty() && version == "latest" || rest.ends_with(version),
        "{text:?}"
    );
    let registry = registry(text);
    let own = text.strip_prefix(registry).is_some_and(|rest| rest.starts_with('/'));
    assert!(
        own || registry == super::credentials::HUB,
        "{text:?} goes to {registry}"
    );
    // The engine is asked for it by a path.
    assert!(text.split('/').all(|part| !matches!(part, "" | "." | "..")), "{text:?}");
}

/// Reads the options of a container and puts them together with a workload.
///
/// # Errors
/// Those of the options: what they accept, the engine's request has a place for.
pub fn docker_options(args: &Value, lookup: &Lookup<'_>) -> Result<(ContainerRequest, Value), OptionError> {
    let asked = request(args, lookup)?;
    let workload = Workload {
        id: WorkloadId::new("UnVuUXVldWVJdGVtOjE6Mg", 1).expect("an item's id"),
        labels: BTreeMap::from([("run".to_owned(), "r1".to_owned())]),
        resource: "local-container".to_owned(),
        image: Some("team/image:1".to_owned()),
        command: Vec::new(),
        arguments: Vec::new(),
        environment: vec![("WANDB_RUN_ID".to_owned(), "r1".to_owned())],
        source: None,
        working_directory: None,
        resource_args: args.clone(),
    };
    let container = match compose(&workload, asked.clone(), "scope") {
        Ok(container) => container,
        Err(error) => panic!("{args} is accepted and becomes no request: {error}"),
    };
    let labels = container.body.labels.as_ref().expect("labels");
    let (id, _) = super::request::identify(labels).expect("a container is found again");
    assert_eq!(id, workload.id, "a label of {args} hides the workload");
    Ok((asked, serde_json::to_value(&container.body).expect("JSON")))
}

/// Reads the address of a server and says where a relay would connect to, if it needs one.
#[must_use]
pub fn relayed_server(base_url: &str) -> Option<(String, u16)> {
    let server = Loopback::parse(base_url)?;
    assert_eq!(
        Loopback::parse(&server.at(&server.host, server.port)).as_ref(),
        Some(&server)
    );
    Some((server.host, server.port))
}

/// Reads a network's range of addresses.
pub fn subnet(text: &str) {
    let Some(subnet) = Subnet::parse(text) else { return };
    assert!(subnet.contains(subnet.base.into()));
    let neighbour = std::net::Ipv4Addr::from_bits(subnet.base.to_bits() ^ 1);
    assert_eq!(subnet.contains(neighbour.into()), subnet.bits < 32);
    let far = std::net::Ipv4Addr::from_bits(subnet.base.to_bits() ^ (1 << 31));
    assert_eq!(subnet.contains(far.into()), subnet.bits == 0);
}
