//! Volumes, mounts, devices.

use serde_json::{Map, Value, json};

use super::parse::{fields, integer, one_of, pair, shortened, size};

/// The kinds of mounts.
const TYPES: [&str; 6] = ["bind", "volume", "tmpfs", "image", "npipe", "cluster"];

/// How mounts made below a mount spread.
const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// What a `volume` becomes.
pub(super) enum Volume {
    /// A volume without a name at a path.
    Anonymous(String),
    /// A directory or file of the host, which must exist.
    Mount(Value),
    /// As the engine reads it.
    Bind(String),
    /// A directory of the host with a label of SELinux, for which a mount has no word: as the engine
    /// reads it, and the mount that it would be without.
    Labelled(String, Value),
}

/// `[source:]path[:options]`.
///
/// Directories of the host become mounts: the engine then refuses one that is missing, where `docker
/// run` would make an empty one and let the job fail later.
pub(super) fn volume(text: &str) -> Result<Volume, String> {
    let wrong = |why: &str| {
        Err(format!(
            "`{}`: {why}; write /path/on/host:/path/in/container, or NAME:/path for a volume",
            shortened(text)
        ))
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [path] if path.starts_with('/') => return Ok(Volume::Anonymous((*path).to_owned())),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return wrong("this is not a volume"),
    };
    if !target.starts_with('/') {
        return wrong("the path in the container must begin with `/`");
    }
    if source.is_empty() {
        return wrong("there is nothing before the `:`");
    }
    if source.starts_with('~') || source.starts_with('.') {
        return wrong("a path of the host must begin with `/`");
    }
    if !source.starts_with('/') {
        return Ok(Volume::Bind(text.to_owned()));
    }
    let mut mount = Map::from_iter([
        ("Type".to_owned(), json!("bind")),
        ("Source".to_owned(), json!(source)),
        ("Target".to_owned(), json!(target)),
    ]);
    let label = |option: &str| matches!(option, "z" | "Z");
    let labelled = options.split(',').any(label);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "rw" => {}
            "ro" => drop(mount.insert("ReadOnly".to_owned(), json!(true))),
            "consistent" | "cached" | "delegated" => drop(mount.insert("Consistency".to_owned(), json!(option))),
            _ if PROPAGATIONS.contains(&option) => {
                mount.insert("BindOptions".to_owned(), json!({"Propagation": option}));
            }
            // The engine reads it by itself.
            _ if labelled => {}
            _ => return wrong(&format!("`{option}` is not an option of a volume")),
        }
    }
    let mount = Value::Object(mount);
    Ok(if labelled {
        Volume::Labelled(text.to_owned(), mount)
    } else {
        Volume::Mount(mount)
    })
}

