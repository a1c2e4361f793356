//! The command as people and scripts use it: the real binary against a real server.

mod support;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use support::{World, stderr, stdout};

#[test]
fn login_keeps_key_and_address_and_leaves_other_entries() {
    let mut world = World::empty();
    world.start();
    fs::write(world.path(".netrc"), "machine example.com login me password theirs\n").unwrap();
    let (address, key) = (world.address(), world.admin_key());
    let wrong = world.run_with(&["login", "--host", &address], &"x".repeat(40));
    assert_eq!(wrong.status.code(), Some(4), "{}", stderr(&wrong));
    assert!(stderr(&wrong).contains("hint:"));
    assert!(!world.path(".config/wandb/settings").exists());
    let right = world.run_with(&["login", "--host", &address], &key);
    assert!(right.status.success(), "{}", stderr(&right));
    let netrc = fs::read_to_string(world.path(".netrc")).unwrap();
    let host = address.strip_prefix("http://").unwrap();
    let expected = format!(
        "machine example.com login me password theirs\nmachine {host}\n  login user\n  password {}\n",
        key.trim()
    );
    assert_eq!(netrc, expected);
    let settings = fs::read_to_string(world.path(".config/wandb/settings")).unwrap();
    assert_eq!(settings, format!("[default]\nbase_url = {address}\n\n"));
    assert_eq!(world.json(&["queue", "list"]), json!([]));
}

