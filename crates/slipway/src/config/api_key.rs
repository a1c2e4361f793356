//! The form of API keys.

/// The shortest secret that the official client accepts.
const SHORTEST: usize = 40;

/// Says what is wrong with a key by the official client's rule: three parts of a JWT, or an
/// optional prefix that ends with the first `-` and a secret of 40 characters or more.
pub(crate) fn check(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("the API key is empty".to_owned());
    }
    let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
    let parts: Vec<&str> = key.split('.').collect();
    if parts.len() == 3 && parts.iter().all(|part| word(part)) {
        return Ok(());
    }
    let secret = key.split_once('-').map_or(key, |(_, secret)| secret);
    if !word(secret) {
        return Err("an API key holds only letters, digits, `_` and `-`".to_owned());
    }
    let length = secret.chars().count();
    if length < SHORTEST {
        return Err(format!(
            "an API key has {SHORTEST} characters or more; this one has {length}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn keys_are_judged_as_the_official_client_judges_them() {
        for (key, good) in [
            ("0123456789abcdef0123456789abcdef01234567", true),
            ("local-0123456789abcdef0123456789abcdef01234567", true),
            ("user_w1-0123456789abcdef0123456789abcdef01234567", true),
            ("head.pay_load.sig-nature", true),
            ("", false),
            ("short", false),
            ("local-short", false),
            ("0123456789abcdef 0123456789abcdef0123456", false),
            ("0123456789abcdef0123456789abcdef0123456\n", false),
        ] {
            assert_eq!(check(key).is_ok(), good, "{key:?}");
        }
    }
}