/// The value of `mount`: `KEY=value` by commas.
pub(super) fn mount(text: &str) -> Result<Value, String> {
    let mut mount = Map::from_iter([("Type".to_owned(), json!("volume"))]);
    let (mut bind, mut volume, mut tmpfs, mut image) = (Map::new(), Map::new(), Map::new(), Map::new());
    let mut driver = Map::new();
    for part in fields(text)? {
        let (key, value) = pair(&part)?;
        let flag = || match value.unwrap_or("true") {
            "true" | "1" | "enabled" => Ok(true),
            "false" | "0" | "disabled" => Ok(false),
            other => Err(format!("`{key}={other}`: it is true or false")),
        };
        let needed = || {
            value
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("`{key}` in `{}` needs a value", shortened(text)))
        };
        match key {
            "type" => drop(mount.insert("Type".to_owned(), json!(one_of(needed()?, &TYPES)?))),
            "source" | "src" => drop(mount.insert("Source".to_owned(), json!(needed()?))),
            "target" | "destination" | "dst" => drop(mount.insert("Target".to_owned(), json!(needed()?))),
            "readonly" | "ro" => drop(mount.insert("ReadOnly".to_owned(), json!(flag()?))),
            "consistency" => drop(mount.insert("Consistency".to_owned(), json!(needed()?))),
            "bind-propagation" => drop(bind.insert("Propagation".to_owned(), json!(one_of(needed()?, &PROPAGATIONS)?))),
            "bind-nonrecursive" => drop(bind.insert("NonRecursive".to_owned(), json!(flag()?))),
            "bind-recursive" => drop(bind.insert("NonRecursive".to_owned(), json!(!flag()?))),
            "bind-create-src" => drop(bind.insert("CreateMountpoint".to_owned(), json!(flag()?))),
            "volume-nocopy" => drop(volume.insert("NoCopy".to_owned(), json!(flag()?))),
            "volume-subpath" => drop(volume.insert("Subpath".to_owned(), json!(needed()?))),
            "volume-driver" => drop(driver.insert("Name".to_owned(), json!(needed()?))),
            "volume-label" | "volume-opt" => {
                let (name, value) = pair(needed()?)?;
                let (map, field) = if key == "volume-opt" {
                    (&mut driver, "Options")
                } else {
                    (&mut volume, "Labels")
                };
                if let Value::Object(entries) = map.entry(field).or_insert_with(|| json!({})) {
                    entries.insert(name.to_owned(), json!(value.unwrap_or_default()));
                }
            }
            "tmpfs-size" => drop(tmpfs.insert("SizeBytes".to_owned(), json!(size(needed()?)?))),
            "tmpfs-mode" => {
                let mode = i64::from_str_radix(needed()?, 8)
                    .map_err(|_| format!("`{part}`: a mode is octal, such as 1770"))?;
                tmpfs.insert("Mode".to_owned(), json!(mode));
            }
            "image-subpath" => drop(image.insert("Subpath".to_owned(), json!(needed()?))),
            _ => return Err(format!("`{key}` is not a key of a mount")),
        }
    }
    if !driver.is_empty() {
        volume.insert("DriverConfig".to_owned(), Value::Object(driver));
    }
    for (field, options) in [
        ("BindOptions", bind),
        ("VolumeOptions", volume),
        ("TmpfsOptions", tmpfs),
        ("ImageOptions", image),
    ] {
        if !options.is_empty() {
            mount.insert(field.to_owned(), Value::Object(options));
        }
    }
    if !mount.contains_key("Target") {
        return Err(format!("`{}` has no target", shortened(text)));
    }
    Ok(Value::Object(mount))
}

/// What a `device` becomes.
pub(super) enum Device {
    /// A device file.
    File(Value),
    /// A device by the name of its vendor and class (CDI).
    Named(String),
}

/// `path[:path in the container][:permissions]`, or `vendor/class=name`.
pub(super) fn device(text: &str) -> Result<Device, String> {
    if !text.starts_with('/') {
        return match text.split_once('=') {
            Some((class, name)) if class.contains('/') && !name.is_empty() => Ok(Device::Named(text.to_owned())),
            _ => Err(format!(
                "`{text}` is neither a path such as /dev/sda nor vendor/class=name"
            )),
        };
    }
    let permitted = |text: &str| !text.is_empty() && text.chars().all(|c| matches!(c, 'r' | 'w' | 'm'));
    let (host, container, permissions) = match text.split(':').collect::<Vec<_>>().as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, second] if permitted(second) => (*host, *host, *second),
        [host, container] => (*host, *container, "rwm"),
        [host, container, permissions] if permitted(permissions) => (*host, *container, *permissions),
        _ => return Err(format!("`{text}` is not a device; write /dev/host:/dev/container:rwm")),
    };
    Ok(Device::File(json!({
        "PathOnHost": host, "PathInContainer": container, "CgroupPermissions": permissions,
    })))
}

/// `path:rate`, the rate as a size or as a number.
pub(super) fn throttle(text: &str, bytes: bool) -> Result<Value, String> {
    let (path, rate) = text
        .rsplit_once(':')
        .filter(|(path, _)| path.starts_with("/dev/"))
        .ok_or_else(|| format!("`{text}` is not of the form /dev/name:rate"))?;
    let rate = if bytes { size(rate)? } else { integer(rate)? };
    Ok(json!({"Path": path, "Rate": rate}))
}

/// `path:weight`.
pub(super) fn weight(text: &str) -> Result<Value, String> {
    let (path, weight) = text
        .rsplit_once(':')
        .filter(|(path, _)| path.starts_with("/dev/"))
        .ok_or_else(|| format!("`{text}` is not of the form /dev/name:weight"))?;
    Ok(json!({"Path": path, "Weight": integer(weight)?}))
}
