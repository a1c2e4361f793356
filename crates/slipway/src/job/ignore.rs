//! Which files of a folder are not code: `.wandbignore`, in the syntax of `.gitignore`.

/// Folders and files that never belong to a job.
const ALWAYS: &str = ".git/\n.wandb/\n/wandb/\n__pycache__/\n*.pyc\n.wandbignore\n";

/// The rules of a folder; the last that matches decides.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    /// One per folder level; an empty rule list never matches.
    segments: Vec<String>,
    keeps: bool,
    folders_only: bool,
}

impl Rules {
    /// The rules of a `.wandbignore` text, after those that always hold.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = ALWAYS.lines().chain(text.lines());
        Self {
            rules: lines.filter_map(Rule::parse).collect(),
        }
    }

    /// Whether a path below the folder, with `/` between names, is left out. What is in a folder
    /// that is left out is never asked for.
    pub(crate) fn ignores(&self, path: &str, is_folder: bool) -> bool {
        let names: Vec<&str> = path.split('/').collect();
        let last = self.rules.iter().rev().find(|rule| rule.matches(&names, is_folder));
        last.is_some_and(|rule| !rule.keeps)
    }
}

impl Rule {
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (keeps, line) = match line.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let line = line.strip_prefix('\\').unwrap_or(line);
        let (folders_only, line) = match line.strip_suffix('/') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let anchored = line.contains('/');
        let mut segments: Vec<String> = line
            .split('/')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        if !anchored {
            segments.insert(0, "**".to_owned());
        }
        (!segments.is_empty()).then_some(Self {
            segments,
            keeps,
            folders_only,
        })
    }

    fn matches(&self, names: &[&str], is_folder: bool) -> bool {
        (is_folder || !self.folders_only) && path_matches(&self.segments, names)
    }
}

fn path_matches(pattern: &[String], names: &[&str]) -> bool {
    match (pattern, names) {
        ([], []) => true,
        ([first, rest @ ..], _) if first == "**" => {
            path_matches(rest, names)
                || names
                    .split_first()
                    .is_some_and(|(_, names)| path_matches(pattern, names))
        }
        ([first, rest @ ..], [name, names @ ..]) => {
            let (pattern, name): (Vec<char>, Vec<char>) = (first.chars().collect(), name.chars().collect());
            name_matches(&pattern, &name) && path_matches(rest, names)
        }
        _ => false,
    }
}

/// `*`, `?` and `[…]` within one name, in time that grows with the product of both lengths.
fn name_matches(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, n));
            p += 1;
        } else if let Some(length) = one_matches(&pattern[p.min(pattern.len())..], name[n]) {
            p += length;
            n += 1;
        } else if let Some((star_p, star_n)) = star {
            star = Some((star_p, star_n + 1));
            (p, n) = (star_p + 1, star_n + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How many characters of the pattern match this one character.
fn one_matches(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', escaped, ..] => (*escaped == c).then_some(2),
        ['[', rest @ ..] => {
            let Some(end) = rest.iter().skip(1).position(|c| *c == ']').map(|at| at + 1) else {
                return (c == '[').then_some(1);
            };
            let (negated, set) = match &rest[..end] {
                ['!' | '^', set @ ..] => (true, set),
                set => (false, set),
            };
            (in_set(set, c) != negated).then_some(end + 2)
        }
        [literal, ..] => (*literal == c).then_some(1),
        [] => None,
    }
}

fn in_set(set: &[char], c: char) -> bool {
    match set {
        [from, '-', to, rest @ ..] => (*from..=*to).contains(&c) || in_set(rest, c),
        [one, rest @ ..] => *one == c || in_set(rest, c),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::Rules;

    #[test]
    fn rules_decide_as_gitignore_does() {
        let rules =
            Rules::parse("# data\n*.csv\n!keep.csv\ndata/\n/top.txt\nsrc/*.tmp\nlogs/**/old\n[ab]?.bin\n\\!odd\n");
        for (path, is_folder, ignored) in [
            ("a.csv", false, true),
            ("deep/a.csv", false, true),
            ("keep.csv", false, false),
            ("data", true, true),
            ("deep/data", true, true),
            ("data", false, false),
            ("top.txt", false, true),
            ("deep/top.txt", false, false),
            ("src/x.tmp", false, true),
            ("src/deep/x.tmp", false, false),
            ("logs/old", true, true),
            ("logs/a/b/old", true, true),
            ("a1.bin", false, true),
            ("c1.bin", false, false),
            ("!odd", false, true),
            ("train.py", false, false),
        ] {
            assert_eq!(rules.ignores(path, is_folder), ignored, "{path}");
        }
    }

    #[test]
    fn what_is_never_code_is_left_out_without_rules() {
        let rules = Rules::parse("");
        for (path, is_folder, ignored) in [
            (".git", true, true),
            ("wandb", true, true),
            ("src/wandb", true, false),
            ("wandb", false, false),
            ("a/__pycache__", true, true),
            ("x.pyc", false, true),
        ] {
            assert_eq!(rules.ignores(path, is_folder), ignored, "{path}");
        }
    }

    #[test]
    fn many_stars_take_no_long_time() {
        let rules = Rules::parse(&"*a".repeat(60));
        assert!(!rules.ignores(&"a".repeat(59), false));
        assert!(rules.ignores(&"a".repeat(60), false));
        assert!(!rules.ignores(&format!("{}b", "a".repeat(5_000)), false));
    }
}