#[test]
fn errors_have_their_exit_code_one_line_and_a_hint() {
    let world = World::with_server();
    fs::write(world.path("tabs.yaml"), "name: a\n\tresource: b\n").unwrap();
    for (arguments, code, text) in [
        (&["queue", "show", "absent"][..], 3, "no queue `absent`"),
        (&["item", "show", "absent"], 3, "absent"),
        (&["launch", "-d", "image", "-p", "p", "-q", "absent"], 3, "absent"),
        (&["queue", "create", "a", "-r", "moon"], 2, "resource `moon`"),
        (&["queue", "apply", "-f", "tabs.yaml"], 2, "tabs.yaml: line 2"),
        (&["queue", "delete"], 2, "required"),
        (&["run", "list", "-p", "absent"], 3, "absent"),
        (&["queue", "list", "--host", "http://127.0.0.1:1"], 4, "no API key"),
        (&["queue", "list", "--host", "nonsense"], 2, "server address"),
        (&["user", "create", "admin"], 4, "exists"),
    ] {
        let output = world.run(arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
        assert!(!said.contains('\u{1b}'), "colour without a terminal: {said}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn queues_as_documents_make_the_same_queues_again() {
    let world = World::with_server();
    let document = "name: gpu\nresource: kubernetes\nprioritization: true\nconfig:\n  spec:\n    gpus: {{gpus}}\n\
                    templateVariables:\n  gpus:\n    schema: {type: integer, minimum: 1}\n---\nname: cpu\nresource: local-process\n";
    let result = |name: &str, result: &str| json!({"name": name, "entityName": "admin", "result": result});
    fs::write(world.path("queues.yaml"), document).unwrap();
    let applied = world.json(&["queue", "apply", "-f", "queues.yaml"]);
    assert_eq!(applied, json!([result("gpu", "created"), result("cpu", "created")]));
    let again = world.json(&["queue", "apply", "-f", "queues.yaml"]);
    assert_eq!(again, json!([result("gpu", "unchanged"), result("cpu", "unchanged")]));
    let exported = world.run(&["queue", "export", "gpu", "cpu"]);
    fs::write(world.path("exported.yaml"), &exported.stdout).unwrap();
    let reapplied = world.json(&["queue", "apply", "-f", "exported.yaml"]);
    assert_eq!(reapplied, again, "{}", stdout(&exported));
    let updated = world.json(&["queue", "update", "gpu", "--prioritization", "off"]);
    assert_eq!(updated["prioritizationMode"], "DISABLED");
    assert_eq!(
        updated["config"]["resource_args"]["kubernetes"]["spec"]["gpus"],
        "{{gpus}}"
    );
    let paused = world.json(&["queue", "pause", "cpu"]);
    assert_eq!(paused["paused"], true);
    let unconfirmed = world.run(&["queue", "delete", "cpu"]);
    assert_eq!(unconfirmed.status.code(), Some(2), "{}", stderr(&unconfirmed));
    assert!(world.run(&["queue", "delete", "cpu", "--yes"]).status.success());
    let names: Vec<Value> = world
        .json(&["queue", "list"])
        .as_array()
        .unwrap()
        .iter()
        .map(|q| q["name"].clone())
        .collect();
    assert_eq!(names, ["gpu"]);
}

#[test]
fn what_a_document_no_longer_says_is_gone_from_its_queue() {
    let world = World::with_server();
    let base = "name: gpu\nresource: local-container\n";
    let full = "config: {memory: \"{{memory}}\"}\n\
                policy:\n  run_key_scopes: [launch]\n  allowed_overrides: [/volume]\n  agent_lost_timeout: 60000\n\
                externalLinks: {Grafana: \"https://grafana.example.com\"}\n\
                templateVariables:\n  memory:\n    description: how much\n    schema: {default: 1g, type: string}\n";
    let apply = |text: &str| {
        fs::write(world.path("queue.yaml"), text).unwrap();
        world.json(&["queue", "apply", "-f", "queue.yaml"])[0]["result"].clone()
    };
    let shown = || {
        let queue = world.json(&["queue", "show", "gpu"]);
        (
            queue["policy"]["allowed_overrides"].clone(),
            queue["externalLinks"]["links"].as_array().map_or(0, Vec::len),
            queue["templateVariables"].as_object().map_or(0, serde_json::Map::len),
        )
    };
    for (text, first) in [
        (format!("{base}{full}"), "created"),
        (base.to_owned(), "updated"),
        (format!("{base}{full}"), "updated"),
    ] {
        assert_eq!(apply(&text), first, "{text}");
        assert_eq!(apply(&text), "unchanged", "{text}");
        let expected = if text == base {
            (json!([]), 0, 0)
        } else {
            (json!(["/volume"]), 1, 1)
        };
        assert_eq!(shown(), expected, "{text}");
    }
    let update = |arguments: &[&str]| world.json(&[&["queue", "update", "gpu"], arguments].concat());
    update(&["--prioritization", "on"]);
    assert_eq!(shown(), (json!(["/volume"]), 1, 1), "what is not named stays");
    update(&["--policy", "{}"]);
    update(&["--no-links"]);
    assert_eq!(shown(), (json!([]), 0, 1));
}

#[test]
fn an_item_is_submitted_listed_moved_and_cancelled() {
    let world = World::with_server();
    for queue in ["one", "two"] {
        world.json(&[
            "queue",
            "create",
            queue,
            "-r",
            "local-container",
            "--prioritization",
            "on",
        ]);
    }
    let dry = world.json(&["launch", "-d", "image:1", "-p", "p", "-q", "one", "--dry-run"]);
    assert_eq!(dry["runQueueItemId"], Value::Null);
    assert_eq!(dry["runSpec"]["docker"]["docker_image"], "image:1");
    let pushed = world.json(&["launch", "-d", "image:1", "-p", "p", "-q", "one", "-P", "high"]);
    let id = pushed["runQueueItemId"].as_str().unwrap();
    let listed = world.json(&["item", "list", "--queue", "one"]);
    assert_eq!(
        listed.as_array().unwrap().len(),
        1,
        "a dry run stores nothing: {listed}"
    );
    let item = world.json(&["item", "show", id]);
    assert_eq!((&item["state"], &item["priority"]), (&json!("PENDING"), &json!(1)));
    assert!(
        item["waitReason"]["sentence"].as_str().unwrap().contains("agent"),
        "{item}"
    );
    let moved = world.json(&["item", "move", id, "--queue", "two", "--priority", "low"]);
    assert_eq!((&moved["queueName"], &moved["priority"]), (&json!("two"), &json!(3)));
    let cancelled = world.json(&["item", "cancel", id]);
    assert_eq!(cancelled["state"], "KILLED");
    let retried = world.json(&["item", "retry", id]);
    assert_eq!(retried["state"], "PENDING");
    assert_ne!(retried["id"], json!(id));
}

#[test]
fn jobs_are_made_of_code_and_images() {
    let world = World::with_server();
    fs::create_dir_all(world.path("code/.git")).unwrap();
    for (name, text) in [
        ("run.sh", "echo hi"),
        (".git/config", "secret"),
        ("requirements.txt", "wandb\n"),
    ] {
        fs::write(world.path("code").join(name), text).unwrap();
    }
    let made = world.create_job("train");
    assert_eq!(
        (&made["job"], &made["result"]),
        (&json!("admin/p/train:latest"), &json!("created"))
    );
    assert_eq!(world.create_job("train")["result"], "unchanged");
    let image = world.json(&["job", "create", "image", "python:3.11", "-p", "p"]);
    assert_eq!(image["job"], "admin/p/job-python:latest");
    let described = world.json(&["job", "describe", "train", "-p", "p"]);
    let source = &described["definition"]["source"];
    assert_eq!(source["entrypoint"], json!(["sh", "run.sh"]));
    let names: Vec<Value> = world
        .json(&["job", "list", "-p", "p"])
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["name"].clone())
        .collect();
    assert_eq!(names, ["job-python", "train"]);
    assert_eq!(
        world.json(&["run", "list", "-p", "p"]),
        json!([]),
        "helper runs are deleted"
    );
}

#[test]
fn users_are_made_before_the_first_start_and_while_the_server_runs() {
    let mut world = World::empty();
    let create = |world: &World, arguments: &[&str], input: &str| {
        let output = world.run_with(&[&["user", "create"], arguments].concat(), input);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let imported = "0123456789abcdef0123456789abcdef01234567";
    create(
        &world,
        &["early", "--admin", "--data-dir", "data", "--api-key-file", "-"],
        imported,
    );
    world.start();
    let list = |key: &str| {
        let address = world.address();
        let mut command = world.command(&["queue", "list", "--host", &address]);
        command.env("WANDB_API_KEY", key).output().unwrap().status.code()
    };
    assert_eq!(list(imported), Some(0));
    assert!(
        !world.path("data/admin-key").exists(),
        "an installation that has an admin gets no second one"
    );
    let refused = world.run(&["user", "create", "late", "--data-dir", "data"]);
    assert_ne!(refused.status.code(), Some(0));
    let mut through_server = world.command(&["user", "create", "late", "--data-dir", "data"]);
    let made = through_server.env("WANDB_API_KEY", imported).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    assert_eq!(list(stdout(&made).trim()), Some(0));
}

#[test]
fn a_second_server_on_the_same_data_or_port_is_refused() {
    let world = World::with_server();
    let port = world.address().rsplit_once(':').unwrap().1.to_owned();
    for (arguments, text) in [
        (
            &["server", "--data-dir", "data", "--listen", "127.0.0.1:0"][..],
            "is in use",
        ),
        (
            &[
                "server",
                "--data-dir",
                "other",
                "--listen",
                &format!("127.0.0.1:{port}"),
            ],
            "is in use",
        ),
    ] {
        let output = world.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(text), "{}", stderr(&output));
    }
}

#[test]
fn a_server_listens_on_a_host_by_its_name() {
    let world = World::empty();
    let mut server = world.spawn(&["server", "--data-dir", "data", "--listen", "localhost:0"], &[]);
    let signing_in = server.says("sign in with `slipway login --host ");
    let line = server.says("serving http://localhost:");
    let address = line.rsplit_once("serving ").unwrap().1.trim();
    let command = format!("`slipway login --host {address} < data/admin-key`");
    assert!(signing_in.contains(&command), "{signing_in}");
    world.sign_in();
    assert_eq!(world.json(&["queue", "list"]), json!([]));

    // No host has such a name, so that nobody is asked for it.
    let nobody = "x".repeat(64);
    for (listen, text) in [
        (
            format!("{nobody}:0").as_str(),
            format!("the host `{nobody}` is not known here").as_str(),
        ),
        ("8080", "write a host and a port"),
        ("localhost:http", "write a host and a port"),
    ] {
        for command in ["server", "up"] {
            let refused = world.run(&[command, "--data-dir", "other", "--listen", listen]);
            let said = stderr(&refused);
            assert_eq!(refused.status.code(), Some(2), "{command} {listen}: {said}");
            assert!(said.contains(text), "{command} {listen}: {said}");
        }
    }
    assert!(!world.path("other/control.db").exists(), "nothing was made");
}

#[test]
fn secrets_of_the_installation_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::with_server();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.path("data/admin-key")), 0o600);
    assert_eq!(mode(&world.path("data")), 0o700);
    assert_eq!(mode(&world.path(".netrc")), 0o600);
    assert!(!world.log().contains(world.admin_key().trim()), "the key is in the log");
}

