//! Signed addresses: whoever holds one may do one thing with one blob until a time.
//!
//! Uploads and downloads of the official client carry no credentials, so their addresses must speak
//! for themselves. A signature covers the method, the path, the end of validity, the expected MD5
//! and a context, but not the host: clients reach a server by different names.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use slipway_model::Millis;

/// Signs and verifies [`Grant`]s with a key that all servers of an installation share.
#[derive(Clone)]
pub struct Signer {
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

/// What an address allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Read the blob.
    Get,
    /// Write the blob.
    Put,
}

impl Method {
    /// The method of HTTP.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
        }
    }
}

/// What is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant<'a> {
    /// What may be done.
    pub method: Method,
    /// The blob's path below the root.
    pub path: &'a str,
    /// Until when.
    pub expires_at: Millis,
    /// Base64 of the MD5 that the bytes of an upload must have.
    pub md5: Option<&'a str>,
    /// What else the holder of the address may rely on, such as the file's name for people. Opaque
    /// here; empty if there is nothing.
    pub context: &'a str,
}

/// Why a signed address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Its time is over.
    #[error("this address has expired; ask the server for a new one")]
    Expired,
    /// It was not signed by this installation, or was changed afterwards.
    #[error("the signature of this address does not match it")]
    Forged,
}

impl Signer {
    /// Derives the signing key from the installation's key.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        // The installation's key also serves other purposes; a key of its own for each keeps a
        // signature of one from ever being one of another.
        let derived = mac(key)
            .chain_update(b"slipway signed address v1")
            .finalize()
            .into_bytes();
        Self { mac: mac(&derived) }
    }

    /// The signature, safe in a query string.
    #[must_use]
    pub fn sign(&self, grant: &Grant<'_>) -> String {
        URL_SAFE_NO_PAD.encode(self.digest(grant).finalize().into_bytes())
    }

    /// Checks a signature, in a time that does not depend on where it differs.
    ///
    /// # Errors
    /// [`SignatureError::Forged`] before [`SignatureError::Expired`], so that a forged address
    /// learns nothing.
    pub fn verify(&self, grant: &Grant<'_>, signature: &str, now: Millis) -> Result<(), SignatureError> {
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| SignatureError::Forged)?;
        self.digest(grant)
            .verify_slice(&signature)
            .map_err(|_| SignatureError::Forged)?;
        if now >= grant.expires_at {
            return Err(SignatureError::Expired);
        }
        Ok(())
    }

    fn digest(&self, grant: &Grant<'_>) -> Hmac<Sha256> {
        let expires_at = grant.expires_at.to_string();
        let md5 = grant.md5.unwrap_or_default();
        let parts = [grant.method.as_str(), grant.path, &expires_at, md5, grant.context];
        parts.iter().fold(self.mac.clone(), |mac, part| {
            // Lengths keep the boundaries between parts, whatever the parts contain.
            mac.chain_update((part.len() as u64).to_be_bytes())
                .chain_update(part.as_bytes())
        })
    }
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: Grant<'_> = Grant {
        method: Method::Put,
        path: "runs/7/output.log",
        expires_at: 1_000,
        md5: Some("CY9rzUYh03PK3k6DJie09g=="),
        context: "",
    };

    #[test]
    fn a_signature_holds_for_what_was_signed_and_nothing_else() {
        let signer = Signer::new(&[1; 32]);
        let signature = signer.sign(&GRANT);
        assert_eq!(signer.verify(&GRANT, &signature, 999), Ok(()));
        let changed = [
            Grant {
                method: Method::Get,
                ..GRANT
            },
            Grant {
                path: "runs/8/output.log",
                ..GRANT
            },
            Grant {
                path: "runs/7/output.lo",
                context: "g",
                ..GRANT
            },
            Grant {
                expires_at: 2_000,
                ..GRANT
            },
            Grant { md5: None, ..GRANT },
            Grant { context: "x", ..GRANT },
        ];
        for grant in changed {
            assert_eq!(
                signer.verify(&grant, &signature, 0),
                Err(SignatureError::Forged),
                "{grant:?}"
            );
        }
        for bad in ["", "!", &signature[1..], &format!("{signature}A")] {
            assert_eq!(signer.verify(&GRANT, bad, 0), Err(SignatureError::Forged), "{bad:?}");
        }
        let other = Signer::new(&[2; 32]);
        assert_eq!(other.verify(&GRANT, &signature, 0), Err(SignatureError::Forged));
    }

    #[test]
    fn an_address_ends_at_its_time() {
        let signer = Signer::new(&[1; 32]);
        let signature = signer.sign(&GRANT);
        assert_eq!(signer.verify(&GRANT, &signature, 1_000), Err(SignatureError::Expired));
        assert_eq!(signer.verify(&GRANT, "AAAA", 1_000), Err(SignatureError::Forged));
    }
}
