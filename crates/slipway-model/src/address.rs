//! Where to listen: a host, by number or name, and a port. What a name means is found out by whoever
//! listens.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// An address or a name; one of IPv6 stands without brackets.
    pub host: String,
    /// The port; 0 takes a free one.
    pub port: u16,
}

/// Why a text is no host and port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write a host and a port, such as 127.0.0.1:8080, localhost:8080 or [::1]:8080")]
pub struct HostPortError;

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let (host, port) = text.rsplit_once(':').ok_or(HostPortError)?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or(HostPortError)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inside) => Some(inside).filter(|inside| matches!(inside.parse(), Ok(IpAddr::V6(_)))),
            None => Some(host).filter(|host| is_host(host)),
        };
        let host = host.ok_or(HostPortError)?.to_owned();
        Ok(Self { host, port })
    }
}

/// Whether it is written like a name, or like an address of IPv4, which has the same letters.
fn is_host(text: &str) -> bool {
    let letters = |label: &str| {
        label
            .chars()
            .all(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_'))
    };
    !text.is_empty()
        && text
            .trim_end_matches('.')
            .split('.')
            .all(|label| !label.is_empty() && letters(label))
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HostPort;

    #[test]
    fn hosts_are_numbers_or_names() {
        for (text, host, port) in [
            ("127.0.0.1:8080", "127.0.0.1", 8080),
            ("localhost:0", "localhost", 0),
            ("box.example.com:65535", "box.example.com", 65535),
            ("box.example.com.:1", "box.example.com.", 1),
            ("[::1]:8080", "::1", 8080),
            ("[::]:8080", "::", 8080),
        ] {
            let read: HostPort = text.parse().unwrap();
            assert_eq!((read.host.as_str(), read.port), (host, port));
            assert_eq!(read.to_string(), text);
        }
        for text in [
            "",
            "8080",
            ":8080",
            "localhost",
            "localhost:",
            "localhost:http",
            "localhost:+80",
            "localhost:65536",
            "::1:8080",
            "[::1]",
            "[localhost]:1",
            "a b:1",
            "http://localhost:8080",
            "a..b:1",
            ".:1",
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }
}
