//! Commands and forms of output that need no agent.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, in its helpers too")]

mod support;

use std::fs;

use serde_json::{Value, json};

use support::{World, stderr, stdout};

/// What a shell is offered at the end of a command line.
fn completed(world: &World, words: &[&str]) -> Vec<String> {
    let line = [&["--", "slipway"], words].concat();
    let mut command = world.command(&line);
    let output = command.env("SLIPWAY_COMPLETE", "fish").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output).lines().map(str::to_owned).collect()
}

#[test]
fn shells_complete_names_of_the_server_and_options_of_containers() {
    let world = World::with_server();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.run(&["completions", shell]);
        assert!(script.status.success(), "{}", stderr(&script));
        assert!(stdout(&script).contains("SLIPWAY_COMPLETE"), "{shell}");
    }
    for queue in ["gpu", "cpu"] {
        world.json(&["queue", "create", queue, "-r", "local-container"]);
    }
    let pushed = world.json(&["launch", "-d", "image:1", "-p", "p", "-q", "gpu"]);
    let id = pushed["runQueueItemId"].as_str().unwrap();
    assert_eq!(completed(&world, &["queue", "show", "g"]), ["gpu\tlocal-container"]);
    assert_eq!(completed(&world, &["launch", "--queue", "c"]), ["cpu\tlocal-container"]);
    let offered = completed(&world, &["item", "show", ""]);
    assert_eq!(offered[0], format!("{id}\tIdle in admin/gpu"), "{offered:?}");
    let options = completed(&world, &["launch", "--option", "mem"]);
    assert!(options[0].starts_with("memory=\t"), "{options:?}");
    assert_eq!(completed(&world, &["queue", "create", "--option", "privil"]).len(), 1);
    assert!(
        completed(&world, &["queue", "sho"])
            .iter()
            .any(|line| line.starts_with("show"))
    );

    // Without a server nothing is offered, and nothing is said.
    let alone = World::empty();
    assert_eq!(completed(&alone, &["queue", "show", "g"]), [""; 0]);
}

#[test]
fn options_of_containers_are_listed_and_set_one_by_one() {
    // No server is asked for the list.
    let options = World::empty().json(&["queue", "options"]);
    let options = options.as_array().unwrap();
    let named = |name: &str| options.iter().find(|option| option["name"] == name).unwrap();
    assert_eq!(named("memory")["short"], "m");
    assert_eq!(
        (&named("memory")["submitter"], &named("volume")["submitter"]),
        (&json!(true), &json!(false))
    );
    let table = stdout(&World::empty().run(&["queue", "options", "local-container", "--submitter"]));
    assert!(table.contains("memory") && !table.contains("privileged"), "{table}");
    let refused = World::empty().run(&["queue", "options", "kubernetes"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));

    let world = World::with_server();
    let create = ["queue", "create", "box", "-r", "local-container", "--option"];
    let made = world.json(
        &[
            &create[..],
            &["memory=8g", "--option", "volume=/a:/a", "--option", "v=/b:/b"],
        ]
        .concat(),
    );
    let args = |queue: &Value| queue["config"]["resource_args"]["local-container"].clone();
    assert_eq!(args(&made), json!({"memory": "8g", "volume": ["/a:/a", "/b:/b"]}));
    let updated = world.json(&["queue", "update", "box", "--option", "memory=4g"]);
    assert_eq!(args(&updated), json!({"memory": "4g", "volume": ["/a:/a", "/b:/b"]}));
    let launch = ["launch", "-d", "image:1", "-p", "p", "-q", "box", "--dry-run"];
    let dry = world.json(
        &[
            &launch[..],
            &["-R", "{\"local-container\": {\"cpus\": 1}}", "--option", "m=2g"],
        ]
        .concat(),
    );
    let run = &dry["runSpec"]["resource_args"]["local-container"];
    assert_eq!((&run["memory"], &run["cpus"]), (&json!("2g"), &json!(1)));
    let source = |pointer: &str| dry["sources"][format!("/resource_args/local-container/{pointer}")].clone();
    assert_eq!(
        [source("memory"), source("cpus"), source("volume")],
        ["flag --option", "flag --resource-args", "queue"]
    );
    let wrong = world.run(&[&launch[..], &["--option", "memroy=1g"]].concat());
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("did you mean `memory`?"), "{}", stderr(&wrong));
}

