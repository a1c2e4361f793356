//! Files of runs and artifacts as the wire shows them, and how listings are paged.

use async_graphql::{ID, Object, SimpleObject};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use slipway_model::Millis;

use super::artifacts::Artifact;
use super::page::PageInfo;
use super::scalars::{DateTime, Int64};
use crate::ApiError;
use crate::uploads::content_type;

/// The part of a listing that `first` and `after` select, where a cursor is the number of a row.
pub(crate) struct Slice<T> {
    /// The rows with their cursors.
    pub(crate) rows: Vec<(String, T)>,
    /// Where the page ends.
    pub(crate) page_info: PageInfo,
}

impl<T> Slice<T> {
    /// Cuts a page out of a listing that is at hand as a whole.
    ///
    /// # Errors
    /// If `after` is not a cursor of such a listing.
    pub(crate) fn of(
        rows: impl IntoIterator<Item = T>,
        first: Option<i32>,
        after: Option<&str>,
    ) -> Result<Self, ApiError> {
        let start = match after.filter(|after| !after.is_empty()) {
            Some(after) => after
                .parse::<usize>()
                .ok()
                .and_then(|cursor| cursor.checked_add(1))
                .ok_or_else(|| ApiError::bad(format!("`{after}` is not a cursor of this listing")))?,
            None => 0,
        };
        let limit = page_size(first, usize::MAX)?;
        let mut rest = rows.into_iter().enumerate().skip(start);
        let rows: Vec<(String, T)> = rest
            .by_ref()
            .take(limit)
            .map(|(index, row)| (index.to_string(), row))
            .collect();
        Ok(Self {
            page_info: PageInfo {
                has_next_page: rest.next().is_some(),
                end_cursor: rows.last().map(|(cursor, _)| cursor.clone()),
            },
            rows,
        })
    }
}

/// How many rows a page has.
///
/// # Errors
/// If `first` is negative.
pub(crate) fn page_size(first: Option<i32>, default: usize) -> Result<usize, ApiError> {
    match first {
        None => Ok(default),
        Some(first) => {
            usize::try_from(first).map_err(|_| ApiError::bad(format!("first: {first} is negative; ask for 0 or more")))
        }
    }
}

/// A file of a run or an artifact, or the place for one.
#[derive(Default, Clone)]
pub(crate) struct File {
    /// Its path within the run or artifact.
    pub(crate) name: String,
    /// Bytes, once stored.
    pub(crate) size: Option<i64>,
    /// Base64 of the MD5, once stored.
    pub md5: Option<String>,
    /// When it was stored.
    pub(crate) updated_at: Option<Millis>,
    /// Where it is read.
    pub(crate) direct_url: Option<String>,
    /// Where it is written; null if its bytes are stored already.
    pub(crate) upload_url: Option<String>,
    /// `Name:Value` headers that the upload must carry.
    pub(crate) upload_headers: Vec<String>,
    /// Where artifact files lie in the storage.
    pub(crate) storage_path: Option<String>,
    /// The artifact that it belongs to.
    pub(crate) artifact: Option<Artifact>,
}

#[Object]
impl File {
    async fn id(&self) -> ID {
        ID(STANDARD.encode(format!("File:{}", self.name)))
    }

    async fn name(&self) -> &str {
        &self.name
    }

    /// Where the file is written with `upload: true`, else where it is read.
    async fn url(&self, upload: Option<bool>) -> Option<&str> {
        match upload {
            Some(true) => self.upload_url.as_deref(),
            _ => self.direct_url.as_deref(),
        }
    }

    async fn direct_url(&self) -> Option<&str> {
        self.direct_url.as_deref()
    }

    async fn size_bytes(&self) -> Int64 {
        Int64(self.size.unwrap_or(0))
    }

    async fn mimetype(&self) -> &'static str {
        content_type(&self.name).0
    }

    async fn md5(&self) -> Option<&str> {
        self.md5.as_deref()
    }

    /// The digest by the artifact's algorithm, which is MD5.
    async fn digest(&self) -> Option<&str> {
        self.md5.as_deref()
    }

    async fn updated_at(&self) -> Option<DateTime> {
        self.updated_at.map(DateTime)
    }

    async fn upload_url(&self) -> Option<&str> {
        self.upload_url.as_deref()
    }

    async fn upload_headers(&self) -> &[String] {
        &self.upload_headers
    }

    async fn storage_path(&self) -> Option<&str> {
        self.storage_path.as_deref()
    }

    /// Large files are uploaded in one piece; null.
    async fn upload_multipart_urls(&self) -> Option<UploadMultipartUrls> {
        None
    }

    async fn artifact(&self) -> Option<Artifact> {
        self.artifact.clone()
    }
}

/// Where the parts of an upload go. Part of the contract; not offered.
#[derive(SimpleObject)]
pub(crate) struct UploadMultipartUrls {
    #[graphql(name = "uploadID")]
    upload_id: String,
    upload_url_parts: Vec<UploadUrlPart>,
}

/// Where a part of an upload goes.
#[derive(SimpleObject)]
pub(crate) struct UploadUrlPart {
    part_number: i32,
    upload_url: String,
}

