//! Which entries of artifacts' manifests point elsewhere, remembered for those that were asked about last: a
//! client reads an artifact's files page by page, and a manifest may have 64 MiB. A few are read at a time,
//! however many ask.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use slipway_model::id::ManifestId;
use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::manifest::Reference;

/// How many manifests are remembered, and how many are read at a time.
const MANIFESTS: usize = 4;

/// How many references of one are remembered; an artifact with more is read anew for each page.
const REMEMBERED: usize = 100_000;

/// See the module.
pub(crate) struct References {
    known: Mutex<VecDeque<(ManifestId, Arc<[Reference]>)>>,
    reading: Semaphore,
}

impl Default for References {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            reading: Semaphore::new(MANIFESTS),
        }
    }
}

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
        if let Some(references) = self.known(manifest) {
            return Ok(references);
        }
        let _turn = self.reading.acquire().await.map_err(ApiError::internal)?;
        // Somebody may have read it meanwhile.
        if let Some(references) = self.known(manifest) {
            return Ok(references);
        }
        let references: Arc<[Reference]> = read.await?.into();
        if references.len() <= REMEMBERED {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.truncate(MANIFESTS - 1);
            known.push_front((manifest, Arc::clone(&references)));
        }
        Ok(references)
    }

    fn known(&self, manifest: ManifestId) -> Option<Arc<[Reference]>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|(id, _)| *id == manifest)?;
        Some(Arc::clone(&found.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_manifests_that_were_asked_about_last_are_read_once() {
        let references = References::default();
        let read = std::cell::Cell::new(0);
        let ask = |number: usize| {
            let manifest = ManifestId::new(1, i64::try_from(number).expect("a number"));
            let read = &read;
            let reading = async move {
                read.set(read.get() + 1);
                Ok(vec![Reference {
                    name: format!("file {manifest}"),
                    target: "s3://bucket/key".to_owned(),
                    size: None,
                }])
            };
            let references = &references;
            async move {
                let found = references.of(manifest, reading).await.expect("references");
                assert_eq!(found[0].name, format!("file {manifest}"));
            }
        };
        for (number, reads) in [(0, 1), (0, 1), (1, 2), (2, 3), (3, 4), (0, 4), (4, 5), (3, 5), (0, 6)] {
            ask(number).await;
            assert_eq!(read.get(), reads, "manifest {number}");
        }
        let away = async { Err(ApiError::bad("away")) };
        assert!(references.of(ManifestId::new(1, 9), away).await.is_err());
        ask(9).await;
    }
}
