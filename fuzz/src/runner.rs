//! What an agent reads on its way to a container.

use serde_json::{Map, Value};
use slipway_model::docker_options::Lookup;
use slipway_runner::docker::fuzzing;
use url::{Host, Url};

use crate::{assert_no_secret, environment, json, texts};

/// Options of `docker run`: a JSON object, or lines of `name value`, in which a name that comes again
/// makes a list.
pub fn docker_options(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let args = match json(text) {
        Value::Null => by_line(text),
        args => args,
    };
    let lookup = Lookup {
        env: &environment,
        allowed_env: &[],
        file: &|path| match path {
            "variables.env" => Ok("# of the agent\nA=1\nAGENT_TOKEN\n".to_owned()),
            _ => Err(format!("`{path}` cannot be read")),
        },
    };
    let Ok((asked, body)) = fuzzing::docker_options(&args, &lookup) else {
        return;
    };
    assert_no_secret(&args, &body);
    assert!(asked.env.iter().all(|entry| entry.contains('=')), "{:?}", asked.env);
    // A range of ports becomes an entry for each.
    let size = body.to_string().len();
    assert!(
        size <= (1 << 20) + 64 * text.len(),
        "{size} bytes of {} bytes",
        text.len()
    );
}

fn by_line(text: &str) -> Value {
    let mut options = Map::new();
    for line in text.lines() {
        let (name, value) = line.split_once(' ').unwrap_or((line, "true"));
        match options.entry(name).or_insert_with(|| Value::from(Vec::<Value>::new())) {
            Value::Array(values) => values.push(value.into()),
            other => *other = value.into(),
        }
    }
    options.into()
}

/// Names of images.
pub fn image_reference(input: &[u8]) {
    if let Some([text]) = texts(input) {
        fuzzing::image_reference(text);
    }
}

/// Addresses of servers, of which only those on the loopback address are relayed to, and ranges of the
/// networks that a relay serves. Texts: the address, the range.
pub fn relay(input: &[u8]) {
    let Some([address, range]) = texts(input) else { return };
    fuzzing::subnet(range);
    if let Some((host, port)) = fuzzing::relayed_server(address)
        && let Ok(url) = Url::parse(address)
        && matches!(url.scheme(), "http" | "https")
    {
        let local = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_unspecified(),
            Some(Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unspecified(),
            None => false,
        };
        assert!(local, "{address:?} is elsewhere, not at {host}");
        assert_eq!(url.port_or_known_default(), Some(port), "{address:?}");
    }
}