#[test]
fn without_a_queue_the_items_of_all_queues_are_listed() {
    let world = World::with_server();
    let mut pushed = Vec::new();
    for queue in ["one", "two"] {
        world.json(&["queue", "create", queue, "-r", "local-container"]);
        let item = world.json(&["launch", "-d", "image:1", "-p", "p", "-q", queue]);
        pushed.push(item["runQueueItemId"].clone());
    }
    let listed = world.json(&["item", "list"]);
    let ids: Vec<&Value> = listed.as_array().unwrap().iter().map(|item| &item["id"]).collect();
    assert_eq!(ids.len(), 2);
    assert!(pushed.iter().all(|id| ids.contains(&id)), "{listed}");
    assert_eq!(
        world.json(&["item", "list", "--limit", "1"]).as_array().unwrap().len(),
        1
    );
    let table = stdout(&world.run(&["item", "list"]));
    assert!(table.contains("admin/one") && table.contains("admin/two"), "{table}");
}

#[test]
fn a_server_comes_up_again_after_any_end_and_keeps_its_items() {
    let mut world = World::with_server();
    world.json(&["queue", "create", "q", "-r", "local-container"]);
    world.json(&["launch", "-d", "image:1", "-p", "p", "-q", "q"]);
    for _ in 0..2 {
        world.kill();
        world.start();
        world.sign_in();
        let items = world.json(&["item", "list", "-q", "q"]);
        assert_eq!(items.as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_damaged_data_directory_is_named_in_one_line() {
    let mut world = World::with_server();
    world.kill();
    fs::remove_file(world.path("data/control.db-wal")).unwrap_or_default();
    fs::write(world.path("data/control.db"), "cut off in the middle of the first page").unwrap();
    let refused = world.run(&["server", "--data-dir", "data", "--listen", "127.0.0.1:0"]);
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("control.db") && !said.contains("panicked"), "{said}");
}

#[test]
fn storage_that_others_cannot_reach_is_refused() {
    let world = World::empty();
    for (flags, code, text) in [
        (
            &["--database-url", "postgres://nobody@127.0.0.1:1/none"][..],
            1,
            "--single-replica",
        ),
        (&["--blob-access", "direct"], 2, "--blobs s3://"),
    ] {
        let refused = world.run(&[&["server", "--data-dir", "data", "--listen", "127.0.0.1:0"], flags].concat());
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(code), "{said}");
        assert!(said.contains(text), "{said}");
    }
}

#[test]
fn https_with_a_certificate_of_ones_own() {
    let mut world = World::empty();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args([
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
            "-subj",
            "/CN=localhost",
            "-days",
            "2",
        ])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .current_dir(world.folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    world.start_with(&["--tls-cert", "cert.pem", "--tls-key", "key.pem"], &[]);
    let address = world.address();
    assert!(address.starts_with("https://"), "{address}");
    let certificate = world.path("cert.pem");
    let mut list = world.command(&["queue", "list", "--host", &address, "--output", "json"]);
    list.env("WANDB_API_KEY", world.admin_key().trim());
    let untrusted = list.output().unwrap();
    assert_eq!(untrusted.status.code(), Some(5), "{}", stderr(&untrusted));
    let trusted = list.env("SSL_CERT_FILE", certificate).output().unwrap();
    assert!(trusted.status.success(), "{}", stderr(&trusted));
}

#[test]
fn postgresql_and_files_straight_to_s3() {
    let service =
        |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} names no service; `make test` sets it"));
    let database = service("SLIPWAY_TEST_POSTGRES_URL");
    let endpoint = service("SLIPWAY_TEST_S3_ENDPOINT");
    let name = format!("cli{}", std::process::id());
    let made = Command::new("psql")
        .args([&database, "-c", &format!("CREATE DATABASE {name}")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let database = format!("{}/{name}", database.rsplit_once('/').unwrap().0);
    let host = endpoint.strip_prefix("http://").unwrap();
    let mut socket = std::net::TcpStream::connect(host).unwrap();
    write!(
        socket,
        "PUT /{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let answer = std::io::read_to_string(socket).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let mut world = World::empty();
    let storage = format!("s3://{name}/files");
    world.start_with(
        &[
            "--database-url",
            &database,
            "--blobs",
            &storage,
            "--blob-access",
            "direct",
        ],
        &[
            ("AWS_ENDPOINT", &endpoint),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ],
    );
    world.sign_in();
    world.round_trip();
    assert!(!world.path("data/blobs").exists(), "files are in the bucket only");
}
