//! What the fuzz targets reach: parsers of what submitters and their jobs send, private otherwise.
//!
//! Each function panics if a parser accepts what it must not, or makes of it what it must not. Nothing
//! here belongs into a program.

use std::sync::LazyLock;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest as _, Query};
use axum::http::{HeaderMap, HeaderValue, Request, Uri, header};
use axum::response::{IntoResponse as _, Redirect};
use serde_json::{Map, Value};
use slipway_model::id::{ItemId, LeaseHandle, RunName};
use slipway_store::blobs::{Method, SignatureError, Signer};
use slipway_store::run_data::Line;
use tokio::runtime::{Builder, Runtime};
use url::Url;

use crate::auth::{self, Presented, run_key};
use crate::console::{ConsoleLine, without_escapes};
use crate::file_stream::body;
use crate::graphql::files::{Slice, check_file_name, like};
use crate::graphql::validate_only::{DocumentChecks, choose_way};
use crate::manifest;
use crate::pages::words::Language;
use crate::pages::{log, sign_in, visitor};
use crate::uploads::by_digest::Named;
use crate::uploads::links::{LinkQuery, Links, run_path};
use crate::uploads::{content, content_type};

const KEY: [u8; 32] = [7; 32];

/// Runs what is asynchronous in form only.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread()
        .build()
        .expect("a runtime without timers and sockets")
});

/// Reads the body of a file_stream request: what passes as a line is one.
pub fn file_stream(bytes: &[u8]) {
    let Ok(update) = body::parse(bytes) else { return };
    for chunk in [&update.history, &update.events, &update.console].into_iter().flatten() {
        assert!(chunk.offset >= 0);
        assert!(i64::try_from(chunk.lines.len()).is_ok_and(|count| chunk.offset.checked_add(count).is_some()));
        assert!(chunk.lines.iter().all(|line| !line.contains('\0')));
    }
    for line in [&update.history, &update.events]
        .into_iter()
        .flatten()
        .flat_map(|chunk| &chunk.lines)
    {
        assert!(serde_json::from_str::<Map<String, Value>>(line).is_ok(), "{line:?}");
    }
}

/// Reads an artifact's manifest: every entry that must be held here names a digest.
pub fn artifact_manifest(bytes: &[u8]) {
    let Ok(entries) = manifest::stored_entries(bytes) else {
        return;
    };
    for entry in entries {
        assert!(manifest::is_md5(&entry.md5) && entry.size >= 0, "{entry:?}");
    }
}

/// Parses and validates a document, as a request does before anything of it runs.
pub fn graphql(document: &str) {
    static CHECKS: LazyLock<DocumentChecks> = LazyLock::new(DocumentChecks::new);
    let errors = RUNTIME.block_on(CHECKS.check(document));
    assert!(!errors.is_empty(), "nothing may run");
}

/// Reads what is posted to `/graphql`: what takes the short way could have taken the long one.
pub fn graphql_body(bytes: &[u8]) {
    if let Err(problem) = choose_way(&Bytes::copy_from_slice(bytes)) {
        panic!("only the short way takes this: {problem}");
    }
}

/// Shows a console line, and captured bytes, as pages do: as text, whatever is in them.
pub fn console(line: &str, captured: &[u8]) {
    let read = ConsoleLine::read(line);
    assert!(!read.text.contains('\r'));
    assert!(!without_escapes(&read.text).contains('\u{1b}'));
    let captured = log::readable(captured);
    assert!(!captured.contains(['\r', '\u{1b}']));

    let page = |text: &str| {
        let line = Line {
            number: 0,
            text: text.to_owned(),
        };
        log::console(&[line], None, "/whole", Language::English).into_string()
    };
    // Both a title and a class may come of a line, no element.
    assert_eq!(elements(&page(line)), elements(&page("")), "{line:?}");
    let page = |text| log::output(text, 0, false, None, "/whole", Language::English).into_string();
    assert_eq!(elements(&page(&captured)), elements(&page("x")), "{captured:?}");
}

/// How many elements begin or end in a page, and how many comments.
fn elements(page: &str) -> usize {
    page.matches('<').count()
}

/// Builds the address of a run's file and of a blob, and reads them as a request does: they allow what
/// they were made for and nothing else.
pub fn storage_address(run: &RunName, name: &str) {
    let signer = Signer::new(&KEY);
    let links = Links {
        signer: &signer,
        base_url: "http://localhost:8080",
        now: 0,
    };
    let path = run_path(run);
    for (link, path) in [
        (links.run_file(Method::Put, run, name), path.clone()),
        (
            links.blob(Method::Put, &path, name, Some("CY9rzUYh03PK3k6DJie09g==")),
            format!("blobs/{path}"),
        ),
    ] {
        let uri: Uri = link.parse().expect("an address");
        let asked = percent_decode(uri.path());
        assert_eq!(asked.strip_prefix("/storage/"), Some(path.as_str()), "{link}");
        let Query(query) = Query::<LinkQuery>::try_from_uri(&uri).expect("a query of ours");
        assert_eq!(query.name, name);
        assert_eq!(query.verify(&signer, Method::Put, &path, 0), Ok(()), "{link}");
        let forged = Err(SignatureError::Forged);
        assert_eq!(query.verify(&signer, Method::Get, &path, 0), forged);
        assert_eq!(query.verify(&signer, Method::Put, &format!("{path}x"), 0), forged);
    }
    let (_, inline) = content_type(name);
    let disposition = content::disposition(name, inline);
    assert!(HeaderValue::from_str(&disposition).is_ok(), "{disposition}");
    assert_eq!(disposition.matches('"').count(), 2, "{disposition}");
    assert_eq!(disposition.matches(';').count(), 2, "{disposition}");
}

