use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;

fn read(args: &Value) -> Result<ContainerRequest, OptionError> {
    request(
        args,
        &Lookup {
            env: &|name| (name == "MY_EXISTING_ENV_VAR" || name == "HF_TOKEN").then(|| "agent's".to_owned()),
            allowed_env: &["HF_TOKEN".to_owned()],
            file: &|path| match path {
                "/agent/env" => Ok("# comment\n\nA=file\nMY_EXISTING_ENV_VAR\nUNSET\n".to_owned()),
                "/agent/labels" => Ok("team=file\nplain\n".to_owned()),
                "/agent/seccomp.json" => Ok(PROFILE.to_owned()),
                _ => Err(format!("`{path}` cannot be read")),
            },
        },
    )
}

fn body(args: Value) -> Value {
    Value::Object(read(&args).unwrap_or_else(|error| panic!("{args}: {error}")).body)
}

fn host(args: Value) -> Value {
    body(args).get("HostConfig").cloned().unwrap_or(Value::Null)
}

fn problem(args: &Value) -> String {
    read(args).expect_err(&args.to_string()).to_string()
}

#[test]
fn the_documented_example_is_read_as_docker_run_does() {
    let request = read(&json!({
        "env": ["MY_ENV_VAR=value", "MY_EXISTING_ENV_VAR"],
        "volume": "/mnt/datasets:/mnt/datasets",
        "rm": true,
        "gpus": "all",
    }))
    .unwrap();
    assert_eq!(request.env, ["MY_ENV_VAR=value", "MY_EXISTING_ENV_VAR=agent's"]);
    assert_eq!(
        Value::Object(request.body),
        json!({"HostConfig": {
            "Mounts": [{"Type": "bind", "Source": "/mnt/datasets", "Target": "/mnt/datasets"}],
            "DeviceRequests": [{
                "Driver": "", "Count": -1, "DeviceIDs": [], "Capabilities": [["gpu"]], "Options": {},
            }],
        }})
    );
    let builder = json!({"builder": {"accelerator": {"base_image": "tensorflow/tensorflow:latest-gpu"}}});
    assert_eq!(read(&builder).unwrap(), ContainerRequest::default());
}

#[test]
fn every_spelling_names_the_same_option() {
    for key in ["shm-size", "shm_size", "SHM_SIZE", "--shm-size", "--shm_size"] {
        assert_eq!(host(json!({key: "1g"})), json!({"ShmSize": 1_i64 << 30}), "{key}");
    }
    for key in ["m", "-m", "memory", "--memory"] {
        assert_eq!(host(json!({key: 4096})), json!({"Memory": 4096}), "{key}");
    }
    for (short, long) in [
        ("p", "publish"),
        ("P", "publish-all"),
        ("net", "network"),
        ("dns-opt", "dns-option"),
    ] {
        assert_eq!(find(short).map(|option| option.name), Some(long));
    }
    assert!(find("").is_none() && find("-").is_none() && find("x").is_none());
}

#[test]
fn flags_lists_and_values_left_out() {
    for on in [json!(true), json!("true"), json!(""), json!("1")] {
        assert_eq!(host(json!({"init": on})), json!({"Init": true}), "{on}");
    }
    for off in [json!(false), json!("false"), json!(null)] {
        assert_eq!(host(json!({"privileged": off})), Value::Null, "{off}");
        assert_eq!(
            host(json!({"memory": off.as_str().map_or(off.clone(), |_| json!(null))})),
            Value::Null
        );
    }
    assert_eq!(host(json!({"dns": "1.1.1.1"})), json!({"Dns": ["1.1.1.1"]}));
    assert_eq!(
        host(json!({"dns": ["1.1.1.1", "8.8.8.8"]})),
        json!({"Dns": ["1.1.1.1", "8.8.8.8"]})
    );
    assert_eq!(host(json!({"cpus": ["2"]})), json!({"NanoCpus": 2_000_000_000_i64}));
    // A queue's spelling and a submitter's: the later one wins, lists go together.
    assert_eq!(host(json!({"memory": "1g", "m": "2g"})), json!({"Memory": 2_i64 << 30}));
    assert_eq!(read(&json!({"env": "A=1", "e": ["A=2"]})).unwrap().env, ["A=1", "A=2"]);
    assert_eq!(
        read(&json!({"env": {"A": 1, "B": true, "MY_EXISTING_ENV_VAR": null}}))
            .unwrap()
            .env
            .len(),
        3
    );
    assert_eq!(read(&json!({"label": {"a": "b"}, "l": "c"})).unwrap().labels.len(), 2);
    assert_eq!(read(&Value::Null).unwrap(), ContainerRequest::default());
}

