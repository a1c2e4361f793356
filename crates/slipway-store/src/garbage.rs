//! What deleted runs and items leave behind: lines, captured output and blobs, which are large and
//! lie elsewhere.
//!
//! Deleting is one small transaction, which puts a number on a list. The lists are worked off here; what is interrupted is found on it again. Numbers are never used twice, so a later run of
//! the same id is never touched.

use crate::blobs::{BlobError, Blobs, path};
use crate::{Error, Result, Store};

/// Removes what up to `limit` deleted runs and as many items left behind, oldest first. Returns the
/// larger of the two counts; less than `limit` means that nothing is left.
///
/// # Errors
/// [`Error::Unavailable`] if the database or the blob storage is away; what was done until then
/// stays done.
pub async fn collect(store: &Store, blobs: &Blobs, limit: usize) -> Result<usize> {
    let numbers = store.deleted_runs(limit).await?;
    for number in &numbers {
        blobs.delete_prefix(&path::run_files(*number)).await?;
        store.forget_deleted_run(*number).await?;
    }
    let items = store.deleted_items(limit).await?;
    for item in &items {
        store.forget_deleted_item(*item).await?;
    }
    Ok(numbers.len().max(items.len()))
}

impl From<BlobError> for Error {
    fn from(error: BlobError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
