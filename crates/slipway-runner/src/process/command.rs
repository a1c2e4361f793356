//! Finds the program of a job's command.

use std::path::{Path, PathBuf};

/// Why a command cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    /// There is nothing to run.
    #[error(
        "the job has no entry point and the launch gives none; give one, for example `--entry-point \"python main.py\"`"
    )]
    Empty,
    /// No directory of `PATH` holds the program.
    #[error("the program `{program}` is not on the agent's PATH ({path}); install it on the agent's machine")]
    NotFound {
        /// What was looked for.
        program: String,
        /// Where.
        path: String,
    },
}

/// Puts the program's path at the head of a command.
///
/// Jobs record the interpreter that created them as `python`, `python3.11` or even
/// `pythonCPython 3.11`; a head that begins with `python` means the interpreter on `path`: as
/// written if it is there, else `python`, else `python3`. A program with a slash is taken as it is,
/// relative to the working directory.
pub(crate) fn resolve(
    command: &[String],
    path: &str,
    working_directory: &Path,
    is_program: impl Fn(&Path) -> bool,
) -> Result<Vec<String>, CommandError> {
    let [head, arguments @ ..] = command else {
        return Err(CommandError::Empty);
    };
    if head.trim().is_empty() {
        return Err(CommandError::Empty);
    }
    let program = if head.contains('/') {
        working_directory.join(head)
    } else {
        let python = head.starts_with("python");
        let candidates = std::iter::once(head.as_str()).chain(["python", "python3"].into_iter().filter(|_| python));
        find(candidates, path, is_program).ok_or_else(|| CommandError::NotFound {
            program: head.clone(),
            path: path.to_owned(),
        })?
    };
    Ok(std::iter::once(program.to_string_lossy().into_owned())
        .chain(arguments.iter().cloned())
        .collect())
}

fn find<'a>(
    mut candidates: impl Iterator<Item = &'a str>,
    path: &str,
    is_program: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    candidates.find_map(|name| {
        path.split(':')
            .filter(|directory| directory.starts_with('/'))
            .map(|directory| Path::new(directory).join(name))
            .find(|candidate| is_program(candidate))
    })
}

/// Whether `path` is a file that somebody may execute.
pub(crate) fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split('|').map(str::to_owned).collect()
    }

    #[test]
    fn programs_are_found_on_the_path_of_the_job() {
        for (command, existing, expected) in [
            ("python|main.py", "/v/python /u/python", "/v/python|main.py"),
            ("python|main.py", "/u/python3", "/u/python3|main.py"),
            ("python3.11|main.py", "/u/python3.11 /u/python", "/u/python3.11|main.py"),
            ("python3.9|main.py", "/u/python3", "/u/python3|main.py"),
            ("pythonCPython 3.11|main.py", "/u/python", "/u/python|main.py"),
            ("bash|-c|exit 0", "/u/bash", "/u/bash|-c|exit 0"),
            ("./run.sh|x", "", "/srv/job/./run.sh|x"),
            ("/opt/run", "", "/opt/run"),
        ] {
            let resolved = resolve(&words(command), "/v:.:/u:", Path::new("/srv/job"), |path| {
                existing.split(' ').any(|name| Path::new(name) == path)
            });
            assert_eq!(resolved, Ok(words(expected)), "{command}");
        }
    }

    #[test]
    fn a_missing_program_is_named_with_the_path() {
        let error = resolve(&words("perl|x"), "/u", Path::new("/w"), |_| false).unwrap_err();
        assert!(error.to_string().contains("`perl`") && error.to_string().contains("/u"));
        for empty in [vec![], vec![String::new()]] {
            assert_eq!(
                resolve(&empty, "/u", Path::new("/w"), |_| true),
                Err(CommandError::Empty)
            );
        }
    }
}
