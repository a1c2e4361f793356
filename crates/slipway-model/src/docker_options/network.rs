//! Networks, addresses and ports.

use serde_json::{Map, Value, json};

use super::parse::{bounded, fields, integer, pair};

/// A container's settings in one network.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Endpoint {
    fields: Map<String, Value>,
    addresses: Map<String, Value>,
}

impl Endpoint {
    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.addresses.is_empty()
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    pub(super) fn alias(&mut self, alias: &str) {
        append(&mut self.fields, "Aliases", alias);
    }

    pub(super) fn ipv4(&mut self, address: &str) -> Result<(), String> {
        address
            .parse::<std::net::Ipv4Addr>()
            .map_err(|_| format!("`{address}` is not an IPv4 address"))?;
        self.addresses.insert("IPv4Address".to_owned(), json!(address));
        Ok(())
    }

    pub(super) fn ipv6(&mut self, address: &str) -> Result<(), String> {
        address
            .parse::<std::net::Ipv6Addr>()
            .map_err(|_| format!("`{address}` is not an IPv6 address"))?;
        self.addresses.insert("IPv6Address".to_owned(), json!(address));
        Ok(())
    }

    pub(super) fn link_local(&mut self, address: &str) {
        append(&mut self.addresses, "LinkLocalIPs", address);
    }

    pub(super) fn mac_address(&mut self, address: &str) {
        self.fields.insert("MacAddress".to_owned(), json!(address));
    }

    /// Takes over what another one sets.
    pub(super) fn merge(&mut self, other: Self) {
        self.fields.extend(other.fields);
        self.addresses.extend(other.addresses);
    }

    pub(super) fn into_map(mut self) -> Map<String, Value> {
        if !self.addresses.is_empty() {
            self.fields
                .insert("IPAMConfig".to_owned(), Value::Object(self.addresses));
        }
        self.fields
    }
}

fn append(map: &mut Map<String, Value>, field: &str, text: &str) {
    if let Value::Array(list) = map.entry(field).or_insert_with(|| json!([])) {
        list.push(json!(text));
    }
}

/// The value of `network`: a name, or `name=…,alias=…` with settings.
pub(super) fn network(text: &str) -> Result<(String, Endpoint), String> {
    let mut endpoint = Endpoint::default();
    if !text.contains('=') {
        return match text.trim() {
            "" => Err("a network has a name".to_owned()),
            name => Ok((name.to_owned(), endpoint)),
        };
    }
    let mut name = None;
    for part in fields(text)? {
        let (key, value) = pair(&part)?;
        let value = value.ok_or_else(|| format!("`{part}` in `{text}` is not of the form KEY=value"))?;
        match key {
            "name" => name = Some(value.to_owned()),
            "alias" => endpoint.alias(value),
            "ip" => endpoint.ipv4(value)?,
            "ip6" => endpoint.ipv6(value)?,
            "mac-address" => endpoint.mac_address(value),
            "link-local-ip" => endpoint.link_local(value),
            "driver-opt" => {
                let (option, value) = pair(value)?;
                if let Value::Object(options) = endpoint.fields.entry("DriverOpts").or_insert_with(|| json!({})) {
                    options.insert(option.to_owned(), json!(value.unwrap_or_default()));
                }
            }
            "gw-priority" => {
                let priority = integer(value)?;
                endpoint.fields.insert("GwPriority".to_owned(), json!(priority));
            }
            _ => {
                return Err(format!(
                    "`{key}` is not one of name, alias, ip, ip6, mac-address, link-local-ip, driver-opt, gw-priority"
                ));
            }
        }
    }
    Ok((
        name.ok_or_else(|| format!("`{text}` names no network; add name=…"))?,
        endpoint,
    ))
}

/// A port or a range of them, with its protocol.
struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    fn parse(text: &str) -> Result<Self, String> {
        let port = |text: &str| {
            bounded(text, 0, 65_535)
                .map(|port| u16::try_from(port).unwrap_or(0))
                .map_err(|_| format!("`{text}` is not a port"))
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let ports = Self {
            first: port(first)?,
            last: port(last)?,
        };
        if ports.first > ports.last {
            return Err(format!("`{text}` is a range that ends before it begins"));
        }
        Ok(ports)
    }

    fn count(&self) -> u16 {
        self.last - self.first
    }
}

fn protocol(text: &str) -> Result<(&str, &str), String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    match protocol {
        "tcp" | "udp" | "sctp" => Ok((ports, protocol)),
        other => Err(format!("`{other}` is not one of tcp, udp, sctp")),
    }
}

/// The ports that `expose` names, as the engine writes them.
pub(super) fn expose(text: &str) -> Result<Vec<String>, String> {
    let (ports, protocol) = protocol(text)?;
    let ports = Ports::parse(ports)?;
    Ok((ports.first..=ports.last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

/// A published port: what the container listens on, and where the host does.
pub(super) struct Published {
    pub(super) container: String,
    pub(super) binding: Value,
}

/// `[[address:]port[-port]:]port[-port][/protocol]`.
pub(super) fn publish(text: &str) -> Result<Vec<Published>, String> {
    let (rest, protocol) = protocol(text)?;
    let (rest, container) = match rest.rsplit_once(':') {
        Some((rest, container)) => (Some(rest), container),
        None => (None, rest),
    };
    let (address, host) = match rest {
        None => ("", ""),
        Some(rest) => match rest.rsplit_once(':') {
            Some((address, host)) => (address.trim_start_matches('[').trim_end_matches(']'), host),
            None => ("", rest),
        },
    };
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("`{address}` in `{text}` is not an address"));
    }
    let container = Ports::parse(container)?;
    let host_ports = if host.is_empty() {
        None
    } else {
        Some(Ports::parse(host)?)
    };
    let fixed = match &host_ports {
        // A range for one port: the engine chooses among them.
        Some(ports) if container.count() == 0 && ports.count() > 0 => None,
        Some(ports) if ports.count() != container.count() => {
            return Err(format!("`{text}` maps ranges of different lengths"));
        }
        other => other.as_ref(),
    };
    Ok((container.first..=container.last)
        .map(|port| {
            let host = match fixed {
                Some(ports) => (ports.first + (port - container.first)).to_string(),
                None => host.to_owned(),
            };
            Published {
                container: format!("{port}/{protocol}"),
                binding: json!({"HostIp": address, "HostPort": host}),
            }
        })
        .collect())
}

/// `NAME:address`, or with `=`.
pub(super) fn extra_host(text: &str) -> Result<String, String> {
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(|| format!("`{text}` is not of the form NAME:address"))?;
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if bare != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("`{address}` is neither an address nor host-gateway"));
    }
    Ok(format!("{name}:{bare}"))
}