#[test]
fn a_dry_run_tells_the_source_of_every_value_and_makes_nothing() {
    let world = World::with_server();
    let variables = json!({"memory": {"schema": {"type": "string", "enum": ["1g", "2g"], "default": "1g"}}});
    world.json(&[
        "queue",
        "create",
        "default",
        "-r",
        "local-process",
        "--config",
        "{\"env\": {\"SIZE\": \"{{memory}}\", \"A\": \"1\"}}",
        "--template-variables",
        &variables.to_string(),
    ]);
    fs::create_dir_all(world.path("code")).unwrap();
    fs::write(world.path("code/run.sh"), "echo hi").unwrap();
    fs::write(
        world.path("config.json"),
        r#"{"overrides": {"run_config": {"lr": 0.1}}, "name": "n"}"#,
    )
    .unwrap();
    // A queue without a name is `default`.
    let flags = [
        "launch",
        "-u",
        "code",
        "-E",
        "sh run.sh",
        "-J",
        "train",
        "-c",
        "config.json",
        "-v",
        "memory=2g",
    ];
    let mut command = world.command(&[&flags[..], &["--dry-run", "-q", "-o", "json"]].concat());
    let output = command.env("WANDB_PROJECT", "p").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("would make job admin/p/train:latest of 1 files"),
        "{}",
        stderr(&output)
    );
    let dry: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(dry["wouldMake"], json!({"job": "admin/p/train:latest", "files": 1}));
    let resource_args = "/resource_args/local-process/env";
    assert_eq!(
        dry["sources"],
        json!({
            "/author": "the API key", "/entity": "default: the API key's own", "/job": "flag --uri",
            "/name": "config file config.json", "/overrides/run_config/lr": "config file config.json",
            "/project": "variable WANDB_PROJECT", "/resource": "queue",
            (format!("{resource_args}/A")): "queue", (format!("{resource_args}/SIZE")): "template variable",
        })
    );
    let jobs = world.run(&["job", "list", "-p", "p"]);
    assert!(
        !stdout(&jobs).contains("train"),
        "a dry run made a job: {}",
        stdout(&jobs)
    );
    assert_eq!(world.json(&["item", "list"]), json!([]));

    // The same for real.
    let mut command = world.command(&[&flags[..], &["-q", "-o", "json"]].concat());
    let output = command.env("WANDB_PROJECT", "p").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let table = stdout(&world.run(&["item", "list"]));
    assert!(
        table.contains("JOB") && table.contains("admin/p/train:latest"),
        "{table}"
    );
    let waited = world.run(&["launch", "-j", "train", "-p", "p", "-q", "--async"]);
    assert!(
        waited.status.success() && stderr(&waited).contains("`--async` changes nothing"),
        "{}",
        stderr(&waited)
    );
}

#[test]
fn the_launch_config_names_entity_and_project_where_no_flag_does() {
    let world = World::with_server();
    world.json(&["team", "create", "research"]);
    world.json(&["queue", "create", "q", "-r", "local-container", "-e", "research"]);
    let config = "{\"entity\": \"research\", \"project\": \"named\"}";
    let dry = world.json(&["launch", "-d", "image:1", "-c", config, "-q", "q", "--dry-run"]);
    assert_eq!(
        (&dry["runSpec"]["entity"], &dry["runSpec"]["project"]),
        (&json!("research"), &json!("named"))
    );
    assert_eq!(dry["sources"]["/project"], "flag --config");
}