#[test]
fn options_become_the_engines_fields() {
    let cases: &[(Value, Value)] = &[
        (json!({"cpus": 1.5}), json!({"NanoCpus": 1_500_000_000_i64})),
        (json!({"cpus": ".25"}), json!({"NanoCpus": 250_000_000})),
        (json!({"memory": "1.5GB"}), json!({"Memory": 1_610_612_736_i64})),
        (json!({"memory": "512mib"}), json!({"Memory": 512_i64 << 20})),
        (json!({"memory-swap": -1}), json!({"MemorySwap": -1})),
        (
            json!({"ulimit": ["nofile=1024:4096", "core=0"]}),
            json!({"Ulimits": [
                {"Name": "nofile", "Soft": 1024, "Hard": 4096}, {"Name": "core", "Soft": 0, "Hard": 0},
            ]}),
        ),
        (
            json!({"ulimit": {"nproc": "64"}}),
            json!({"Ulimits": [{"Name": "nproc", "Soft": 64, "Hard": 64}]}),
        ),
        (
            json!({"volume": ["/a:/b:ro", "data:/c", "/x:/y:z"]}),
            json!({
                "Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true}],
                "Binds": ["data:/c", "/x:/y:z"],
            }),
        ),
        (
            json!({"mount": "type=bind,src=/a,dst=/b,readonly"}),
            json!({
                "Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true}],
            }),
        ),
        (
            json!({"mount": "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770"}),
            json!({
                "Mounts": [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770}}],
            }),
        ),
        (
            json!({"mount": "source=v,target=/t,volume-driver=d,volume-opt=a=b,volume-label=x=y"}),
            json!({
                "Mounts": [{"Type": "volume", "Source": "v", "Target": "/t", "VolumeOptions": {
                    "Labels": {"x": "y"}, "DriverConfig": {"Name": "d", "Options": {"a": "b"}},
                }}],
            }),
        ),
        (
            json!({"tmpfs": "/run:size=64m"}),
            json!({"Tmpfs": {"/run": "size=64m"}}),
        ),
        (
            json!({"device": ["/dev/fuse", "/dev/a:/dev/b:r", "/dev/a:rw"]}),
            json!({"Devices": [
                {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"},
                {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"},
                {"PathOnHost": "/dev/a", "PathInContainer": "/dev/a", "CgroupPermissions": "rw"},
            ]}),
        ),
        (
            json!({"device": "vendor.com/gpu=all"}),
            json!({"DeviceRequests": [
                {"Driver": "cdi", "DeviceIDs": ["vendor.com/gpu=all"]},
            ]}),
        ),
        (
            json!({"device-read-bps": "/dev/sda:1mb", "device-write-iops": ["/dev/sda:50"]}),
            json!({
                "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 1 << 20}],
                "BlkioDeviceWriteIOps": [{"Path": "/dev/sda", "Rate": 50}],
            }),
        ),
        (
            json!({"add-host": ["db:10.0.0.1", "gw=host-gateway", "six:::1"]}),
            json!({
                "ExtraHosts": ["db:10.0.0.1", "gw:host-gateway", "six:::1"],
            }),
        ),
        (json!({"network": "host"}), json!({"NetworkMode": "host"})),
        (
            json!({"sysctl": {"net.core.somaxconn": 64}}),
            json!({"Sysctls": {"net.core.somaxconn": "64"}}),
        ),
        (
            json!({"log-driver": "local", "log-opt": ["max-size=1m"]}),
            json!({
                "LogConfig": {"Type": "local", "Config": {"max-size": "1m"}},
            }),
        ),
        (
            json!({"security-opt": ["no-new-privileges", "systempaths=unconfined", "seccomp=/agent/seccomp.json"]}),
            json!({
                "SecurityOpt": ["no-new-privileges", r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#],
                "MaskedPaths": [], "ReadonlyPaths": [],
            }),
        ),
        (
            json!({"cap-add": "SYS_PTRACE", "cap_drop": ["ALL"], "ipc": "host", "read-only": true}),
            json!({
                "CapAdd": ["SYS_PTRACE"], "CapDrop": ["ALL"], "IpcMode": "host", "ReadonlyRootfs": true,
            }),
        ),
        (
            json!({"rm": true, "detach": true, "d": true, "i": true, "restart": "no", "gpus": 0}),
            Value::Null,
        ),
    ];
    for (args, expected) in cases {
        assert_eq!(host(args.clone()), *expected, "{args}");
    }
}

#[test]
fn a_directory_with_a_label_is_known_besides_its_bind() {
    let request = read(&json!({"volume": ["/a:/b:ro,Z", "data:/c", "/d:/e"]})).unwrap();
    assert_eq!(
        request.directories,
        [json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true})]
    );
    assert_eq!(request.body["HostConfig"]["Binds"], json!(["/a:/b:ro,Z", "data:/c"]));
}

