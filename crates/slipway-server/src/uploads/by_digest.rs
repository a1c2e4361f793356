//! Files of artifacts by their digest: `GET /artifacts/…` and `GET /artifactsV2/…`.
//!
//! The official SDK builds these addresses itself when it has no signed one, and sends its key with
//! the request. Bytes are stored once per entity, and reading is decided per entity, so owner and
//! digest name a file; project, collection and version ids between them are not needed, and some of
//! them may be empty.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use slipway_store::blobs::path as blob_path;

use super::{IMMUTABLE, send};
use crate::access;
use crate::app::App;
use crate::error::ApiError;
use crate::http::extract::Path;

/// The routes of this module.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/artifacts/{*path}", get(get_v1))
        .route("/artifactsV2/{*path}", get(get_v2))
}

/// What an address names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    /// The owner.
    pub(crate) entity: &'a str,
    md5: [u8; 16],
    /// The name to save it under.
    pub(crate) file: &'a str,
}

impl<'a> Named<'a> {
    fn new(entity: &'a str, digest: &'a str, file: &'a str) -> Option<Self> {
        Some(Self {
            entity,
            md5: read_hex(digest)?,
            file,
        })
    }

    /// `{entity}/{digest}`
    pub(crate) fn v1(path: &'a str) -> Option<Self> {
        let (entity, digest) = path.split_once('/')?;
        Self::new(entity, digest, digest)
    }

    /// `{region}/{entity}/{digest}`, or `{region}/{entity}/…/{digest}/{file}` with the names and ids
    /// that the client's version knows in the middle.
    pub(crate) fn v2(path: &'a str) -> Option<Self> {
        let segments: Vec<&str> = path.split('/').collect();
        match segments[..] {
            [_, entity, digest] => Self::new(entity, digest, digest),
            [_, entity, .., digest, file] => Self::new(entity, digest, file),
            _ => None,
        }
    }
}

async fn get_v1(state: State<Arc<App>>, Path(path): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    download(state, Named::v1(&path), &path, &headers).await
}

async fn get_v2(state: State<Arc<App>>, Path(path): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    download(state, Named::v2(&path), &path, &headers).await
}

async fn download(
    State(app): State<Arc<App>>,
    named: Option<Named<'_>>,
    path: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let principal = app.authenticate(headers).await?;
    let named = named.ok_or_else(|| ApiError::not_found("file", path))?;
    let missing = || ApiError::not_found("entity", named.entity);
    // Who sees only a project of the entity learns digests from that project's manifests alone.
    if !access::can_name_entity(&principal, named.entity) {
        return Err(missing());
    }
    let entity = app.store.entity(named.entity).await?.ok_or_else(missing)?;
    let blob = blob_path::artifact(entity.id, &named.md5);
    send(&app, &blob, named.file, IMMUTABLE, headers).await
}

/// Reads the hexadecimal form of an MD5.
fn read_hex(text: &str) -> Option<[u8; 16]> {
    let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes))?
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn every_form_that_clients_build_names_owner_and_digest() {
        let md5 = read_hex(HEX).unwrap();
        assert_eq!((md5[0], md5[15]), (0x00, 0xff));
        let named = |file| {
            Some(Named {
                entity: "alice",
                md5,
                file,
            })
        };
        assert_eq!(Named::v1(&format!("alice/{HEX}")), named(HEX));
        for (path, file) in [
            (format!("default/alice/{HEX}"), HEX),
            (format!("default/alice/birth/{HEX}/a.txt"), "a.txt"),
            (format!("default/alice/proj/coll/birth/{HEX}/a.txt"), "a.txt"),
            (format!("default/alice/proj/coll//{HEX}/a.txt"), "a.txt"),
            (format!("default/alice/proj/coll/id/birth/{HEX}/a.txt"), "a.txt"),
            (format!("default/alice/proj/coll/id//{HEX}/{HEX}"), HEX),
        ] {
            assert_eq!(Named::v2(&path), named(file), "{path}");
        }
    }

    #[test]
    fn other_paths_name_nothing() {
        for path in ["", "alice", "alice/zz", "a/b/c", "default/alice/proj/file.txt"] {
            assert_eq!(Named::v1(path), None, "{path}");
            assert_eq!(Named::v2(path), None, "{path}");
        }
        assert_eq!(Named::v1(&format!("alice/+{}", &HEX[1..])), None);
        assert_eq!(Named::v1(&format!("alice/{HEX}/more")), None);
    }
}
