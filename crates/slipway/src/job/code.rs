//! Collecting the code of a job from a folder.

use std::fs;
use std::path::Path;

use slipway_client::{Content, SourceFile};

use super::ignore::Rules;
use crate::config::files::{cannot, read_or_empty};
use crate::exit::{Error, Result};

/// The most files that a code job may hold.
const MOST_FILES: usize = 100_000;

/// Every file of a folder that its `.wandbignore` does not leave out, sorted by name.
///
/// Links to files are followed; links to folders are refused, because they can lead in circles or
/// out of the folder.
pub(crate) fn collect(folder: &Path) -> Result<Vec<SourceFile>> {
    if !folder.is_dir() {
        return Err(Error::usage(format!("`{}` is not a folder", folder.display()))
            .with_hint("a code job is made of a folder that holds the program"));
    }
    let rules = Rules::parse(&read_or_empty(&folder.join(".wandbignore"))?);
    let mut files = Vec::new();
    walk(folder, "", &rules, &mut files)?;
    if files.is_empty() {
        return Err(Error::usage(format!("`{}` holds no files", folder.display())));
    }
    files.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(files)
}

/// Whether the folder's `requirements.txt` names a package.
pub(crate) fn requires(folder: &Path, package: &str) -> Result<bool> {
    let text = read_or_empty(&folder.join("requirements.txt"))?;
    Ok(text
        .lines()
        .any(|line| !line.trim_start().starts_with('#') && line.contains(package)))
}

/// Checks a version of Python: 3 and its minor version; a patch is cut off.
pub(crate) fn check_runtime(text: &str) -> Result<String> {
    let mut parts = text.trim().trim_start_matches("python-").split('.');
    let minor = parts.next() == Some("3");
    match parts.next().filter(|_| minor) {
        Some(number) if !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()) => Ok(format!("3.{number}")),
        _ => Err(Error::usage(format!("`{text}` is no version of Python 3"))
            .with_hint("write major and minor version, such as 3.11")),
    }
}

/// The version of Python that a folder asks for, else that of the `python3` here, else none.
pub(crate) fn find_runtime(folder: &Path) -> Result<String> {
    for name in ["runtime.txt", ".python-version"] {
        let text = read_or_empty(&folder.join(name))?;
        if let Some(line) = text.lines().next().filter(|line| !line.trim().is_empty()) {
            return check_runtime(line).map_err(|error| error.context(format!("`{}`", folder.join(name).display())));
        }
    }
    let asked = std::process::Command::new("python3").arg("--version").output();
    let version = asked.ok().and_then(|output| {
        let text = String::from_utf8(output.stdout).ok()?;
        check_runtime(text.trim().strip_prefix("Python ")?).ok()
    });
    Ok(version.unwrap_or_default())
}

fn walk(folder: &Path, prefix: &str, rules: &Rules, files: &mut Vec<SourceFile>) -> Result<()> {
    let unreadable = |error: std::io::Error| cannot("read", folder, &error);
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(Error::usage(format!("`{}` is not a name in UTF-8", path.display())));
        };
        let relative = if prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{prefix}/{name}")
        };
        let link = fs::symlink_metadata(&path).map_err(|error| cannot("read", &path, &error))?;
        // A link that leads nowhere is reported by its rule's sake only if it would be code.
        let metadata = if link.is_symlink() {
            fs::metadata(&path).unwrap_or(link.clone())
        } else {
            link.clone()
        };
        if rules.ignores(&relative, metadata.is_dir()) {
            continue;
        }
        if metadata.is_dir() {
            if link.is_symlink() {
                return Err(Error::usage(format!("`{}` is a link to a folder", path.display()))
                    .with_hint("copy the folder, or leave the link out with a line in `.wandbignore`"));
            }
            walk(&path, &relative, rules, files)?;
        } else if metadata.is_file() {
            if files.len() == MOST_FILES {
                return Err(Error::usage(format!("the folder holds more than {MOST_FILES} files"))
                    .with_hint("leave data out with lines in `.wandbignore`"));
            }
            files.push(SourceFile {
                name: relative,
                content: Content::File(path),
            });
        } else {
            return Err(
                Error::usage(format!("`{}` is neither a file nor a folder", path.display()))
                    .with_hint("leave it out with a line in `.wandbignore`"),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::collect;
    use std::fs;

    #[test]
    fn code_is_what_the_rules_leave() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (path, text) in [
            ("train.py", "x"),
            ("src/net.py", "y"),
            (".git/config", "no"),
            ("wandb/run/log", "no"),
            ("data/big.csv", "no"),
            (".wandbignore", "data/\n"),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let names: Vec<String> = collect(root).unwrap().into_iter().map(|file| file.name).collect();
        assert_eq!(names, ["src/net.py", "train.py"]);
    }

    #[test]
    fn the_version_of_python_is_that_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("runtime.txt"), "python-3.12.1\n").unwrap();
        assert_eq!(super::find_runtime(folder.path()).unwrap(), "3.12");
        for (text, version) in [
            ("3.11", Some("3.11")),
            ("3.9.2", Some("3.9")),
            ("2.7", None),
            ("3", None),
            ("x", None),
        ] {
            assert_eq!(super::check_runtime(text).ok().as_deref(), version, "{text}");
        }
    }

    #[test]
    fn what_is_no_code_folder_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            collect(&folder.path().join("absent"))
                .unwrap_err()
                .to_string()
                .contains("not a folder")
        );
        assert!(
            collect(folder.path())
                .unwrap_err()
                .to_string()
                .contains("holds no files")
        );
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
        assert!(
            collect(folder.path())
                .unwrap_err()
                .to_string()
                .contains("link to a folder")
        );
    }
}
