//! How a stored file may be shown. Pure.
//!
//! Whatever a run uploads is somebody's content on our origin. Only types that cannot run script
//! are shown in place; everything else is downloaded.

use slipway_store::blobs::ByteRange;

/// The `Content-Type` of a file, and whether a browser may show it in place.
#[must_use]
pub(crate) fn content_type(name: &str) -> (&'static str, bool) {
    let extension = name
        .rsplit(['/', '\\'])
        .next()
        .and_then(|file| file.rsplit_once('.'))
        .map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref().unwrap_or_default() {
        "txt" | "log" | "md" | "py" | "sh" | "rs" | "toml" | "cfg" | "ini" | "yaml" | "yml" | "csv" | "patch"
        | "diff" => ("text/plain; charset=utf-8", true),
        "json" | "jsonl" => ("application/json", true),
        "png" => ("image/png", true),
        "jpg" | "jpeg" => ("image/jpeg", true),
        "gif" => ("image/gif", true),
        "webp" => ("image/webp", true),
        _ => ("application/octet-stream", false),
    }
}

/// The `Content-Disposition` of a file: its last segment as the name, in ASCII and in UTF-8.
#[must_use]
pub(crate) fn disposition(name: &str, inline: bool) -> String {
    let kind = if inline { "inline" } else { "attachment" };
    let file = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let ascii: String = file
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-+=@() ".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    format!(
        "{kind}; filename=\"{ascii}\"; filename*=UTF-8''{}",
        percent_encode(file)
    )
}

/// Percent-encodes everything but unreserved characters.
#[must_use]
pub(crate) fn percent_encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string does not fail");
        }
        out
    })
}

/// Reads a `Range` header. `None` for what is malformed or asks for several ranges: the whole file
/// is then a correct answer.
#[must_use]
pub(crate) fn range(header: &str) -> Option<ByteRange> {
    let (first, last) = header.trim().strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u64>().ok())
            .flatten()
    };
    match (first, last) {
        ("", last) => number(last).map(ByteRange::Last),
        (first, "") => number(first).map(ByteRange::From),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then(|| ByteRange::Between(first, last.saturating_add(1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_types_without_script_are_shown_in_place() {
        for (name, inline) in [
            ("output.log", true),
            ("code/train.PY", true),
            ("media/a.png", true),
            ("page.html", false),
            ("drawing.svg", false),
            ("doc.xml", false),
            ("doc.xhtml", false),
            ("a.pdf", false),
            ("no-extension", false),
            ("png", false),
            ("", false),
        ] {
            assert_eq!(content_type(name).1, inline, "{name}");
        }
    }

    #[test]
    fn names_cannot_break_out_of_the_header() {
        assert_eq!(
            disposition("dir/a\"b\r\nX: 図.txt", true),
            "inline; filename=\"a_b__X_ _.txt\"; filename*=UTF-8''a%22b%0D%0AX%3A%20%E5%9B%B3.txt"
        );
    }

    #[test]
    fn a_single_range_is_understood() {
        for (header, expected) in [
            ("bytes=0-9", Some(ByteRange::Between(0, 10))),
            ("bytes=5-", Some(ByteRange::From(5))),
            ("bytes=-3", Some(ByteRange::Last(3))),
            ("bytes=9-0", None),
            ("bytes=+1-2", None),
            ("bytes=0-1,3-4", None),
            ("bytes=-", None),
            ("lines=0-1", None),
            ("", None),
        ] {
            assert_eq!(range(header), expected, "{header}");
        }
    }
}
