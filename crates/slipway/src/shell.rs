//! Splitting and quoting words as a POSIX shell does, without expanding anything.

/// A quote that is never closed, or a backslash at the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unterminated;

/// The words of a command line.
pub(crate) fn split(text: &str) -> Result<Vec<String>, Unterminated> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(Unterminated)? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(Unterminated)? {
                        '"' => break,
                        '\\' => match chars.next().ok_or(Unterminated)? {
                            escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                            other => word.extend(['\\', other]),
                        },
                        other => word.push(other),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next().ok_or(Unterminated)?),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// A word in a form that [`split`] reads as that word again.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\"'\"'"))
}

#[cfg(test)]
mod tests {
    use super::{Unterminated, quote, split};
    use proptest::prelude::*;

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        for (text, words) in [
            ("python train.py", vec!["python", "train.py"]),
            ("  a\t b\n", vec!["a", "b"]),
            ("sh -c 'echo $HOME; ls'", vec!["sh", "-c", "echo $HOME; ls"]),
            (r#"a"b c"d "" \ e"#, vec!["ab cd", "", " e"]),
            (r#""\"\\\n""#, vec!["\"\\\\n"]),
            ("", vec![]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text:?}");
        }
        for text in ["'a", "\"a", "a\\"] {
            assert_eq!(split(text), Err(Unterminated), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_quoted_word_is_one_word(word in ".*") {
            prop_assert_eq!(split(&quote(&word)), Ok(vec![word]));
        }
    }
}
