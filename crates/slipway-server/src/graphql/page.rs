//! Pages of listings.

use async_graphql::SimpleObject;

use super::Result;
use crate::ApiError;

/// The most rows that one page holds.
pub(crate) const MAX_PAGE: i32 = 1_000;

/// Where a page ends.
#[derive(SimpleObject, Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageInfo {
    /// The cursor of the last row; null for an empty page.
    pub(crate) end_cursor: Option<String>,
    /// Whether more rows follow.
    pub(crate) has_next_page: bool,
}

/// How many rows to read.
///
/// # Errors
/// If the number is negative or above [`MAX_PAGE`].
pub(crate) fn page_size(first: Option<i32>, default: i32) -> Result<usize> {
    let first = first.unwrap_or(default);
    usize::try_from(first)
        .ok()
        .filter(|_| first <= MAX_PAGE)
        .ok_or_else(|| ApiError::bad(format!("`first` must be between 0 and {MAX_PAGE}, not {first}")))
}

/// A cursor that no page gave.
pub(crate) fn bad_cursor(cursor: &str) -> ApiError {
    ApiError::bad(format!(
        "`after` must be the endCursor of a page, not `{}`",
        cursor.chars().take(40).collect::<String>()
    ))
}
