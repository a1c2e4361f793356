//! The small languages in which `docker run` writes values.

use serde_json::{Map, Value, json};

use crate::json::kind;
use crate::macros::is_secret_name;

use super::Lookup;

/// An integer.
pub(super) fn integer(text: &str) -> Result<i64, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("`{text}` is not a whole number"))
}

/// An integer within bounds.
pub(super) fn bounded(text: &str, low: i64, high: i64) -> Result<i64, String> {
    match integer(text)? {
        number if (low..=high).contains(&number) => Ok(number),
        number => Err(format!("{number} is not between {low} and {high}")),
    }
}

/// A size in bytes: a number with an optional unit, each unit 1024 times the one before.
pub(super) fn size(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is not a size; write a number and a unit, such as 512m or 2g");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = unit.trim_start();
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let unit = unit.strip_suffix('i').filter(|unit| !unit.is_empty()).unwrap_or(unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let factor = 1024_i64.pow(power);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(factor).ok_or_else(wrong);
    }
    let bytes = number.parse::<f64>().map_err(|_| wrong())? * factor as f64;
    if bytes.is_finite() && bytes < 9e18 {
        Ok(bytes as i64)
    } else {
        Err(wrong())
    }
}

/// A size, or -1 for no limit.
pub(super) fn size_or_unlimited(text: &str) -> Result<i64, String> {
    if text.trim() == "-1" { Ok(-1) } else { size(text) }
}

/// Processors in billionths.
pub(super) fn nano_cpus(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is not a number of processors, such as 2 or 0.5");
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(wrong());
    }
    let number = |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<i64>() };
    let whole = number(whole).map_err(|_| wrong())?;
    let fraction = number(&format!("{fraction:0<9}")).map_err(|_| wrong())?;
    whole
        .checked_mul(1_000_000_000)
        .and_then(|nanos| nanos.checked_add(fraction))
        .ok_or_else(wrong)
}

/// A duration such as `1m30s`, in nanoseconds.
pub(super) fn duration(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is not a duration; write, for example, 30s, 500ms or 1m30s");
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(wrong()),
        };
        total += number.parse::<f64>().map_err(|_| wrong())? * scale;
        rest = tail;
    }
    if total > 0.0 && total < 9e18 {
        Ok(total as i64)
    } else {
        Err(wrong())
    }
}

/// One of a few words.
pub(super) fn one_of<'a>(text: &'a str, words: &[&str]) -> Result<&'a str, String> {
    if words.contains(&text) {
        Ok(text)
    } else {
        Err(format!("`{text}` is not one of {}", words.join(", ")))
    }
}

/// `NAME=value` in two; a name alone has no value.
pub(super) fn pair(text: &str) -> Result<(&str, Option<&str>), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    if name.trim().is_empty() {
        return Err(format!("`{}` has no name before the `=`", shortened(text)));
    }
    Ok((name, value))
}

/// The fields of a line of values by commas, as docker reads `mount` and `network`: a field in double
/// quotes keeps its commas, and two quotes within it are one.
pub(super) fn fields(text: &str) -> Result<Vec<String>, String> {
    let wrong = || {
        let text = shortened(text);
        Err(format!(
            "`{text}`: a quote stands around a whole KEY=value, such as \"src=/a,b\""
        ))
    };
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        match rest.strip_prefix('"') {
            Some(mut quoted) => {
                loop {
                    let Some((piece, after)) = quoted.split_once('"') else {
                        return wrong();
                    };
                    field.push_str(piece);
                    quoted = after;
                    match after.strip_prefix('"') {
                        Some(after) => {
                            field.push('"');
                            quoted = after;
                        }
                        None => break,
                    }
                }
                rest = quoted;
            }
            None => {
                let (plain, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if plain.contains('"') {
                    return wrong();
                }
                field.push_str(plain);
                rest = after;
            }
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(fields),
            None => return wrong(),
        }
    }
}

