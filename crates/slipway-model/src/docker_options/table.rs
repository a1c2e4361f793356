//! The table of options.
//!
//! Each row says how an option is spelled, who may set it, and what it becomes in the engine's words.
//! Rows are in alphabetical order, as the reference of `docker run` has them.

use serde_json::{Value, json};

use super::draft::Draft;
use super::network::{expose, extra_host, network, publish};
use super::parse::{
    bounded, duration, env, file_lines, gpus, integer, nano_cpus, one_of, pair, size, size_or_unlimited, ulimit,
};
use super::storage::{Device, Volume, device, mount, throttle, volume, weight};
use super::{Api, Apply, DockerOption, Done, Pull, Shape};

/// Every option of `docker run`.
pub const OPTIONS: &[DockerOption] = &[
    many("add-host", "Adds a name to /etc/hosts", |d, v| {
        each(v, |text| Ok(json!(extra_host(text)?))).and_then(|list| d.add("ExtraHosts", list))
    }),
    pairs("annotation", "Adds an annotation for the runtime (API 1.43)", |d, v| {
        named(v, |name, value| d.put("Annotations", name, value))
    })
    .since(1, 43),
    many("attach", "No effect: output is always captured", nothing).short('a'),
    one("blkio-weight", "Share of block IO, 10 to 1000, or 0", |d, v| {
        d.host("BlkioWeight", bounded(last(v), 0, 1000)?)
    }),
    many("blkio-weight-device", "Share of block IO for a device", |d, v| {
        each(v, weight).and_then(|list| d.add("BlkioWeightDevice", list))
    }),
    many("cap-add", "Adds a capability", |d, v| d.add("CapAdd", words(v))),
    many("cap-drop", "Drops a capability", |d, v| d.add("CapDrop", words(v))),
    one("cgroup-parent", "Parent of the container's cgroup", |d, v| {
        d.host("CgroupParent", last(v))
    }),
    one("cgroupns", "Namespace of cgroups: host or private", |d, v| {
        d.host("CgroupnsMode", one_of(last(v), &["host", "private"])?)
    }),
    one("cidfile", "Refused: the agent names and labels containers", |_, _| {
        refuse("the agent names and labels its containers; find one with `docker ps --filter label=slipway.run=RUN`")
    }),
    one("cpu-count", "Number of processors (Windows)", |d, v| {
        d.host("CpuCount", integer(last(v))?)
    }),
    one("cpu-percent", "Percentage of processors (Windows)", |d, v| {
        d.host("CpuPercent", bounded(last(v), 0, 100)?)
    }),
    one("cpu-period", "Period of the scheduler, in microseconds", |d, v| {
        d.host("CpuPeriod", integer(last(v))?)
    })
    .submitter(),
    one("cpu-quota", "Quota of the scheduler, in microseconds", |d, v| {
        d.host("CpuQuota", integer(last(v))?)
    })
    .submitter(),
    one("cpu-rt-period", "Real-time period, in microseconds", |d, v| {
        d.host("CpuRealtimePeriod", integer(last(v))?)
    }),
    one("cpu-rt-runtime", "Real-time runtime, in microseconds", |d, v| {
        d.host("CpuRealtimeRuntime", integer(last(v))?)
    }),
    one("cpu-shares", "Relative share of processors", |d, v| {
        d.host("CpuShares", integer(last(v))?)
    })
    .short('c')
    .submitter(),
    one("cpus", "Number of processors, such as 1.5", |d, v| {
        d.host("NanoCpus", nano_cpus(last(v))?)
    })
    .submitter(),
    one("cpuset-cpus", "Processors to use, such as 0-3", |d, v| {
        d.host("CpusetCpus", last(v))
    })
    .submitter(),
    one("cpuset-mems", "Memory nodes to use, such as 0,1", |d, v| {
        d.host("CpusetMems", last(v))
    })
    .submitter(),
    flag("detach", "No effect: jobs always run in the background", nothing).short('d'),
    one("detach-keys", "No effect: nobody is attached", nothing),
    many("device", "Gives a device of the host", devices),
    many("device-cgroup-rule", "Allows a class of devices", |d, v| {
        d.add("DeviceCgroupRules", words(v))
    }),
    many("device-read-bps", "Limits reading, in bytes a second", |d, v| {
        each(v, |text| throttle(text, true)).and_then(|list| d.add("BlkioDeviceReadBps", list))
    }),
    many("device-read-iops", "Limits reading, in operations a second", |d, v| {
        each(v, |text| throttle(text, false)).and_then(|list| d.add("BlkioDeviceReadIOps", list))
    }),
    many("device-write-bps", "Limits writing, in bytes a second", |d, v| {
        each(v, |text| throttle(text, true)).and_then(|list| d.add("BlkioDeviceWriteBps", list))
    }),
    many("device-write-iops", "Limits writing, in operations a second", |d, v| {
        each(v, |text| throttle(text, false)).and_then(|list| d.add("BlkioDeviceWriteIOps", list))
    }),
    flag(
        "disable-content-trust",
        "No effect: the engine does not verify signatures",
        nothing,
    ),
    many("dns", "A DNS server", |d, v| d.add("Dns", words(v))),
    many("dns-option", "An option of the resolver", |d, v| {
        d.add("DnsOptions", words(v))
    })
    .also(&["dns-opt"]),
    many("dns-search", "A search domain", |d, v| d.add("DnsSearch", words(v))),
    one("domainname", "The container's domain", |d, v| {
        d.set("Domainname", last(v))
    }),
    one("entrypoint", "Entry point for jobs that have none", |d, v| {
        d.request.entrypoint = Some(last(v).to_owned());
        Ok(())
    }),
    pairs("env", "A variable: NAME=value, or NAME for the agent's own value", envs)
        .short('e')
        .submitter(),
    many("env-file", "A file of variables on the agent's machine", env_files),
    many("expose", "A port that other containers may reach", exposes),
    one("gpus", "GPUs: all, a number, or device=0,1", |d, v| {
        gpus(last(v)).and_then(|request| d.add("DeviceRequests", request))
    })
    .submitter(),
    many("group-add", "A further group of the user", |d, v| {
        d.add("GroupAdd", words(v))
    }),
    one("health-cmd", "Command of the health check", |d, v| {
        d.health("Test", json!(["CMD-SHELL", last(v)]))
    }),
    one("health-interval", "Time between health checks", |d, v| {
        d.health("Interval", duration(last(v))?)
    }),
    one("health-retries", "Failures that make it unhealthy", |d, v| {
        d.health("Retries", integer(last(v))?)
    }),
    one(
        "health-start-interval",
        "Time between health checks at first (API 1.44)",
        |d, v| d.health("StartInterval", duration(last(v))?),
    )
    .since(1, 44),
    one("health-start-period", "Time in which failures do not count", |d, v| {
        d.health("StartPeriod", duration(last(v))?)
    }),
    one("health-timeout", "Limit of one health check", |d, v| {
        d.health("Timeout", duration(last(v))?)
    }),
    one("hostname", "The container's host name", |d, v| {
        d.set("Hostname", last(v))
    })
    .short('h'),
    flag(
        "init",
        "Runs a small init, which forwards signals and reaps processes",
        |d, _| d.host("Init", true),
    ),
    flag("interactive", "No effect: a job's standard input is empty", nothing).short('i'),
    one(
        "io-maxbandwidth",
        "Limit of IO on the system drive (Windows)",
        |d, v| d.host("IOMaximumBandwidth", size(last(v))?),
    ),
    one(
        "io-maxiops",
        "Limit of operations on the system drive (Windows)",
        |d, v| d.host("IOMaximumIOps", integer(last(v))?),
    ),
    one("ip", "IPv4 address in the network", |d, v| d.first.ipv4(last(v))),
    one("ip6", "IPv6 address in the network", |d, v| d.first.ipv6(last(v))),
    one("ipc", "Namespace of IPC", |d, v| d.host("IpcMode", last(v))),
    one("isolation", "Isolation technology (Windows)", |d, v| {
        d.host("Isolation", one_of(last(v), &["default", "process", "hyperv"])?)
    }),
    one("kernel-memory", "Refused: engines have dropped it", |_, _| {
        refuse("engines have dropped this limit; set `memory`")
    }),
    pairs("label", "A label: NAME=value", |d, v| {
        named(v, |name, value| {
            drop(d.request.labels.insert(name.to_owned(), value.to_owned()))
        })
    })
    .short('l'),
    many("label-file", "A file of labels on the agent's machine", label_files),
    many("link", "Another container under a name", |d, v| {
        d.add("Links", words(v))
    }),
    many("link-local-ip", "Link-local address in the network", |d, v| {
        v.iter().for_each(|address| d.first.link_local(address));
        Ok(())
    }),
    one(
        "log-driver",
        "Logging driver; output is shown from those that can be read",
        |d, v| {
            d.log_driver(last(v));
            Ok(())
        },
    ),
    pairs("log-opt", "Option of the logging driver", |d, v| {
        named(v, |name, value| d.log_option(name, value))
    }),
    one("mac-address", "MAC address in the network (API 1.44)", |d, v| {
        d.first.mac_address(last(v));
        Ok(())
    })
    .since(1, 44),
    one("memory", "Limit of memory, such as 4g", |d, v| {
        d.host("Memory", size(last(v))?)
    })
    .short('m')
    .submitter(),
    one("memory-reservation", "Soft limit of memory", |d, v| {
        d.host("MemoryReservation", size(last(v))?)
    })
    .submitter(),
    one("memory-swap", "Limit of memory and swap together, or -1", |d, v| {
        d.host("MemorySwap", size_or_unlimited(last(v))?)
    })
    .submitter(),
    one("memory-swappiness", "Tendency to swap, 0 to 100, or -1", |d, v| {
        d.host("MemorySwappiness", bounded(last(v), -1, 100)?)
    })
    .submitter(),
    many("mount", "A mount: type=…,source=…,target=…", mounts),
    one(
        "name",
        "The container's name; without it the agent makes one of run and attempt",
        |d, v| name(d, last(v)),
    ),
    many("network", "A network; the first one, then further ones", networks).also(&["net"]),
    many("network-alias", "A further name in the network", |d, v| {
        v.iter().for_each(|alias| d.first.alias(alias));
        Ok(())
    })
    .also(&["net-alias"]),
    flag("no-healthcheck", "Switches the image's health check off", |d, _| {
        d.no_health();
        Ok(())
    }),
    flag("oom-kill-disable", "Does not kill when memory runs out", |d, _| {
        d.host("OomKillDisable", true)
    }),
    one(
        "oom-score-adj",
        "Preference of the host's out-of-memory killer",
        |d, v| d.host("OomScoreAdj", bounded(last(v), -1000, 1000)?),
    ),
    one("pid", "Namespace of processes", |d, v| d.host("PidMode", last(v))),
    one("pids-limit", "Limit of processes, or -1", |d, v| {
        d.host("PidsLimit", integer(last(v))?)
    })
    .submitter(),
    one("platform", "Platform, such as linux/arm64", |d, v| {
        d.request.platform = Some(last(v).to_owned());
        Ok(())
    })
    .submitter(),
    flag("privileged", "Full access to the host", |d, _| {
        d.host("Privileged", true)
    }),
    many("publish", "A port of the host: 8080:80", publishes).short('p'),
    flag("publish-all", "Publishes all exposed ports", |d, _| {
        d.host("PublishAllPorts", true)
    })
    .short('P'),
    one("pull", "When to pull: always, missing or never", |d, v| {
        pull(d, last(v))
    }),
    flag("quiet", "No effect: progress goes to the agent's log", nothing).short('q'),
    flag("read-only", "Makes the image's file system read-only", |d, _| {
        d.host("ReadonlyRootfs", true)
    }),
    one("restart", "Only no: the agent decides about another start", |_, v| {
        restart(last(v))
    }),
    flag(
        "rm",
        "No effect: the agent always removes a container, once its outcome is recorded",
        nothing,
    ),
    one("runtime", "Runtime of the engine, such as nvidia", |d, v| {
        d.host("Runtime", last(v))
    }),
    many("security-opt", "A security option", security),
    one("shm-size", "Size of /dev/shm, such as 8g", |d, v| {
        d.host("ShmSize", size(last(v))?)
    })
    .submitter(),
    flag("sig-proxy", "No effect: nobody is attached", nothing),
    one("stop-signal", "Signal that asks the job to end", |d, v| {
        d.set("StopSignal", last(v))
    }),
    one(
        "stop-timeout",
        "Seconds before it is killed when others stop it; the agent's own limit is `stopped_run_timeout`",
        |d, v| d.set("StopTimeout", integer(last(v))?),
    ),
    pairs("storage-opt", "Option of the storage driver", |d, v| {
        named(v, |name, value| d.put("StorageOpt", name, value))
    }),
    pairs("sysctl", "Kernel parameter: NAME=value", |d, v| {
        named(v, |name, value| d.put("Sysctls", name, value))
    }),
    many("tmpfs", "A file system in memory: /path:options", tmpfs),
    flag("tty", "Gives the job a terminal", |d, _| d.set("Tty", true)).short('t'),
    pairs("ulimit", "A limit: NAME=soft:hard", |d, v| {
        each(v, ulimit).and_then(|list| d.add("Ulimits", list))
    })
    .submitter(),
    flag("use-api-socket", "Refused: it gives a job the whole engine", |_, _| {
        refuse("it gives a job the whole engine; if that is meant, the queue can mount the socket with `volume`")
    }),
    one("user", "User, and group: 1000:1000", |d, v| d.set("User", last(v))).short('u'),
    one("userns", "Namespace of users", |d, v| d.host("UsernsMode", last(v))),
    one("uts", "Namespace of host names", |d, v| d.host("UTSMode", last(v))),
    many(
        "volume",
        "A directory of the host, or a volume: /host:/container",
        volumes,
    )
    .short('v'),
    one("volume-driver", "Driver of new volumes", |d, v| {
        d.host("VolumeDriver", last(v))
    }),
    many("volumes-from", "The volumes of another container", |d, v| {
        d.add("VolumesFrom", words(v))
    }),
    one("workdir", "Working directory", |d, v| d.set("WorkingDir", last(v)))
        .short('w')
        .submitter(),
];

