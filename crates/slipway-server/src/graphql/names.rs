//! Names that clients make up.

use super::Result;
use crate::ApiError;

/// The longest run id, in characters.
const MAX_RUN_ID: usize = 128;

/// Checks a run's id by the official client's rule: no character that addresses or paths use.
///
/// # Errors
/// Says which rule is broken.
pub(crate) fn check_run_id(id: &str) -> Result<()> {
    if id.trim().is_empty() {
        return Err(ApiError::bad("a run needs an id"));
    }
    let length = id.chars().count();
    if length > MAX_RUN_ID {
        return Err(ApiError::bad(format!(
            "a run's id has at most {MAX_RUN_ID} characters; this one has {length}"
        )));
    }
    if let Some(character) = id.chars().find(|c| c.is_control() || "/\\#?%:".contains(*c)) {
        return Err(ApiError::bad(format!("a run's id may not contain {character:?}")));
    }
    if matches!(id, "." | "..") {
        return Err(ApiError::bad(format!(
            "`{id}` is no id for a run: addresses cannot carry it"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_hold_no_character_that_addresses_use() {
        for good in ["abc123", "agent-1.x", "ü"] {
            assert!(check_run_id(good).is_ok(), "{good}");
        }
        let long = "x".repeat(129);
        for bad in ["", " ", "a/b", "a:b", "a\u{0}b", long.as_str()] {
            assert!(check_run_id(bad).is_err(), "{bad}");
        }
    }
}