/// A path of ours, in which everything is escaped that means something elsewhere.
fn percent_decode(path: &str) -> String {
    url::form_urlencoded::parse(path.as_bytes())
        .map(|(segments, _)| segments.into_owned())
        .collect()
}

/// Reads what a request for stored bytes says: a query that nobody signed, a path by digest, a range.
pub fn storage_request(query: &str, path: &str, range: &str) {
    if let Ok(uri) = format!("/storage/runs/a/p/r?{query}").parse::<Uri>()
        && let Ok(Query(query)) = Query::<LinkQuery>::try_from_uri(&uri)
    {
        let signer = Signer::new(&KEY);
        let forged = Err(SignatureError::Forged);
        assert_eq!(query.verify(&signer, Method::Get, "runs/a/p/r", 0), forged);
    }
    if let Some(named) = Named::v1(path) {
        assert!(!named.entity.contains('/') && !named.file.contains('/'));
    }
    if let Some(named) = Named::v2(path) {
        assert!(!named.entity.contains('/') && !named.file.contains('/'));
    }
    let Some(wanted) = content::range(range) else { return };
    for size in [0, 1, 10, u64::MAX] {
        if let Some(part) = wanted.resolve(size) {
            assert!(part.start < part.end && part.end <= size, "{range:?} of {size}");
        }
    }
}

/// Reads the credential of a request, and keys that claim to be a lease's: only the key that a pop
/// handed out names the lease. `lease`: three numbers with `_` between them.
pub fn credentials(authorization: &[u8], cookie: &[u8], lease: &str) {
    let headers: HeaderMap = [(header::AUTHORIZATION, authorization), (header::COOKIE, cookie)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, value)| Some((name, HeaderValue::from_bytes(value).ok()?)))
        .collect();
    match auth::presented(&headers) {
        Ok(Presented::Key(key)) => {
            assert!(headers.contains_key(header::AUTHORIZATION));
            assert_eq!(run_key::verify(&KEY, &key), None, "nobody made {key:?}");
        }
        Ok(Presented::Session(session)) => {
            assert!(!headers.contains_key(header::AUTHORIZATION));
            assert!(!session.is_empty() && !session.contains(';'));
        }
        Err(_) => {}
    }
    let numbers: Vec<i64> = lease.split('_').filter_map(|number| number.parse().ok()).collect();
    let [entity, number, epoch] = numbers[..] else { return };
    let handle = LeaseHandle {
        item: ItemId { entity, number },
        epoch,
    };
    let key = run_key::mint(&KEY, handle);
    assert_eq!(run_key::verify(&KEY, &key), Some(handle));
    let (start, proof) = key.rsplit_once('_').expect("a proof");
    let (prefix, _) = start.split_once('-').expect("a prefix");
    let respelled = format!("{prefix}-{lease}_{proof}");
    if run_key::verify(&KEY, &respelled).is_some() {
        assert_eq!(respelled, key, "one lease has one key");
    }
}

/// Pages through a listing of ten rows from a cursor, and looks for names by a pattern.
pub fn listing(after: &str, first: i32, name: &str, pattern: &str) {
    const ROWS: usize = 10;
    if let Ok(slice) = Slice::of(0..ROWS, Some(first), Some(after)) {
        let rows: Vec<usize> = slice.rows.iter().map(|(_, row)| *row).collect();
        assert!(rows.iter().zip(rows.iter().skip(1)).all(|(row, next)| row + 1 == *next));
        assert!(rows.len() <= usize::try_from(first).expect("negative numbers are refused"));
        match rows.last() {
            Some(last) => assert_eq!(slice.page_info.has_next_page, last + 1 < ROWS),
            None => assert_eq!(slice.page_info.end_cursor, None),
        }
        if let Some(end) = &slice.page_info.end_cursor {
            let rest = Slice::of(0..ROWS, None, Some(end)).expect("a cursor of ours");
            assert_eq!(
                rest.rows.first().map(|(_, row)| *row),
                rows.last().map(|row| row + 1).filter(|row| *row < ROWS)
            );
        }
    }
    let itself: String = name.chars().flat_map(|c| ['\\', c]).collect();
    assert!(like(name, &itself), "{name:?}");
    // A last `\\` would escape what is added.
    if like(name, pattern) && !pattern.ends_with('\\') {
        assert!(like(name, &format!("{pattern}%")) && like(&format!("x{name}"), &format!("_{pattern}")));
    }
    if check_file_name(name).is_ok() {
        assert!(!name.contains(['\n', '\r', '\0']));
    }
}

/// Reads the sign-in form: nothing in it leads away from the server or becomes part of the page.
pub fn sign_in(posted: &[u8]) {
    let request = Request::post("/login")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(posted.to_owned()))
        .expect("a request");
    let form = RUNTIME.block_on(axum::Form::<sign_in::Submitted>::from_request(request, &()));
    let Ok(axum::Form(submitted)) = form else { return };

    let next = visitor::local_address(submitted.next.as_deref());
    let here = Url::parse("http://localhost:8080/login").expect("an address");
    let there = here.join(next).expect("an address on this server");
    assert_eq!(there.origin(), here.origin(), "{next:?} leads away");
    let redirect = Redirect::to(next).into_response();
    assert!(redirect.status().is_redirection(), "{next:?} is no address");

    let page = |next: &str, problem: &str| sign_in::form(Language::English, next, Some(problem)).into_string();
    let written = page(next, &submitted.username);
    assert_eq!(elements(&written), elements(&page("/", "x")), "{next:?}");
    assert_eq!(written.matches('"').count(), page("/", "x").matches('"').count());
}
