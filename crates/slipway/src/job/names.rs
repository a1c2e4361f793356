//! Names of jobs, by the official client's rules.

/// The longest name of an artifact.
const LONGEST: usize = 128;

/// A text as the name of an artifact: other characters than letters, digits, `_`, `-` and `.`
/// become `_`, repeated `_` one, and the middle of a long name `..`.
pub(crate) fn safe(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for c in text.chars() {
        let c = if c.is_ascii_alphanumeric() || "_-.".contains(c) {
            c
        } else {
            '_'
        };
        if !(c == '_' && name.ends_with('_')) {
            name.push(c);
        }
    }
    if name.len() <= LONGEST {
        return name;
    }
    let half = (LONGEST - 2) / 2;
    format!("{}..{}", &name[..half], &name[name.len() - half..])
}

/// The name of a code job whose maker gave none.
pub(crate) fn of_code(folder: &str, entry_point: &[String]) -> String {
    let program = entry_point.last().map_or("", String::as_str);
    let path = format!("{}/{program}", folder.trim_end_matches('/'));
    let path = path.trim_start_matches("./").trim_start_matches('/');
    format!("job-{}", safe(path))
}

/// The name of an image job whose maker gave none, and the alias that the image's tag becomes.
pub(crate) fn of_image(reference: &str) -> (String, Option<String>) {
    let untagged = reference.split('@').next().unwrap_or(reference);
    // A colon before the last slash is a registry's port.
    let last = untagged.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match untagged[last..].split_once(':') {
        Some((name, tag)) => (format!("{}{name}", &untagged[..last]), Some(tag.to_owned())),
        None => (untagged.to_owned(), None),
    };
    (format!("job-{}", safe(&name)), tag.map(|tag| safe(&tag)))
}

#[cfg(test)]
mod tests {
    use super::{of_code, of_image, safe};

    #[test]
    fn names_are_safe_for_artifacts() {
        for (text, name) in [("train.py", "train.py"), ("a b//c", "a_b_c"), ("ünï", "_n_")] {
            assert_eq!(safe(text), name);
        }
        assert_eq!(safe(&"x".repeat(300)).len(), 128);
    }

    #[test]
    fn jobs_without_a_name_get_that_of_their_source() {
        let entry = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(of_code("./src/", &entry(&["python", "train.py"])), "job-src_train.py");
        assert_eq!(of_code("code", &entry(&[])), "job-code_");
        for (image, name, alias) in [
            ("python:3.11-slim", "job-python", Some("3.11-slim")),
            ("host:5000/team/train", "job-host_5000_team_train", None),
            ("host:5000/team/train:v1", "job-host_5000_team_train", Some("v1")),
            ("train@sha256:abc", "job-train", None),
        ] {
            assert_eq!(of_image(image), (name.to_owned(), alias.map(str::to_owned)), "{image}");
        }
    }
}