const fn option(name: &'static str, shape: Shape, help: &'static str, apply: Apply) -> DockerOption {
    DockerOption {
        name,
        short: None,
        aliases: &[],
        shape,
        submitter: false,
        since: None,
        help,
        apply,
    }
}

const fn flag(name: &'static str, help: &'static str, apply: Apply) -> DockerOption {
    option(name, Shape::Flag, help, apply)
}

const fn one(name: &'static str, help: &'static str, apply: Apply) -> DockerOption {
    option(name, Shape::One, help, apply)
}

const fn many(name: &'static str, help: &'static str, apply: Apply) -> DockerOption {
    option(name, Shape::Many, help, apply)
}

const fn pairs(name: &'static str, help: &'static str, apply: Apply) -> DockerOption {
    option(name, Shape::Pairs, help, apply)
}

impl DockerOption {
    const fn short(self, letter: char) -> Self {
        Self {
            short: Some(letter),
            ..self
        }
    }

    const fn also(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    const fn since(self, major: u32, minor: u32) -> Self {
        Self {
            since: Some(Api::new(major, minor)),
            ..self
        }
    }

    const fn submitter(self) -> Self {
        Self {
            submitter: true,
            ..self
        }
    }
}

/// For options without effect.
fn nothing(_: &mut Draft<'_>, _: &[String]) -> Done {
    Ok(())
}

/// The value of an option that takes one. Given in two spellings, the later one wins; the caller never
/// passes an empty list.
fn last(values: &[String]) -> &str {
    values.last().map_or("", String::as_str)
}

fn words(values: &[String]) -> impl Iterator<Item = Value> {
    values.iter().map(|value| json!(value))
}

fn each(values: &[String], read: impl Fn(&str) -> Result<Value, String>) -> Result<Vec<Value>, String> {
    values.iter().map(|value| read(value)).collect()
}

/// Calls `put` with each name and value; a name alone has an empty one.
fn named(values: &[String], mut put: impl FnMut(&str, &str)) -> Done {
    for value in values {
        let (name, value) = pair(value)?;
        put(name, value.unwrap_or_default());
    }
    Ok(())
}

fn refuse(reason: &str) -> Done {
    Err(format!("this agent does not do it: {reason}"))
}

fn devices(draft: &mut Draft<'_>, values: &[String]) -> Done {
    for value in values {
        match device(value)? {
            Device::File(mapping) => draft.add("Devices", [mapping])?,
            Device::Named(name) => draft.add("DeviceRequests", [json!({"Driver": "cdi", "DeviceIDs": [name]})])?,
        }
    }
    Ok(())
}

fn envs(draft: &mut Draft<'_>, values: &[String]) -> Done {
    for value in values {
        let entry = env(value, draft.lookup)?;
        draft.request.env.extend(entry);
    }
    Ok(())
}

fn env_files(draft: &mut Draft<'_>, paths: &[String]) -> Done {
    for path in paths {
        let text = (draft.lookup.file)(path)?;
        for line in file_lines(&text) {
            if let Some(entry) = env(line, draft.lookup)? {
                draft.file_env(entry);
            }
        }
    }
    Ok(())
}

fn label_files(draft: &mut Draft<'_>, paths: &[String]) -> Done {
    for path in paths {
        let text = (draft.lookup.file)(path)?;
        for line in file_lines(&text) {
            let (name, value) = pair(line)?;
            draft.file_label(name, value.unwrap_or_default());
        }
    }
    Ok(())
}

fn exposes(draft: &mut Draft<'_>, values: &[String]) -> Done {
    for value in values {
        let ports = expose(value)?;
        draft.ports(ports.len())?;
        for port in ports {
            draft.put_top("ExposedPorts", &port, json!({}));
        }
    }
    Ok(())
}

fn publishes(draft: &mut Draft<'_>, values: &[String]) -> Done {
    for value in values {
        let ports = publish(value)?;
        draft.ports(ports.len())?;
        for published in ports {
            draft.put_top("ExposedPorts", &published.container, json!({}));
            let bindings = draft.host.entry("PortBindings").or_insert_with(|| json!({}));
            if let Some(bindings) = bindings.as_object_mut()
                && let Value::Array(list) = bindings.entry(published.container).or_insert_with(|| json!([]))
            {
                list.push(published.binding);
            }
        }
    }
    Ok(())
}

fn networks(draft: &mut Draft<'_>, values: &[String]) -> Done {
    for value in values {
        let (name, endpoint) = network(value)?;
        for (key, field, since) in [
            ("mac-address", "MacAddress", Api::new(1, 44)),
            ("gw-priority", "GwPriority", Api::new(1, 48)),
        ] {
            draft.need(key, endpoint.has(field).then_some(since));
        }
        draft.networks.push((name, endpoint));
    }
    Ok(())
}

fn mounts(draft: &mut Draft<'_>, values: &[String]) -> Done {
    for value in values {
        let mount = mount(value)?;
        let subpath = mount.pointer("/VolumeOptions/Subpath").is_some();
        draft.need("volume-subpath", subpath.then_some(Api::new(1, 45)));
        draft.add("Mounts", [mount])?;
    }
    Ok(())
}

fn name(draft: &mut Draft<'_>, name: &str) -> Done {
    let permitted = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if !first || name.len() < 2 || !name.chars().all(permitted) {
        return Err(format!(
            "`{name}` is not a container's name: letters, digits, `_`, `.` and `-`, two at least, a letter or digit first"
        ));
    }
    draft.request.name = Some(name.to_owned());
    Ok(())
}

fn pull(draft: &mut Draft<'_>, text: &str) -> Done {
    draft.request.pull = Some(match one_of(text, &["always", "missing", "never"])? {
        "always" => Pull::Always,
        "never" => Pull::Never,
        _ => Pull::Missing,
    });
    Ok(())
}

fn restart(policy: &str) -> Done {
    match policy {
        "no" | "" => Ok(()),
        _ => refuse("each start of a job is counted and reported; leave `restart` out and retry the item instead"),
    }
}

/// A profile is sent as its text, as `docker run` does.
fn security(draft: &mut Draft<'_>, values: &[String]) -> Done {
    for value in values {
        let (name, setting) = value
            .split_once('=')
            .or_else(|| value.split_once(':'))
            .unwrap_or((value, ""));
        match (name, setting) {
            ("systempaths", "unconfined") => {
                draft.host("MaskedPaths", json!([]))?;
                draft.host("ReadonlyPaths", json!([]))?;
            }
            ("seccomp", path) if !matches!(path, "unconfined" | "builtin") => {
                let text = (draft.lookup.file)(path)?;
                let profile: Value =
                    serde_json::from_str(&text).map_err(|error| format!("`{path}` is not a profile: {error}"))?;
                draft.add("SecurityOpt", [json!(format!("seccomp={profile}"))])?;
            }
            _ => draft.add("SecurityOpt", [json!(value)])?,
        }
    }
    Ok(())
}

fn tmpfs(draft: &mut Draft<'_>, values: &[String]) -> Done {
    for value in values {
        let (path, options) = value.split_once(':').unwrap_or((value, ""));
        if !path.starts_with('/') {
            return Err(format!(
                "`{path}` is not a path in the container; it must begin with `/`"
            ));
        }
        draft.put("Tmpfs", path, options);
    }
    Ok(())
}

fn volumes(draft: &mut Draft<'_>, values: &[String]) -> Done {
    for value in values {
        match volume(value)? {
            Volume::Anonymous(path) => draft.put_top("Volumes", &path, json!({})),
            Volume::Mount(mount) => draft.add("Mounts", [mount])?,
            Volume::Bind(bind) => draft.add("Binds", [json!(bind)])?,
            Volume::Labelled(bind, mount) => {
                draft.add("Binds", [json!(bind)])?;
                draft.request.directories.push(mount);
            }
        }
    }
    Ok(())
}
