//! Captured output of items: reading a piece of it.

use slipway_model::id::ItemId;
use slipway_store::Store;

use crate::error::ApiError;

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Piece {
    /// The position of its first byte.
    pub(crate) offset: i64,
    /// The bytes as printed.
    pub(crate) bytes: Vec<u8>,
}

impl Piece {
    /// The position after its last byte.
    pub(crate) fn end(&self) -> i64 {
        self.offset + i64::try_from(self.bytes.len()).unwrap_or(i64::MAX)
    }

    /// Leaves the start of a character that is cut off at the end for the next piece.
    pub(crate) fn trim_to_characters(&mut self) {
        if let Err(error) = std::str::from_utf8(&self.bytes)
            && error.error_len().is_none()
        {
            let whole = error.valid_up_to();
            if whole > 0 {
                self.bytes.truncate(whole);
            }
        }
    }
}

/// Reads output from a byte position on, up to about `limit` bytes.
///
/// # Errors
/// If the store is away.
pub(crate) async fn read(
    store: &Store,
    item: ItemId,
    attempt: i64,
    from: i64,
    limit: usize,
) -> Result<Piece, ApiError> {
    let chunks = store.output(item, attempt, from, limit).await?;
    let mut piece = Piece {
        offset: from,
        bytes: Vec::new(),
    };
    for chunk in chunks {
        // A chunk may begin before the position that was asked for.
        let skip = usize::try_from((piece.end() - chunk.offset).max(0)).unwrap_or(usize::MAX);
        piece.bytes.extend(chunk.bytes.get(skip..).unwrap_or_default());
    }
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_character_waits_for_its_rest_and_other_bytes_do_not() {
        let cases: [(&[u8], usize); 4] = [
            ("aé".as_bytes(), 3),
            (&"aé".as_bytes()[..2], 1),
            (b"a\xff", 2),
            (&"é".as_bytes()[..1], 1),
        ];
        for (bytes, kept) in cases {
            let mut piece = Piece {
                offset: 5,
                bytes: bytes.to_vec(),
            };
            piece.trim_to_characters();
            assert_eq!(piece.bytes.len(), kept, "{bytes:?}");
        }
    }
}
