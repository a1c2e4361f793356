//! Names: suggestions for misspelled ones, and generated ones for runs and workloads.
//!
//! Nothing here is random: whoever wants a random name passes a random seed.

use sha2::{Digest, Sha256};

/// The known name that is nearest to a given one, if any is near enough to be meant.
#[must_use]
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.chars().count() > 64 {
        return None;
    }
    let given = normal(given);
    let allowed = (given.len() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|name| (distance(&given, &normal(name)), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Case, `-` and `_` do not make names different.
fn normal(name: &str) -> Vec<char> {
    name.chars()
        .map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() })
        .collect()
}

/// How many insertions, deletions, substitutions and swaps of neighbours part two words.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitution = previous[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitution.min(previous[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}

const ADJECTIVES: [&str; 64] = [
    "amber", "ample", "azure", "brave", "bright", "brisk", "calm", "candid", "clear", "clever", "cosmic", "crisp",
    "curious", "dapper", "daring", "deep", "eager", "early", "easy", "fair", "fancy", "fine", "firm", "fleet", "fresh",
    "gentle", "glad", "golden", "grand", "happy", "hardy", "honest", "keen", "kind", "lively", "lucid", "lucky",
    "lunar", "mellow", "mild", "misty", "neat", "nimble", "noble", "open", "patient", "plain", "polite", "proud",
    "quick", "quiet", "ready", "serene", "sharp", "silver", "smooth", "snowy", "solar", "steady", "sunny", "swift",
    "tidy", "vivid", "warm",
];

const NOUNS: [&str; 64] = [
    "anchor", "atoll", "bay", "beacon", "bell", "boat", "bow", "breeze", "bridge", "brook", "buoy", "canal", "canoe",
    "cape", "cliff", "cloud", "coast", "compass", "coral", "cove", "current", "deck", "delta", "dock", "dune", "ferry",
    "fjord", "foam", "galley", "gull", "harbor", "haven", "heron", "horizon", "island", "jetty", "keel", "kelp",
    "lagoon", "lake", "lantern", "marina", "mast", "meadow", "oar", "ocean", "pearl", "pier", "port", "quay", "reef",
    "rigging", "river", "rudder", "sail", "schooner", "shell", "shore", "spray", "stream", "surf", "tide", "wave",
    "wharf",
];

/// A name for a run that has none: adjective, noun, number, such as `brisk-harbor-12`.
///
/// The number is the run's own in its project, so that names of one project differ.
#[must_use]
pub fn display_name(seed: u64, number: u64) -> String {
    let [adjective, noun] = [seed % 64, (seed / 64) % 64].map(|index| usize::try_from(index).unwrap_or(0));
    format!("{}-{}-{number}", ADJECTIVES[adjective], NOUNS[noun])
}

/// The longest name that every target takes.
const MAX_LABEL: usize = 63;

/// The name of one attempt's workload on a target: lower-case letters, digits and `-`, at most 63
/// characters, different for every run and attempt.
///
/// The readable part comes from the run's id; a digest of entity, project, run and attempt keeps
/// names apart that would look the same after shortening.
#[must_use]
pub fn workload_name(run: &crate::id::RunName, attempt: i64) -> String {
    let mut digest = Sha256::new();
    for part in [run.entity.as_str(), &run.project, &run.run, &attempt.to_string()] {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    let digest: String = digest.finalize()[..5]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let end = format!("{attempt}-{digest}");
    match dns_label(&run.run, MAX_LABEL - "launch--".len() - end.len()) {
        readable if readable.is_empty() => format!("launch-{end}"),
        readable => format!("launch-{readable}-{end}"),
    }
}

/// A text as a DNS label of at most `limit` characters: other characters become `-`.
#[must_use]
pub fn dns_label(text: &str, limit: usize) -> String {
    let mut label = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        if label.len() >= limit {
            break;
        }
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            label.push(c);
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
    }
    label.truncate(label.trim_end_matches('-').len());
    label
}

#[cfg(test)]
mod tests;
