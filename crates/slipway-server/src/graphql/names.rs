//! Names that clients make up.

use super::Result;
use crate::ApiError;

/// Checks a run's id.
///
/// # Errors
/// Says which rule is broken.
pub(crate) fn check_run_id(id: &str) -> Result<()> {
    slipway_model::run::check_run_id(id).map_err(|error| ApiError::bad(error.to_string()))
}
