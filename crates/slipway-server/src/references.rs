//! Which entries of an artifact's manifest point elsewhere, remembered for the artifact that was asked about
//! last: a client reads its files page by page, and a manifest may have 64 MiB. One is read at a time, so
//! that however many ask, no more than one is in memory.

use std::future::Future;
use std::sync::Arc;

use slipway_model::id::ManifestId;
use tokio::sync::Mutex;

use crate::error::ApiError;
use crate::manifest::Reference;

/// How many references are remembered; an artifact with more is read anew for each page.
const REMEMBERED: usize = 100_000;

/// See the module.
#[derive(Default)]
pub(crate) struct References(Mutex<Option<(ManifestId, Arc<[Reference]>)>>);

impl References {
    /// The references of a manifest, which `read` reads if they are not remembered. For manifests of committed
    /// versions, which do not change.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) async fn of(
        &self,
        manifest: ManifestId,
        read: impl Future<Output = Result<Vec<Reference>, ApiError>>,
    ) -> Result<Arc<[Reference]>, ApiError> {
        let mut last = self.0.lock().await;
        if let Some((known, references)) = &*last
            && *known == manifest
        {
            return Ok(Arc::clone(references));
        }
        let references: Arc<[Reference]> = read.await?.into();
        *last = (references.len() <= REMEMBERED).then(|| (manifest, Arc::clone(&references)));
        Ok(references)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manifest_is_read_once_while_nobody_asks_about_another() {
        let remembered = References::default();
        let manifest = |number| ManifestId { entity: 1, number };
        let one = |name: &str| {
            vec![Reference {
                name: name.to_owned(),
                target: "s3://bucket/key".to_owned(),
                size: None,
            }]
        };
        let never = async { Err(ApiError::bad("read again")) };
        for (number, name) in [(1, "a"), (2, "b"), (1, "a")] {
            let read = remembered.of(manifest(number), async { Ok(one(name)) }).await;
            assert_eq!(read.expect("references")[0].name, name);
        }
        let again = remembered.of(manifest(1), never).await.expect("what is remembered");
        assert_eq!(again[0].name, "a");
        let failed = remembered.of(manifest(2), async { Err(ApiError::bad("away")) }).await;
        assert!(failed.is_err());
    }
}