#[test]
fn a_part_in_quotes_keeps_its_commas() {
    for (text, source) in [
        (r#"type=bind,"src=/a,b",dst=/c"#, "/a,b"),
        (r#"type=bind,dst=/c,"src=/a ""b"",""#, r#"/a "b","#),
        (r#""type=bind","dst=/c",src=/a"#, "/a"),
    ] {
        let mount = &host(json!({"mount": text}))["Mounts"][0];
        assert_eq!(
            (&mount["Source"], &mount["Target"]),
            (&json!(source), &json!("/c")),
            "{text}"
        );
    }
    let nfs = r#"source=v,dst=/c,volume-driver=local,"volume-opt=o=addr=10.0.0.1,rw""#;
    assert_eq!(
        host(json!({"mount": nfs}))["Mounts"][0]["VolumeOptions"]["DriverConfig"]["Options"],
        json!({"o": "addr=10.0.0.1,rw"})
    );
    let request = read(&json!({"network": r#"name=n,"driver-opt=a=1,2""#})).unwrap();
    let endpoint = &request.body["NetworkingConfig"]["EndpointsConfig"]["n"];
    assert_eq!(endpoint["DriverOpts"], json!({"a": "1,2"}));
    for text in [
        r#"src="/a,b",dst=/c"#,
        r#""src=/a,dst=/c"#,
        r#""src=/a"b,dst=/c"#,
        r#"dst=/c,""#,
    ] {
        assert!(
            problem(&json!({"mount": text})).contains("a quote stands around"),
            "{text}"
        );
    }
}

#[test]
fn what_earlier_engines_would_ignore_is_a_need() {
    let needs = |args: Value| -> Vec<String> {
        let needs = read(&args).unwrap().needs;
        needs
            .iter()
            .map(|need| format!("{} {}", need.option, need.since))
            .collect()
    };
    for (args, expected) in [
        (json!({"annotation": "a=b"}), vec!["annotation 1.43"]),
        (
            json!({"health-start-interval": "1s"}),
            vec!["health-start-interval 1.44"],
        ),
        (json!({"mac-address": "02:42:0a:01:00:05"}), vec!["mac-address 1.44"]),
        (
            json!({"mount": "src=v,dst=/v,volume-subpath=a"}),
            vec!["volume-subpath 1.45"],
        ),
        (json!({"network": "name=n,gw-priority=1"}), vec!["gw-priority 1.48"]),
        (
            json!({"network": "name=n,mac-address=02:42:0a:01:00:05"}),
            vec!["mac-address 1.44"],
        ),
        (
            json!({"memory": "1g", "mount": "src=v,dst=/v", "network": "n", "annotation": false}),
            vec![],
        ),
    ] {
        assert_eq!(needs(args.clone()), expected, "{args}");
    }
    assert!(Api::parse("1.9") < Api::parse("1.44") && Api::parse("v1").is_none());
}

#[test]
fn values_are_judged_without_an_agent_as_far_as_that_goes() {
    for (args, says) in [
        (
            json!({"memory": "lots"}),
            "/resource_args/local-container/memory`: `lots` is not a size",
        ),
        (json!({"volume": ["/a:/b", "x"]}), "this is not a volume"),
        (json!({"network": ["host", "two"]}), "goes with no other network"),
        (json!({"command": "a 'b"}), "not closed"),
    ] {
        let error = check_values(&args).unwrap_err().to_string();
        assert!(error.contains(says), "{args}: {error}");
    }
    for args in [
        json!({"memory": "{{memory}}", "shm-size": "${SIZE}", "cpus": 2}),
        json!({"env": ["AWS_SECRET_ACCESS_KEY"], "env-file": "/x", "label-file": "/x", "security-opt": "seccomp=/x"}),
        json!({"memroy": "lots", "builder": {}}),
        json!([]),
        Value::Null,
    ] {
        assert_eq!(check_values(&args), Ok(()), "{args}");
    }
}

#[test]
fn gpus_are_a_number_all_or_devices() {
    for (text, count, devices, capabilities) in [
        (json!("all"), -1, json!([]), json!([["gpu"]])),
        (json!(2), 2, json!([]), json!([["gpu"]])),
        (json!("device=0"), 0, json!(["0"]), json!([["gpu"]])),
        (json!("device=0,2"), 0, json!(["0", "2"]), json!([["gpu"]])),
        (
            json!("\"device=0,GPU-3a23c669\""),
            0,
            json!(["0", "GPU-3a23c669"]),
            json!([["gpu"]]),
        ),
        (
            json!("all,capabilities=utility,compute"),
            -1,
            json!([]),
            json!([["gpu", "utility", "compute"]]),
        ),
    ] {
        let request = &host(json!({"gpus": text}))["DeviceRequests"][0];
        assert_eq!(
            (&request["Count"], &request["DeviceIDs"], &request["Capabilities"]),
            (&json!(count), &devices, &capabilities),
            "{text}"
        );
    }
    for text in [
        "",
        "some",
        "device=",
        "2,device=0",
        "count=x",
        "-2",
        "driver=cdi,device=a/b=c",
    ] {
        assert!(read(&json!({"gpus": text})).is_err(), "{text}");
    }
}

#[test]
fn networks_have_settings_of_their_own_and_of_the_options_beside() {
    let request = read(&json!({
        "network": ["name=one,alias=a", "two"], "network-alias": "b", "ip": "10.1.0.5", "mac-address": "02:42:0a:01:00:05",
    }))
    .unwrap();
    assert_eq!(request.body["HostConfig"]["NetworkMode"], "one");
    assert_eq!(
        request.body["NetworkingConfig"],
        json!({"EndpointsConfig": {"one": {
            "Aliases": ["b"], "MacAddress": "02:42:0a:01:00:05", "IPAMConfig": {"IPv4Address": "10.1.0.5"},
        }}})
    );
    assert_eq!(request.networks.len(), 1);
    assert!(problem(&json!({"network": ["host", "two"]})).contains("goes with no other network"));
    assert!(problem(&json!({"network": "none", "ip": "10.1.0.5"})).contains("goes with no other network"));
    assert!(problem(&json!({"network": "alias=a"})).contains("names no network"));
    assert!(problem(&json!({"ip": "10.1"})).contains("IPv4"));
}

#[test]
fn ports_are_published_alone_and_in_ranges() {
    for (text, ports) in [
        ("80", vec![("80/tcp", "", "")]),
        ("8080:80", vec![("80/tcp", "", "8080")]),
        ("127.0.0.1::80/udp", vec![("80/udp", "127.0.0.1", "")]),
        ("[::1]:8080:80", vec![("80/tcp", "::1", "8080")]),
        (
            "7000-7001:8000-8001",
            vec![("8000/tcp", "", "7000"), ("8001/tcp", "", "7001")],
        ),
        ("7000-7009:80", vec![("80/tcp", "", "7000-7009")]),
    ] {
        let bindings = host(json!({"p": text}))["PortBindings"].clone();
        for (port, address, host) in ports {
            assert_eq!(bindings[port], json!([{"HostIp": address, "HostPort": host}]), "{text}");
        }
    }
    for text in ["x", "80:x", "70000:80", "1-2:3-5", "80/icmp", "9-1:1-9", "nohost:1:2"] {
        assert!(read(&json!({"publish": text})).is_err(), "{text}");
    }
    assert_eq!(
        body(json!({"expose": "1-2/udp"}))["ExposedPorts"],
        json!({"1/udp": {}, "2/udp": {}})
    );
}

#[test]
fn a_few_words_make_no_request_of_any_size() {
    assert!(read(&json!({"expose": "1-4096"})).is_ok());
    for args in [
        json!({"expose": "0-65535"}),
        json!({"publish": ["1-4000:1-4000", "1-4000:1-4000/udp"]}),
        json!({"expose": "1-4000/sctp", "publish": "1-97:1-97"}),
    ] {
        assert!(problem(&args).contains("at most 4096 ports"), "{args}");
    }
}

#[test]
fn a_size_has_one_unit() {
    let size = |text: &str| host(json!({"shm-size": text}))["ShmSize"].clone();
    for (text, bytes) in [("64", 64), ("64b", 64), ("1k", 1024), ("1 KB", 1024), ("1kib", 1024)] {
        assert_eq!(size(text), json!(bytes), "{text}");
    }
    for text in ["1bb", "1kbb", "1kiib", "1ib", "1i", "1kk", "k"] {
        assert!(read(&json!({"shm-size": text})).is_err(), "{text}");
    }
}

#[test]
fn health_checks_and_files() {
    assert_eq!(
        body(json!({"health-cmd": "true", "health-interval": "1m30s", "health-timeout": "500ms", "health-retries": 3})),
        json!({"Healthcheck": {
            "Test": ["CMD-SHELL", "true"], "Interval": 90_000_000_000_i64, "Timeout": 500_000_000, "Retries": 3,
        }})
    );
    assert_eq!(
        body(json!({"no-healthcheck": true})),
        json!({"Healthcheck": {"Test": ["NONE"]}})
    );
    assert!(problem(&json!({"no-healthcheck": true, "health-cmd": "x"})).contains("no other health option"));
    // Variables and labels beside a file win over the file's.
    let request =
        read(&json!({"env": "A=own", "env-file": "/agent/env", "label": "team=own", "label-file": "/agent/labels"}));
    let request = request.unwrap();
    assert_eq!(request.env, ["A=file", "MY_EXISTING_ENV_VAR=agent's", "A=own"]);
    assert_eq!(request.labels["team"], "own");
    assert_eq!(request.labels["plain"], "");
    assert!(problem(&json!({"env-file": "/no"})).contains("`/no` cannot be read"));
}

#[test]
fn what_is_asked_beside_the_body() {
    let request = read(&json!({
        "name": "trainer", "platform": "linux/arm64", "pull": "never", "entrypoint": "/bin/sh",
        "command": "python -c 'print(1)' \"a b\"", "user": 1000, "workdir": "/srv", "hostname": "h", "tty": true,
    }))
    .unwrap();
    assert_eq!(request.name.as_deref(), Some("trainer"));
    assert_eq!(request.platform.as_deref(), Some("linux/arm64"));
    assert_eq!(request.pull, Some(Pull::Never));
    assert_eq!(request.entrypoint.as_deref(), Some("/bin/sh"));
    assert_eq!(request.command, ["python", "-c", "print(1)", "a b"]);
    assert_eq!(
        Value::Object(request.body),
        json!({"User": "1000", "WorkingDir": "/srv", "Hostname": "h", "Tty": true})
    );
    assert_eq!(
        read(&json!({"command": ["a", "b c", 1]})).unwrap().command,
        ["a", "b c", "1"]
    );
}

#[test]
fn a_wrong_option_is_named_with_the_nearest_one() {
    for (key, meant) in [
        ("memroy", Some("memory")),
        ("shmsize", Some("shm-size")),
        ("volumes", Some("volume")),
        ("--gpu", Some("gpus")),
        ("frobnicate", None),
    ] {
        let error = problem(&json!({key: 1}));
        assert!(
            error.contains(&format!("/resource_args/local-container/{key}")),
            "{error}"
        );
        match meant {
            Some(name) => assert!(error.contains(&format!("did you mean `{name}`?")), "{error}"),
            None => assert!(!error.contains("did you mean"), "{error}"),
        }
    }
    assert!(check_names(&json!({"memory": "{{any}}", "builder": {}, "command": "x"})).is_ok());
    assert!(check_names(&json!([])).is_err());
}

#[test]
fn a_wrong_value_is_named_with_what_is_permitted() {
    for (args, words) in [
        (json!({"memory": "much"}), "512m"),
        (json!({"memory": true}), "a value, not"),
        (json!({"memory": ["1g", "2g"]}), "not a list of 2"),
        (json!({"cpus": "two"}), "0.5"),
        (json!({"init": 3}), "true or false"),
        (json!({"env": [["A=1"]]}), "entry 0"),
        (json!({"env": "=x"}), "no name"),
        (json!({"ulimit": "nofile"}), "NAME=soft:hard"),
        (json!({"ulimit": "files=1"}), "nofile"),
        (json!({"ulimit": "nofile=9:1"}), "above the hard one"),
        (json!({"volume": "./data:/data"}), "must begin with `/`"),
        (json!({"volume": "~/data:/data"}), "must begin with `/`"),
        (json!({"volume": "/a:b"}), "must begin with `/`"),
        (json!({"volume": "/a:/b:rx"}), "not an option of a volume"),
        (json!({"mount": "type=bind,source=/a"}), "no target"),
        (json!({"mount": "typ=bind"}), "not a key of a mount"),
        (json!({"mount": "type=volumes,dst=/a"}), "not one of bind, volume"),
        (
            json!({"mount": "type=bind,src=/a,dst=/b,bind-propagation=r"}),
            "not one of private, rprivate",
        ),
        (json!({"name": "a b"}), "not a container's name"),
        (json!({"restart": "always"}), "retry the item"),
        (json!({"cidfile": "/x"}), "docker ps"),
        (json!({"pull": "sometimes"}), "always, missing, never"),
        (json!({"command": "a 'b"}), "not closed"),
        (json!({"oom-score-adj": 2000}), "between -1000 and 1000"),
        (json!({"health-interval": "soon"}), "1m30s"),
        (json!({"sysctl": {"a": {}}}), "must be text"),
        (json!({"device": "sda"}), "/dev/sda"),
        (json!({"tmpfs": "run"}), "must begin with `/`"),
    ] {
        let error = problem(&args);
        assert!(error.contains(words), "{args}: {error}");
    }
}

#[test]
fn a_secret_of_the_agent_is_passed_on_only_if_its_configuration_lists_it() {
    let error = problem(&json!({"env": ["AWS_SECRET_ACCESS_KEY"]}));
    assert!(
        error.contains("`AWS_SECRET_ACCESS_KEY`") && error.contains("allowed_env"),
        "{error}"
    );
    assert_eq!(read(&json!({"env": ["HF_TOKEN"]})).unwrap().env, ["HF_TOKEN=agent's"]);
    // As `docker run` does, a variable that the agent does not have is left out.
    assert_eq!(read(&json!({"env": ["UNSET"]})).unwrap().env, Vec::<String>::new());
}

#[test]
fn the_table_is_in_order_and_names_nothing_twice() {
    let names: Vec<&str> = OPTIONS.iter().map(|option| option.name).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(names, sorted);
    let mut seen = BTreeSet::new();
    for option in OPTIONS {
        let spellings = option.aliases.iter().map(|alias| (*alias).to_owned());
        for name in spellings
            .chain([option.name.to_owned()])
            .chain(option.short.map(String::from))
        {
            assert!(seen.insert(name.clone()), "`{name}` is given twice");
            assert_eq!(find(&name).map(|found| found.name), Some(option.name));
        }
        assert!(!option.help.is_empty());
        if let Some(since) = option.since {
            assert!(option.help.ends_with(&format!(" (API {since})")), "{}", option.help);
        }
    }
}

proptest! {
    #[test]
    fn any_configuration_is_read_or_refused_and_never_panics(
        entries in proptest::collection::vec((0..OPTIONS.len(), any_value()), 0..6),
    ) {
        let args: Map<String, Value> =
            entries.into_iter().map(|(index, value)| (OPTIONS[index].name.to_owned(), value)).collect();
        let _ = read(&Value::Object(args));
    }

    #[test]
    fn dashes_and_case_do_not_matter(index in 0..OPTIONS.len(), dashes in 0..3_usize, upper: bool, under: bool) {
        let mut name = OPTIONS[index].name.to_owned();
        if upper { name = name.to_ascii_uppercase(); }
        if under { name = name.replace('-', "_"); }
        let written = format!("{}{name}", "-".repeat(dashes));
        prop_assert_eq!(find(&written).map(|option| option.name), Some(OPTIONS[index].name));
    }

    #[test]
    fn a_size_is_its_number_times_its_unit(number in 0..1_000_i64, unit in 0..4_usize) {
        let text = format!("{number}{}", ["", "k", "m", "g"][unit]);
        prop_assert_eq!(parse::size(&text), Ok(number << (10 * unit)));
    }

    #[test]
    fn an_option_that_is_left_out_changes_nothing(index in 0..OPTIONS.len()) {
        let name = OPTIONS[index].name;
        prop_assert_eq!(read(&json!({name: null})), Ok(ContainerRequest::default()));
        prop_assert_eq!(read(&json!({name: false})), Ok(ContainerRequest::default()));
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[-a-z0-9=:,./\"' ]{0,24}".prop_map(Value::from),
        ".{0,16}".prop_map(Value::from),
        proptest::collection::vec("[-a-z0-9=:,./]{0,16}".prop_map(Value::from), 0..4).prop_map(Value::from),
        Just(json!({"a": "b", "/x": 1})),
        Just(Value::Null),
    ]
}

#[test]
fn the_manual_lists_every_option_as_the_table_has_it() {
    let manual = include_str!("../../../../docs/docker.md");
    for option in OPTIONS {
        let letter = option.short.map(|letter| format!("`{letter}`"));
        let aliases = option.aliases.iter().map(|alias| format!("`{alias}`"));
        let also: Vec<String> = letter.into_iter().chain(aliases).collect();
        let row = format!(
            "| `{}` | {} | {} | {} | {} |\n",
            option.name,
            also.join(", "),
            option.shape.written(),
            if option.submitter { "yes" } else { "" },
            option.help
        );
        assert!(manual.contains(&row), "docs/docker.md lacks this row:\n{row}");
    }
    let options = manual.split("\n## Options\n").nth(1).unwrap_or_default();
    assert_eq!(
        options.matches("\n| `").count(),
        OPTIONS.len(),
        "docs/docker.md lists something else besides"
    );
}