/// Files of a listing.
#[derive(SimpleObject)]
pub(crate) struct FileConnection {
    edges: Vec<FileEdge>,
    page_info: PageInfo,
    total_count: i32,
}

/// A file in a listing.
#[derive(SimpleObject)]
pub(crate) struct FileEdge {
    node: File,
    cursor: String,
}

impl FileConnection {
    /// A page of files; `total` counts the whole listing.
    #[must_use]
    pub(crate) fn new(slice: Slice<File>, total: usize) -> Self {
        Self {
            edges: slice
                .rows
                .into_iter()
                .map(|(cursor, node)| FileEdge { node, cursor })
                .collect(),
            page_info: slice.page_info,
            total_count: i32::try_from(total).unwrap_or(i32::MAX),
        }
    }
}

/// Whether a name matches a pattern in the manner of SQL's `LIKE`: `%` for any text, `_` for any
/// character, `\` before either for itself.
#[must_use]
pub(crate) fn like(name: &str, pattern: &str) -> bool {
    #[derive(Clone, Copy, PartialEq)]
    enum Token {
        Any,
        One,
        Exactly(char),
    }
    let mut tokens = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '%' => Token::Any,
            '_' => Token::One,
            '\\' => Token::Exactly(characters.next().unwrap_or('\\')),
            other => Token::Exactly(other),
        });
    }
    // Which beginnings of the pattern match the name so far.
    let mut reached: Vec<bool> = std::iter::once(true)
        .chain(tokens.iter().scan(true, |all, token| {
            *all &= *token == Token::Any;
            Some(*all)
        }))
        .collect();
    for character in name.chars() {
        let mut next = vec![false; tokens.len() + 1];
        for (index, token) in tokens.iter().enumerate() {
            next[index + 1] = match token {
                Token::Any => reached[index] || reached[index + 1] || next[index],
                Token::One => reached[index],
                Token::Exactly(expected) => reached[index] && *expected == character,
            };
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

/// The longest pattern, in bytes: that of the longest name with every character escaped.
const MAX_PATTERN: usize = 2 * 1_024;

/// Refuses patterns that no name needs: matching takes as long as name and pattern multiplied.
///
/// # Errors
/// If it is longer than [`MAX_PATTERN`].
pub(crate) fn check_pattern(pattern: &str) -> Result<(), ApiError> {
    if pattern.len() > MAX_PATTERN {
        return Err(ApiError::bad(format!(
            "the pattern has {} bytes; at most {MAX_PATTERN} are accepted",
            pattern.len()
        )));
    }
    Ok(())
}

/// A run's file by the name that clients keep it under: `./a` is `a`.
pub(crate) fn plain_name(mut name: &str) -> &str {
    while let Some(rest) = name.strip_prefix("./") {
        name = rest;
    }
    name
}

/// Refuses names that no file may have.
///
/// # Errors
/// If it is empty, longer than 1,024 bytes, or has a control character.
pub(crate) fn check_file_name(name: &str) -> Result<(), ApiError> {
    if name.is_empty() || name.len() > 1_024 || name.chars().any(char::is_control) {
        return Err(ApiError::bad(format!(
            "file name {:?} is empty, longer than 1024 bytes, or has control characters",
            name.chars().take(80).collect::<String>()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_like_sql() {
        for (name, pattern, matches) in [
            ("config.yaml", "%.yaml", true),
            ("config.yaml", "%", true),
            ("", "%%", true),
            ("config.yaml", "config_yaml", true),
            ("config.yaml", "config", false),
            ("a%b", "a\\%b", true),
            ("axb", "a\\%b", false),
            ("code/train.py", "code/%.p_", true),
            ("", "_", false),
            ("aaaa", "%a%a%a%a%a", false),
        ] {
            assert_eq!(like(name, pattern), matches, "{name} {pattern}");
        }
    }

    #[test]
    fn patterns_are_no_longer_than_names_need() {
        assert!(check_pattern(&"\\a".repeat(1_024)).is_ok());
        assert!(check_pattern(&"%".repeat(2_049)).is_err());
    }

    #[test]
    fn listings_are_cut_into_pages() {
        let page = |first, after| {
            let slice = Slice::of(0..5, first, after).unwrap();
            let rows: Vec<i32> = slice.rows.iter().map(|(_, row)| *row).collect();
            (rows, slice.page_info.has_next_page, slice.page_info.end_cursor)
        };
        assert_eq!(page(None, None), (vec![0, 1, 2, 3, 4], false, Some("4".to_owned())));
        assert_eq!(page(Some(2), None), (vec![0, 1], true, Some("1".to_owned())));
        assert_eq!(page(Some(2), Some("1")), (vec![2, 3], true, Some("3".to_owned())));
        assert_eq!(page(Some(2), Some("3")), (vec![4], false, Some("4".to_owned())));
        assert_eq!(page(Some(0), Some("")), (vec![], true, None));
        assert!(Slice::of(0..5, Some(-1), None).is_err());
        assert!(Slice::of(0..5, None, Some("x")).is_err());
        assert!(Slice::of(0..5, None, Some("18446744073709551615")).is_err());
    }
}