#[test]
fn items_are_listed_by_state_and_shown_with_their_record() {
    let world = World::with_server();
    world.json(&["queue", "create", "q", "-r", "local-container"]);
    let push = || world.json(&["launch", "-d", "image:1", "-p", "p", "-q", "q"])["runQueueItemId"].clone();
    let (first, second, killed) = (push(), push(), push());
    world.json(&["item", "cancel", killed.as_str().unwrap()]);
    let ids = |arguments: &[&str]| {
        let listed = world.json(&[&["item", "list"], arguments].concat());
        let items = listed.as_array().unwrap().iter();
        items.map(|item| item["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&["--waiting"]), [first.clone(), second.clone()]);
    assert_eq!(ids(&["--state", "idle"]), [second.clone(), first.clone()]);
    assert_eq!(ids(&["--state", "queued"]), Vec::<Value>::new());
    assert_eq!(ids(&["--state", "PENDING", "--state", "killed"]).len(), 3);
    let wrong = world.run(&["item", "list", "--state", "runing"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", stderr(&wrong));
    assert!(stderr(&wrong).contains("running"), "{}", stderr(&wrong));

    let shown = world.json(&["item", "show", killed.as_str().unwrap(), "--events"]);
    let kinds = shown["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["kind"].clone());
    assert_eq!(kinds.collect::<Vec<_>>(), ["pushed", "killed"]);
    let table = stdout(&world.run(&["item", "show", killed.as_str().unwrap(), "--events"]));
    assert!(table.contains("EVENT") && table.contains("pushed"), "{table}");

    world.json(&["queue", "pause", "q"]);
    assert_eq!(world.json(&["queue", "show", "q"])["paused"], true);
    let resumed = world.run(&["queue", "resume", "q"]);
    assert_eq!(stdout(&resumed), "resumed admin/q\n");
    assert_eq!(world.json(&["queue", "show", "q"])["paused"], false);
}

#[test]
fn people_have_teams_and_keys() {
    let world = World::with_server();
    let imported = "0123456789abcdef0123456789abcdef01234567";
    let made = world.run(&["user", "create", "bob", "--api-key", imported]);
    assert!(made.status.success(), "{}", stderr(&made));
    assert!(
        stderr(&made).contains("visible to other users; use `--api-key-file`"),
        "{}",
        stderr(&made)
    );
    let as_bob = |key: &str, arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env("WANDB_API_KEY", key).output().unwrap()
    };
    world.json(&["team", "create", "research"]);
    world.json(&["queue", "create", "q", "-r", "local-process", "-e", "research"]);
    let show = ["queue", "show", "q", "-e", "research"];
    assert_eq!(as_bob(imported, &show).status.code(), Some(3));
    world.json(&["team", "add", "research", "bob", "--role", "viewer"]);
    assert!(as_bob(imported, &show).status.success());
    let pause = ["queue", "pause", "q", "-e", "research"];
    assert_eq!(
        as_bob(imported, &pause).status.code(),
        Some(4),
        "a viewer changes nothing"
    );
    world.json(&["team", "add", "research", "bob", "--role", "admin"]);
    assert!(as_bob(imported, &pause).status.success());
    world.json(&["team", "remove", "research", "bob"]);
    assert_eq!(as_bob(imported, &show).status.code(), Some(3));

    let key = as_bob(imported, &["key", "create", "--description", "laptop"]);
    assert!(stderr(&key).contains("it is not shown again"), "{}", stderr(&key));
    let key = stdout(&key).trim().to_owned();
    let keys: Value = serde_json::from_slice(&as_bob(&key, &["key", "list", "-o", "json"]).stdout).unwrap();
    let described = |key: &&Value| key["description"] == "laptop";
    let id = keys.as_array().unwrap().iter().find(described).unwrap()["id"].clone();
    assert!(!keys.to_string().contains(&key), "a list shows no secrets");
    assert!(as_bob(&key, &["key", "revoke", id.as_str().unwrap()]).status.success());
    assert_eq!(as_bob(&key, &["key", "list"]).status.code(), Some(4));
}

#[test]
fn programs_read_errors_as_json() {
    let world = World::with_server();
    for (arguments, code, text) in [
        (&["queue", "show", "absent", "-o", "json"][..], 3, "no queue `absent`"),
        (&["queue", "shwo", "-o", "json"], 2, "unrecognized subcommand 'shwo'"),
        (
            &["queue", "create", "a", "-r", "moon", "--output=json"],
            2,
            "resource `moon`",
        ),
        (
            &["queue", "list", "--host", "http://127.0.0.1:1", "-ojson"],
            4,
            "no API key",
        ),
    ] {
        let output = world.run(arguments);
        let error: Value = serde_json::from_slice(&output.stderr).unwrap_or_else(|_| panic!("{}", stderr(&output)));
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert_eq!(error["code"], code, "{error}");
        assert!(error["error"].as_str().unwrap().contains(text), "{error}");
        assert!(error["hint"].is_string() || code == 2, "{error}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn login_takes_the_flags_of_the_official_client() {
    let mut world = World::empty();
    world.start();
    let (address, key) = (world.address(), world.admin_key());
    for (arguments, text) in [
        (
            &["login", "http://localhost:8080"][..],
            "slipway login --host http://localhost:8080",
        ),
        (&["login", "--anonymously"], "slipway user create"),
    ] {
        let refused = world.run(arguments);
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
        assert!(stderr(&refused).contains(text), "{}", stderr(&refused));
    }
    let output = world.run_with(&["login", "--base-url", &address, "-o", "json"], &key);
    assert!(output.status.success(), "{}", stderr(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told, json!({"baseUrl": address, "username": "admin"}));
    let cloud = world.run_with(&["login", "--cloud", "--no-verify", "-o", "json"], &"x".repeat(40));
    assert!(cloud.status.success(), "{}", stderr(&cloud));
    let settings = fs::read_to_string(world.path(".config/wandb/settings")).unwrap();
    assert!(settings.contains("base_url = https://api.wandb.ai"), "{settings}");
}

#[test]
fn queues_of_other_projects_are_found_and_told_apart() {
    let world = World::with_server();
    let document =
        |project: &str, name: &str| format!("{{name: {name}, project: {project}, resource: local-container}}\n");
    let documents = [
        document("vision", "gpu"),
        document("vision", "cpu"),
        document("speech", "cpu"),
    ];
    fs::write(world.path("queues.yaml"), documents.join("---\n")).unwrap();
    world.json(&["queue", "apply", "-f", "queues.yaml"]);

    let shown = world.json(&["queue", "show", "gpu"]);
    assert_eq!(shown["projectName"], "vision");
    assert!(stdout(&world.run(&["queue", "show", "gpu"])).contains("vision"));
    world.json(&["queue", "update", "gpu", "--option", "memory=1g"]);
    world.json(&[
        "launch",
        "-d",
        "image:1",
        "-p",
        "p",
        "-q",
        "gpu",
        "--project-queue",
        "vision",
    ]);
    let items = world.json(&["item", "list", "--queue", "gpu"]);
    assert_eq!(items.as_array().unwrap().len(), 1, "{items}");

    let exported = world.json(&["queue", "export"]);
    assert_eq!(exported.as_array().unwrap().len(), 3, "{exported}");
    assert_eq!(
        world.json(&["queue", "export", "gpu"])[0]["config"],
        json!({"memory": "1g"})
    );
    // What is exported in either form makes the same queues.
    for (file, format) in [("exported.json", "json"), ("exported.yaml", "table")] {
        let exported = world.run(&["queue", "export", "--output", format]);
        fs::write(world.path(file), &exported.stdout).unwrap();
        let applied = world.json(&["queue", "apply", "-f", file]);
        let results: Vec<&Value> = applied
            .as_array()
            .unwrap()
            .iter()
            .map(|queue| &queue["result"])
            .collect();
        assert_eq!(results, ["unchanged"; 3], "{file}");
    }

    let either = world.run(&["queue", "delete", "cpu", "--yes"]);
    assert_eq!(either.status.code(), Some(2), "{}", stderr(&either));
    assert!(stderr(&either).contains("--project-queue"), "{}", stderr(&either));
    world.json(&["queue", "delete", "cpu", "--project-queue", "speech", "--yes"]);
    world.json(&["queue", "delete", "cpu", "--yes"]);
    let absent = world.run(&["queue", "show", "gpu", "--project-queue", "speech"]);
    assert_eq!(absent.status.code(), Some(3), "{}", stderr(&absent));
    assert!(
        stderr(&absent).contains("in project `speech` of `admin`"),
        "{}",
        stderr(&absent)
    );
}

#[test]
fn documents_applied_before_one_that_is_refused_are_told() {
    let world = World::with_server();
    let refused = "{name: .., resource: local-container}\n";
    let good = |name: &str| format!("{{name: {name}, resource: local-container}}\n");
    let apply = |documents: &[&str], flags: &[&str]| {
        fs::write(world.path("queues.yaml"), documents.join("---\n")).unwrap();
        world.run(&[&["queue", "apply", "-f", "queues.yaml"], flags].concat())
    };
    let first = apply(&[refused, &good("one")], &[]);
    assert_eq!(first.status.code(), Some(2), "{}", stderr(&first));
    assert!(
        stderr(&first).contains("`..` is no name for a queue"),
        "{}",
        stderr(&first)
    );
    assert_eq!(
        (stdout(&first).as_str(), world.json(&["queue", "list"])),
        ("", json!([]))
    );

    let documents = [&good("one"), refused, &good("two")];
    let partly = apply(&documents, &["--output", "json"]);
    assert_eq!(partly.status.code(), Some(1), "{}", stderr(&partly));
    let told: Value = serde_json::from_slice(&partly.stdout).unwrap();
    assert_eq!(
        told,
        json!([{"name": "one", "entityName": "admin", "result": "created"}])
    );
    // Before it there may be a word about a server that takes its time.
    let error: Value = serde_json::from_str(stderr(&partly).lines().last().unwrap()).unwrap();
    let text = error["error"].as_str().unwrap();
    assert!(
        text.starts_with("admin/..: ")
            && text.ends_with("the 1 made or changed before it stay so; 1 after it were not tried"),
        "{text}"
    );
    let names = world.json(&["queue", "list"]);
    assert_eq!(names.as_array().unwrap().len(), 1, "{names}");

    let again = apply(&documents, &[]);
    assert_eq!(again.status.code(), Some(2), "nothing was changed: {}", stderr(&again));
}

#[test]
fn output_that_is_not_there_yet_and_never_was_is_told() {
    let world = World::with_server();
    world.json(&["queue", "create", "q", "-r", "local-container"]);
    let pushed = world.json(&["launch", "-d", "image:1", "-p", "p", "-q", "q"]);
    let id = pushed["runQueueItemId"].as_str().unwrap();
    let waits = world.run(&["item", "logs", id]);
    assert_eq!(waits.status.code(), Some(3), "{}", stderr(&waits));
    for part in [
        "waits and has printed nothing yet: No agent",
        "hint: `slipway item logs --follow ",
    ] {
        assert!(stderr(&waits).contains(part), "{}", stderr(&waits));
    }
    let never = world.run(&["item", "logs", id, "--attempt", "7", "--follow"]);
    assert_eq!(never.status.code(), Some(3), "{}", stderr(&never));
    assert!(stderr(&never).contains("no attempt 7"), "{}", stderr(&never));

    let mut follower = world.spawn(&["item", "logs", "--follow", id], &[]);
    follower.says("the item waits: No agent serves this queue");
    world.json(&["item", "cancel", id]);
    let (status, printed, said) = follower.end();
    assert!(status.success() && said.contains("the item is KILLED"), "{said}");
    assert_eq!(printed, "");
    assert!(stderr(&world.run(&["item", "logs", id])).contains("nothing was printed"));
}
