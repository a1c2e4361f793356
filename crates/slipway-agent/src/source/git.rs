//! Checks out the commit of a git job with the `git` command of the agent's machine.
//!
//! A job's remote is a submitter's text. Only remotes that reach another machine over an
//! authenticated transport are allowed; the rule is applied before any git process runs, and git is
//! told to use no other transport, submodules included.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use sha2::{Digest as _, Sha256};
use slipway_wire::job::Git;

use crate::state_directory::random_base36;

/// Characters of git's own words that an error repeats.
const EXCERPT: usize = 500;

/// Why a repository could not be checked out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("the git remote `{0}` is refused; use `https://…`, `ssh://…` or `user@host:path`")]
    Remote(String),
    #[error("the git reference `{0}` is refused: it begins with `-` or is no single word")]
    Reference(String),
    #[error("could not run `git`: {0}; install git on the agent's machine")]
    NoGit(std::io::Error),
    #[error("`git {action}` failed: {words}")]
    Failed { action: &'static str, words: String },
    #[error("could not keep the checkout in `{}`: {source}", path.display())]
    Cache { path: PathBuf, source: std::io::Error },
}

/// Whether a remote may be fetched from.
fn is_allowed(remote: &str) -> bool {
    if remote.starts_with('-') || remote.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return false;
    }
    if let Some(rest) = remote
        .strip_prefix("https://")
        .or_else(|| remote.strip_prefix("ssh://"))
    {
        // Neither a user nor a host may be an option of ssh.
        let authority = rest.split('/').next().unwrap_or_default();
        return !authority.is_empty()
            && !authority.contains(['?', '#'])
            && !authority.ends_with('@')
            && authority.split('@').all(|part| !part.starts_with('-'));
    }
    // The short form, `user@host:path`. A second colon right away would name a remote helper.
    let Some((host, path)) = remote.split_once(':') else {
        return false;
    };
    let Some((user, host)) = host.split_once('@') else {
        return false;
    };
    let word = |text: &str| !text.is_empty() && !text.starts_with('-') && !text.contains(['/', '@']);
    word(user) && word(host) && !path.is_empty() && !path.starts_with([':', '-'])
}

/// What of a repository is checked out: a commit, a branch or a tag.
///
/// # Errors
/// If the remote or the reference may not be given to git.
pub(crate) fn reference(git: &Git) -> Result<&str, GitError> {
    if !is_allowed(&git.remote) {
        return Err(GitError::Remote(without_user_information(&git.remote)));
    }
    let reference = git.commit.as_deref().filter(|text| !text.is_empty()).unwrap_or("HEAD");
    if reference.starts_with('-') || reference.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(GitError::Reference(reference.to_owned()));
    }
    Ok(reference)
}

/// The text with `user:password@` of every URL in it left out: errors reach the item's page.
pub(crate) fn without_user_information(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        // Quotes may be part of a password.
        let end = after
            .find(|c: char| c == '/' || c.is_whitespace())
            .unwrap_or(after.len());
        rest = after[..end].rfind('@').map_or(after, |sign| &after[sign + 1..]);
    }
    clean.push_str(rest);
    clean
}

/// The checkout of a commit, from the cache if it was fetched before.
pub(crate) async fn fetch(cache: &Path, git: &Git) -> Result<PathBuf, GitError> {
    let reference = reference(git)?;
    let parent = cache.join("git");
    let kept = parent.join(cache_key(&git.remote, reference));
    // Only a full commit id means the same content for ever.
    let permanent = matches!(reference.len(), 40 | 64) && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
    if permanent && kept.is_dir() {
        return Ok(kept);
    }
    let partial = parent.join(format!("{}.partial", random_base36(16)));
    let cache_error = |path: &Path| {
        let path = path.to_owned();
        move |source| GitError::Cache { path, source }
    };
    tokio::fs::create_dir_all(&partial)
        .await
        .map_err(cache_error(&partial))?;
    if let Err(error) = check_out(&partial, &git.remote, reference).await {
        let _ = tokio::fs::remove_dir_all(&partial).await;
        return Err(error);
    }
    if !permanent {
        return Ok(partial);
    }
    match tokio::fs::rename(&partial, &kept).await {
        Ok(()) => {}
        // Another item checked out the same commit meanwhile.
        Err(_) if kept.is_dir() => {
            let _ = tokio::fs::remove_dir_all(&partial).await;
        }
        Err(source) => return Err(GitError::Cache { path: kept, source }),
    }
    Ok(kept)
}