/// An entry of `env`: as it is, or with the agent's own value; none if the agent has none.
pub(super) fn env(text: &str, lookup: &Lookup<'_>) -> Result<Option<String>, String> {
    let (name, value) = pair(text)?;
    if text.contains('\0') {
        return Err(format!("the variable `{name}` contains a zero byte"));
    }
    if value.is_some() {
        return Ok(Some(text.to_owned()));
    }
    if is_secret_name(name) && !lookup.allowed_env.iter().any(|allowed| allowed == name) {
        return Err(format!(
            "`{name}` without a value would hand the agent's own value to the job, and its name looks like that of \
             a secret; if jobs may have it, list `{name}` under `allowed_env` in the agent's configuration"
        ));
    }
    Ok((lookup.env)(name).map(|value| format!("{name}={value}")))
}

/// The entries of a file of variables or labels: lines, without comments and blank ones.
pub(super) fn file_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(|line| line.trim_start_matches('\u{feff}').trim_start())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// `NAME=soft[:hard]`.
pub(super) fn ulimit(text: &str) -> Result<Value, String> {
    let wrong = || format!("`{text}` is not a limit; write NAME=soft:hard, such as nofile=1024:4096");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    one_of(name, &NAMES)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (integer(soft).map_err(|_| wrong())?, integer(hard).map_err(|_| wrong())?);
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("`{text}`: the soft limit is above the hard one"));
    }
    Ok(json!({"Name": name, "Soft": soft, "Hard": hard}))
}

/// The value of `gpus`: `all`, a number, or `device=…`, `driver=…`, `capabilities=…` by commas. The
/// shell's quotes around it, which a configuration does not need, are taken off. None for 0.
pub(super) fn gpus(text: &str) -> Result<Option<Value>, String> {
    let wrong =
        |part: &str| format!("`{part}` does not name GPUs; write all, a number, or device=0,1 (by number or by UUID)");
    let bare: String = text.chars().filter(|c| !matches!(c, '"' | '\'')).collect();
    let (mut count, mut driver): (Option<i64>, String) = (None, String::new());
    let (mut devices, mut capabilities) = (Vec::new(), vec!["gpu".to_owned()]);
    let mut options = Map::new();
    let mut last = "";
    for part in bare.split(',').map(str::trim) {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.trim(), value.trim()),
            None if matches!(last, "device" | "capabilities" | "options") => (last, part),
            None => ("count", part),
        };
        if value.is_empty() {
            return Err(wrong(text));
        }
        match key {
            "count" if value == "all" => count = Some(-1),
            "count" => count = Some(integer(value).ok().filter(|n| *n >= -1).ok_or_else(|| wrong(value))?),
            "device" => devices.push(value.to_owned()),
            // Such a device may be anything that the engine's owner has described, a disk too.
            "driver" if value.eq_ignore_ascii_case("cdi") => {
                return Err(format!(
                    "`{part}`: name a device of the Container Device Interface with `device`"
                ));
            }
            "driver" => driver = value.to_owned(),
            "capabilities" if value == "gpu" => {}
            "capabilities" => capabilities.push(value.to_owned()),
            "options" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                options.insert(name.to_owned(), json!(value));
            }
            _ => return Err(wrong(part)),
        }
        last = match key {
            "device" => "device",
            "capabilities" => "capabilities",
            "options" => "options",
            _ => "",
        };
    }
    if count.is_some() && !devices.is_empty() {
        return Err(format!("`{text}` gives both a number and devices; give one of them"));
    }
    if count == Some(0) {
        return Ok(None);
    }
    let count = if devices.is_empty() { count.unwrap_or(1) } else { 0 };
    Ok(Some(json!({
        "Driver": driver, "Count": count, "DeviceIDs": devices, "Capabilities": [capabilities], "Options": options,
    })))
}

/// The command: words as a shell would split them, or a list.
pub(super) fn command(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Null | Value::Bool(false) => Ok(Vec::new()),
        Value::String(text) => shell_words(text),
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(text.clone()),
                Value::Number(number) => Ok(number.to_string()),
                other => Err(format!("a word of the command is {}; it must be text", kind(other))),
            })
            .collect(),
        other => Err(format!("the command is text or a list of words, not {}", kind(other))),
    }
}

/// Splits a line at blanks; quotes and backslashes as in a shell, nothing else of a shell.
fn shell_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => match chars.next() {
                Some(escaped) => word.get_or_insert_default().push(escaped),
                None => return Err("the command ends in a backslash".to_owned()),
            },
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote in the command is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

/// The first characters of a text, for messages.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}
