//! Addresses of stored files that authorise themselves.
//!
//! The official client sends no credentials with uploads and downloads, so each address carries a
//! signature over what it allows. Names travel in the query: clients and proxies rewrite `..` and
//! encoded slashes in paths.

use slipway_model::Millis;
use slipway_model::id::RunName;
use slipway_store::blobs::{Grant, Method, SignatureError, Signer};

use super::content::percent_encode;

/// How long an address holds: long enough for the slowest upload that was prepared in one request.
pub(crate) const LIFETIME: Millis = 24 * 3_600_000;

/// The path of a run's files.
#[must_use]
pub(crate) fn run_path(run: &RunName) -> String {
    format!("runs/{}/{}/{}", run.entity, run.project, run.run)
}

/// Builds addresses for one caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Links<'a> {
    /// Signs them.
    pub(crate) signer: &'a Signer,
    /// The server's address as the caller sees it, without a trailing slash.
    pub(crate) base_url: &'a str,
    /// The time now.
    pub(crate) now: Millis,
}

impl Links<'_> {
    /// Where a file of a run is uploaded or downloaded.
    #[must_use]
    pub(crate) fn run_file(&self, method: Method, run: &RunName, name: &str) -> String {
        self.link(method, &run_path(run), name, None)
    }

    /// Where a blob is uploaded or downloaded. `name` is what people call it, `md5` the base64 form
    /// of what an upload must hash to.
    #[must_use]
    pub(crate) fn blob(&self, method: Method, blob: &str, name: &str, md5: Option<&str>) -> String {
        self.link(method, &format!("blobs/{blob}"), name, md5)
    }

    fn link(&self, method: Method, path: &str, name: &str, md5: Option<&str>) -> String {
        let expires_at = self.now + LIFETIME;
        let signature = self.signer.sign(&Grant {
            method,
            path,
            expires_at,
            md5,
            context: name,
        });
        let path: Vec<String> = path.split('/').map(percent_encode).collect();
        let mut link = format!(
            "{}/storage/{}?name={}&expires={expires_at}",
            self.base_url,
            path.join("/"),
            percent_encode(name)
        );
        if let Some(md5) = md5 {
            link.push_str("&md5=");
            link.push_str(&percent_encode(md5));
        }
        link.push_str("&signature=");
        link.push_str(&signature);
        link
    }
}

/// The query of an address.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct LinkQuery {
    /// The file's name.
    pub(crate) name: String,
    /// When the address ends.
    pub(crate) expires: Millis,
    /// Base64 of the MD5 that an upload must have.
    pub md5: Option<String>,
    /// The signature.
    pub(crate) signature: String,
}

impl LinkQuery {
    /// Checks that the address was signed for this method and path and holds still.
    ///
    /// # Errors
    /// If it was not, or its time is over.
    pub(crate) fn verify(
        &self,
        signer: &Signer,
        method: Method,
        path: &str,
        now: Millis,
    ) -> Result<(), SignatureError> {
        let grant = Grant {
            method,
            path,
            expires_at: self.expires,
            md5: self.md5.as_deref(),
            context: &self.name,
        };
        signer.verify(&grant, &self.signature, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_for_its_method_path_name_and_time() {
        let signer = Signer::new(&[7; 32]);
        let links = Links {
            signer: &signer,
            base_url: "http://localhost:8080",
            now: 1_000,
        };
        let run = RunName {
            entity: "alice".to_owned(),
            project: "my proj".to_owned(),
            run: "r1".to_owned(),
        };
        let link = links.run_file(Method::Put, &run, "../media/a=1 図.png");
        let (address, query) = link.split_once('?').unwrap();
        assert_eq!(address, "http://localhost:8080/storage/runs/alice/my%20proj/r1");
        assert!(!query.contains("../") && !query.contains(' '), "{query}");

        let fields: std::collections::HashMap<String, String> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let query = LinkQuery {
            name: fields["name"].clone(),
            expires: fields["expires"].parse().unwrap(),
            md5: None,
            signature: fields["signature"].clone(),
        };
        let path = run_path(&run);
        assert_eq!(query.verify(&signer, Method::Put, &path, 2_000), Ok(()));
        for (query, method, path, now, error) in [
            (query.clone(), Method::Get, path.as_str(), 2_000, SignatureError::Forged),
            (
                query.clone(),
                Method::Put,
                "runs/bob/my proj/r1",
                2_000,
                SignatureError::Forged,
            ),
            (
                query.clone(),
                Method::Put,
                path.as_str(),
                1_000 + LIFETIME,
                SignatureError::Expired,
            ),
            (
                LinkQuery {
                    name: "other".to_owned(),
                    ..query.clone()
                },
                Method::Put,
                path.as_str(),
                2_000,
                SignatureError::Forged,
            ),
            (
                LinkQuery {
                    expires: i64::MAX,
                    ..query
                },
                Method::Put,
                path.as_str(),
                2_000,
                SignatureError::Forged,
            ),
        ] {
            assert_eq!(query.verify(&signer, method, path, now), Err(error));
        }
    }
}
