//! Identifiers that cross the wire.
//!
//! Inside the store a thing is named by its entity and a number, so that the entity leads every
//! key and tables can be sharded by it. On the wire an id is opaque: the base64 form of
//! `Kind:entity:number`. Item ids use the URL-safe alphabet without padding, because clients use
//! them as folder names.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// An id that does not decode, or decodes to another kind of thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the id of a {kind}")]
pub struct IdError {
    /// The kind of thing that was expected, such as `RunQueueItem`.
    pub kind: &'static str,
    /// What was given.
    pub text: String,
}

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident, $kind:literal, $engine:ident;)*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            /// The number of the owning entity.
            pub entity: i64,
            /// The number of the thing, unique in the installation.
            pub number: i64,
        }

        impl $name {
            /// Joins the two parts.
            #[must_use]
            pub const fn new(entity: i64, number: i64) -> Self {
                Self { entity, number }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$engine.encode(format!("{}:{}:{}", $kind, self.entity, self.number)))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let error = || IdError { kind: $kind, text: text.chars().take(80).collect() };
                let numbers = decode($kind, text).ok_or_else(error)?;
                let [entity, number] = numbers[..] else { return Err(error()) };
                Ok(Self { entity, number })
            }
        }
    )*};
}

ids! {
    /// A launch queue.
    QueueId, "RunQueue", STANDARD;
    /// A queue item, without the lease that an agent holds on it.
    ItemId, "RunQueueItem", URL_SAFE_NO_PAD;
    /// A launch agent.
    AgentId, "LaunchAgent", STANDARD;
    /// One revision of a queue's configuration.
    RevisionId, "DefaultResourceConfig", STANDARD;
    /// A version of an artifact. Standard base64, because the official client converts it to hex.
    ArtifactId, "Artifact", STANDARD;
    /// The manifest of a version of an artifact.
    ManifestId, "ArtifactManifest", STANDARD;
    /// An artifact collection.
    CollectionId, "ArtifactCollection", STANDARD;
}

/// Reads `kind:n:n…` from base64 of either alphabet, with or without padding. A number has one spelling,
/// so that a thing has one id.
fn decode(kind: &str, text: &str) -> Option<Vec<i64>> {
    if text.len() > 120 {
        return None;
    }
    let normal: String = text
        .trim_end_matches('=')
        .chars()
        .map(|c| match c {
            '+' => '-',
            '/' => '_',
            other => other,
        })
        .collect();
    let bytes = URL_SAFE_NO_PAD.decode(normal).ok()?;
    let plain = String::from_utf8(bytes).ok()?;
    let mut parts = plain.split(':');
    (parts.next()? == kind).then_some(())?;
    let number = |part: &str| part.parse().ok().filter(|number: &i64| number.to_string() == part);
    parts.map(number).collect()
}

/// What a pop hands out and a client echoes: the item and the epoch of the lease.
///
/// The epoch fences: a write that carries an epoch older than the item's is stale and changes
/// nothing but the item's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseHandle {
    /// The item.
    pub item: ItemId,
    /// The number of leases that the item has had, this one included. Starts at 1.
    pub epoch: i64,
}

impl fmt::Display for LeaseHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ItemId { entity, number } = self.item;
        f.write_str(&URL_SAFE_NO_PAD.encode(format!("RunQueueItem:{entity}:{number}:{}", self.epoch)))
    }
}

/// An item as a client names it: by the plain id that a push returns, or by a lease handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ItemRef {
    /// The item.
    pub item: ItemId,
    /// The epoch, where the client holds a lease.
    pub epoch: Option<i64>,
}

impl ItemRef {
    /// The lease handle, if an epoch was given.
    #[must_use]
    pub fn handle(self) -> Option<LeaseHandle> {
        self.epoch.map(|epoch| LeaseHandle { item: self.item, epoch })
    }
}

impl FromStr for ItemRef {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = || IdError {
            kind: "RunQueueItem",
            text: text.chars().take(80).collect(),
        };
        match decode("RunQueueItem", text).ok_or_else(error)?[..] {
            [entity, number] => Ok(Self {
                item: ItemId { entity, number },
                epoch: None,
            }),
            [entity, number, epoch] => Ok(Self {
                item: ItemId { entity, number },
                epoch: Some(epoch),
            }),
            _ => Err(error()),
        }
    }
}

impl FromStr for LeaseHandle {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse::<ItemRef>()?.handle().ok_or_else(|| IdError {
            kind: "RunQueueItem",
            text: text.to_owned(),
        })
    }
}

/// The name of a run: entity, project and run id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct RunName {
    /// The owning entity.
    pub entity: String,
    /// The project in it.
    pub project: String,
    /// The run's id, which the client calls `name`.
    pub run: String,
}

impl RunName {
    /// The storage id, base64 of `Run:v1:<run>:<project>:<entity>`; clients build it themselves.
    #[must_use]
    pub fn storage_id(&self) -> String {
        STANDARD.encode(format!("Run:v1:{}:{}:{}", self.run, self.project, self.entity))
    }

    /// Reads a storage id.
    ///
    /// # Errors
    /// If the text is not base64 of the form that [`Self::storage_id`] writes.
    pub fn from_storage_id(text: &str) -> Result<Self, IdError> {
        let error = || IdError {
            kind: "Run",
            text: text.chars().take(80).collect(),
        };
        let bytes = STANDARD.decode(text).map_err(|_| error())?;
        let plain = String::from_utf8(bytes).map_err(|_| error())?;
        let mut parts = plain.splitn(5, ':');
        match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("Run"), Some("v1"), Some(run), Some(project), Some(entity)) => Ok(Self {
                entity: entity.to_owned(),
                project: project.to_owned(),
                run: run.to_owned(),
            }),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.entity, self.project, self.run)
    }
}

#[cfg(test)]
mod tests;