async fn check_out(directory: &Path, remote: &str, reference: &str) -> Result<(), GitError> {
    run(directory, "init", &["init", "--quiet"]).await?;
    run(directory, "remote", &["remote", "add", "--", "origin", remote]).await?;
    run(
        directory,
        "fetch",
        &[
            "fetch",
            "--quiet",
            "--tags",
            "origin",
            "HEAD",
            "+refs/heads/*:refs/remotes/origin/*",
        ],
    )
    .await?;
    let branch = format!("refs/remotes/origin/{reference}");
    let target = if reference == "HEAD" {
        "FETCH_HEAD"
    } else if run(directory, "rev-parse", &["rev-parse", "--verify", "--quiet", &branch])
        .await
        .is_ok()
    {
        &branch
    } else {
        reference
    };
    run(directory, "checkout", &["checkout", "--quiet", "--detach", target]).await?;
    run(
        directory,
        "submodule",
        &["submodule", "--quiet", "update", "--init", "--recursive"],
    )
    .await
}

async fn run(directory: &Path, action: &'static str, arguments: &[&str]) -> Result<(), GitError> {
    let output = tokio::process::Command::new("git")
        .args([
            "-c",
            "protocol.allow=never",
            "-c",
            "protocol.https.allow=always",
            "-c",
            "protocol.ssh.allow=always",
        ])
        // A checked-out file must not become a program that git runs.
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", "https:ssh")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(GitError::NoGit)?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(GitError::Failed {
        action,
        words: without_user_information(words.trim()).chars().take(EXCERPT).collect(),
    })
}

fn cache_key(remote: &str, reference: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(remote.as_bytes());
    hash.update([0]);
    hash.update(reference.as_bytes());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_leave_out_the_user_information_of_urls() {
        for (text, clean) in [
            ("https://user:token@example.com/repo", "https://example.com/repo"),
            (
                "fatal: 'https://token@host/a@b' not found",
                "fatal: 'https://host/a@b' not found",
            ),
            ("http://a@b@c/x ssh://git@host", "http://c/x ssh://host"),
            ("https://user:to'k\"en@example.com/repo", "https://example.com/repo"),
            ("git@example.com:team/repo.git", "git@example.com:team/repo.git"),
            ("://", "://"),
        ] {
            assert_eq!(without_user_information(text), clean);
        }
    }

    #[test]
    fn only_remotes_on_other_machines_are_allowed() {
        for remote in [
            "https://example.com/team/repo.git",
            "https://user@example.com:8443/repo",
            "ssh://git@example.com/repo.git",
            "git@example.com:team/repo.git",
        ] {
            assert!(is_allowed(remote), "{remote}");
        }
        for remote in [
            "http://example.com/repo",
            "git://example.com/repo",
            "file:///etc",
            "/srv/repo",
            "../repo",
            "ext::sh -c id",
            "user@ext::sh",
            "-oProxyCommand=id",
            "-u@host:path",
            "git@-oProxyCommand=id:path",
            "git@host:-path",
            "https://",
            "ssh://-oProxyCommand=id/x",
            "ssh://git@-oProxyCommand=id/x",
            "https://-u@example.com/x",
            "https://user@/x",
            "https://#user@example.com/x",
            "ssh://?-oProxyCommand=id",
            "https://example.com/a b",
            "host:path",
            "",
        ] {
            assert!(!is_allowed(remote), "{remote}");
        }
    }

    #[tokio::test]
    async fn refused_remotes_and_references_reach_no_git() {
        let cache = tempfile::tempdir().unwrap();
        let git = |remote: &str, commit: &str| Git {
            remote: remote.to_owned(),
            commit: Some(commit.to_owned()),
        };
        let refused = fetch(cache.path(), &git("file:///etc", "main")).await;
        assert!(matches!(refused, Err(GitError::Remote(_))));
        let refused = fetch(cache.path(), &git("https://example.com/r", "--upload-pack=id")).await;
        assert!(matches!(refused, Err(GitError::Reference(_))));
        assert!(cache.path().read_dir().unwrap().next().is_none());
    }
}
