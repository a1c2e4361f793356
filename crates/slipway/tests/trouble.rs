//! What goes wrong around a server: a newer database, sudden ends, a full disk.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, in its helpers too")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use support::{Program, World, stderr, stdout};

const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for a condition.
fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(begin.elapsed() < DEADLINE, "{what} did not come about");
        std::thread::yield_now();
    }
}

#[test]
fn a_binary_older_than_its_database_says_so_and_touches_nothing() {
    let mut world = World::with_server();
    world.kill();
    let path = world.path("data/control.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    let added = "INSERT INTO schema_history SELECT 999, 'future', applied_on, checksum FROM schema_history LIMIT 1";
    assert_eq!(database.execute(added, []).unwrap(), 1);
    drop(database);
    let before = fs::read(&path).unwrap();
    for command in ["server", "up"] {
        let refused = world.run(&[command, "--data-dir", "data", "--listen", "127.0.0.1:0"]);
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("error: "), "{said}");
        assert!(
            said.contains("version 999") && said.contains("newer version of slipway"),
            "{said}"
        );
        assert_eq!(stdout(&refused), "");
    }
    assert!(fs::read(&path).unwrap() == before, "the database is as it was");
}

#[test]
fn up_starts_again_on_its_data_after_any_end_and_not_twice_at_once() {
    let world = World::empty();
    let up = ["up", "--data-dir", "data", "--listen", "127.0.0.1:0"];
    let mut first = world.spawn(&up, &[]);
    first.says("serving");
    let second = world.run(&up);
    assert_eq!(second.status.code(), Some(1), "{}", stderr(&second));
    assert!(stderr(&second).contains("is in use"), "{}", stderr(&second));

    world.sign_in();
    let queued = world.json(&["queue", "list"]);
    assert_eq!(queued.as_array().unwrap().len(), 1);
    world.json(&["queue", "create", "later", "-r", "local-container"]);
    world.json(&["launch", "-d", "image:1", "-p", "p", "-q", "later"]);
    first.signal(Signal::INT);
    let (status, _, said) = first.end();
    assert!(status.success(), "{said}");

    for end in ["killed", "killed", "interrupted"] {
        let mut next = world.spawn(&up, &[]);
        next.says("serving");
        world.sign_in();
        let items = world.json(&["item", "list", "-q", "later"]);
        assert_eq!(items.as_array().unwrap().len(), 1, "{end}");
        // It serves before its agent is known to it.
        until("the agent by its old name", || {
            let agents = world.json(&["agents", "list"]);
            let names: Vec<&Value> = agents.as_array().unwrap().iter().map(|agent| &agent["name"]).collect();
            (names == ["up"]).then_some(())
        });
        if end == "killed" {
            next.kill();
        } else {
            next.signal(Signal::INT);
            let (status, _, said) = next.end();
            assert!(status.success(), "{said}");
        }
    }
}

#[test]
fn the_agent_of_up_belongs_to_the_admin_who_was_there_first() {
    let world = World::empty();
    let make = |name: &str, flags: &[&str], key: &str| {
        let create = ["user", "create", name, "--data-dir", "data", "--api-key-file", "-"];
        let made = world.run_with(&[&create[..], flags].concat(), key);
        assert!(made.status.success(), "{}", stderr(&made));
    };
    let [nobodys, zoes, aarons] = ["n", "z", "a"].map(|letter| letter.repeat(40));
    make("nobody", &[], &nobodys);
    make("zoe", &["--admin"], &zoes);
    make("aaron", &["--admin"], &aarons);
    // Where the agent was another admin's, it gets a key of its owner.
    fs::write(world.path("data/agent-key"), &aarons).unwrap();
    for _ in 0..2 {
        let mut up = world.spawn(&["up", "--data-dir", "data", "--listen", "127.0.0.1:0"], &[]);
        let line = up.says("serving");
        assert!(line.contains("`zoe/default`"), "{line}");
        up.signal(Signal::INT);
        let (status, _, said) = up.end();
        assert!(status.success(), "{said}");
    }
    assert_ne!(fs::read_to_string(world.path("data/agent-key")).unwrap().trim(), aarons);
}

#[test]
fn up_goes_on_serving_when_its_agent_is_drained_from_afar() {
    let world = World::empty();
    let mut up = world.spawn(&["up", "--data-dir", "data", "--listen", "127.0.0.1:0"], &[]);
    up.says("waits for items of default");
    world.sign_in();
    let drained = world.run(&["agents", "drain", "up"]);
    assert!(drained.status.success(), "{}", stderr(&drained));
    let line = up.says("the agent was drained and has ended");
    assert!(line.contains(&format!("{} goes on serving", world.address())), "{line}");
    let queues = world.json(&["queue", "list"]);
    assert_eq!(queues[0]["name"], "default", "{queues}");
    up.signal(Signal::INT);
    let (status, _, said) = up.end();
    assert!(status.success(), "{said}");
    assert!(
        !said.contains("a second signal ends"),
        "no agent is left to drain: {said}"
    );
}

#[test]
fn up_goes_on_serving_when_another_agent_takes_the_name_of_its_own() {
    let world = World::empty();
    let mut up = world.spawn(&["up", "--data-dir", "data", "--listen", "127.0.0.1:0"], &[]);
    up.says("waits for items of default");
    world.sign_in();
    fs::write(world.path("other.yaml"), "process: {enabled: true}\n").unwrap();
    let other = [
        "launch-agent",
        "-c",
        "other.yaml",
        "--state-dir",
        "other",
        "-q",
        "default",
    ];
    let mut other = world.spawn(&[&other[..], &["--name", "up", "--take-over"]].concat(), &[]);
    other.says("waits for items of default");
    let line = up.says("another agent took the name `up`: slipway@");
    assert!(line.contains("on host `"), "{line}");
    for told in [
        &format!("{} goes on serving", world.address()),
        "start the other agent with a `--name` of its own, then `slipway up` again",
    ] {
        assert!(line.contains(told), "{line}");
    }
    let agents = world.json(&["agents", "list"]);
    assert_eq!(agents.as_array().map(Vec::len), Some(1), "{agents}");
    other.signal(Signal::INT);
    assert!(other.end().0.success());
    up.signal(Signal::INT);
    let (status, _, said) = up.end();
    assert!(status.success(), "{said}");
}

#[test]
fn a_command_says_that_it_waits_for_a_server_and_gives_up() {
    let world = World::empty();
    // It takes connections, and nobody reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    // Nobody may listen there without being root, and nobody does.
    let absent = "http://127.0.0.1:1".to_owned();
    let begin = Instant::now();
    let commands = [absent, silent].map(|host| {
        let list = ["queue", "list", "--host", &host];
        (world.spawn(&list, &[("WANDB_API_KEY", KEY)]), host)
    });
    for (mut command, host) in commands {
        // After two seconds; a process that stood still so long may not know yet that it was refused.
        let line = command.says(&host);
        assert!(line.ends_with("; waiting for it 20 s in all"), "{line}");
        let (status, _, said) = command.end();
        let took = begin.elapsed();
        assert_eq!(status.code(), Some(5), "{said}");
        // The client's own tests hold the end to the second. These are processes on a machine that may be busy.
        assert!(
            took >= Duration::from_secs(20) && took < Duration::from_secs(60),
            "{host}: {took:?}"
        );
        assert!(said.contains(&format!("error: cannot reach {host}: no ")), "{said}");
    }
}

#[test]
fn a_web_site_at_the_address_of_the_server_is_told() {
    let site = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", site.local_addr().unwrap());
    std::thread::spawn(move || {
        let page = "<html><title>It works!</title></html>";
        let head = "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nConnection: close";
        for mut stream in site.incoming().map_while(Result::ok) {
            let mut asked = BufReader::new(&stream);
            let (mut line, mut length) = (String::new(), 0);
            while asked.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = bytes.trim().parse().unwrap();
                }
                line.clear();
            }
            // What is left unread would reset the connection.
            let _ = asked.read_exact(&mut vec![0; length]);
            let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{page}", page.len());
        }
    });
    let world = World::empty();
    for arguments in [&["login"][..], &["queue", "list"]] {
        let mut command = world.command(&[arguments, &["--host", &address]].concat());
        let variables = [("WANDB_API_KEY", KEY)];
        let output = command.envs(variables).stdin(Stdio::null()).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        let told =
            format!("{address}/graphql is not the API of W&B or Slipway: it answered 404 Not Found with a web page");
        assert!(
            said.contains(&told) && said.contains("It works!"),
            "{arguments:?}: {said}"
        );
    }
    assert!(!world.path(".netrc").exists(), "the key is kept for no such address");
}

#[test]
fn a_server_that_is_asked_twice_to_end_waits_for_nobody_and_its_log_is_json_if_wanted() {
    let world = World::empty();
    let arguments = [
        "server",
        "--data-dir",
        "data",
        "--listen",
        "127.0.0.1:0",
        "--log-format",
        "json",
    ];
    let mut server = world.spawn(&arguments, &[]);
    server.says("serving");
    let host = world.address();
    let host = host.strip_prefix("http://").unwrap();
    // A request whose body does not come; the server's word shows that it is under way.
    let key = world.admin_key();
    let key = key.trim();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nContent-Length: 9\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    let mut under_way = TcpStream::connect(host).unwrap();
    under_way.set_read_timeout(Some(DEADLINE)).unwrap();
    under_way.write_all(head.as_bytes()).unwrap();
    let mut word = [0; 12];
    under_way.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"HTTP/1.1 100");

    server.signal(Signal::TERM);
    let line = server.says("waiting for requests to finish");
    let told: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(told["level"], "INFO", "{line}");
    let begin = Instant::now();
    server.signal(Signal::TERM);
    let (status, _, said) = server.end();
    assert!(status.success() && said.contains("were cut off"), "{said}");
    assert!(begin.elapsed() < Duration::from_secs(15), "it waited for the request");
}

#[test]
fn a_job_without_a_queue_ends_with_whoever_waits_for_it() {
    let world = World::with_server();
    fs::create_dir_all(world.path("code")).unwrap();
    // The name appears with its content.
    fs::write(
        world.path("code/run.sh"),
        "echo $$ >\"$1.new\"; mv \"$1.new\" \"$1\"; exec sleep 600",
    )
    .unwrap();
    world.create_job("wait");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let note = world.path("pid");
        let entry = format!("sh run.sh {}", note.display());
        let mut launch = world.spawn(
            &[
                "launch",
                "-j",
                "admin/p/wait:latest",
                "-p",
                "p",
                "-r",
                "local-process",
                "-E",
                &entry,
            ],
            &[],
        );
        let pid = until("the job", || fs::read_to_string(&note).ok());
        launch.signal(signal);
        let (status, _, said) = launch.end();
        assert!(!status.success(), "{signal:?}: {said}");
        assert!(
            !PathBuf::from(format!("/proc/{}", pid.trim())).exists(),
            "{signal:?}: {said}"
        );
        fs::remove_file(note).unwrap();
    }
}

/// A job without a queue that hears of the wish to end, and goes on.
struct Stubborn {
    world: World,
    launch: Program,
    pid: i32,
    /// Its supervisor, while that is stopped.
    stopped: Option<Pid>,
}

impl Stubborn {
    fn launch() -> Self {
        let world = World::with_server();
        fs::create_dir_all(world.path("code")).unwrap();
        let script = "trap 'echo >\"$1.told\"' TERM; echo $$ >\"$1.new\"; mv \"$1.new\" \"$1\"; \
                      while :; do sleep 0.05; done";
        fs::write(world.path("code/run.sh"), script).unwrap();
        world.create_job("stubborn");
        let note = world.path("pid");
        let entry = format!("sh run.sh {}", note.display());
        let launch = [
            "launch",
            "-j",
            "admin/p/stubborn:latest",
            "-p",
            "p",
            "-r",
            "local-process",
            "-E",
            &entry,
        ];
        let launch = world.spawn(&launch, &[]);
        let pid = until("the job", || fs::read_to_string(&note).ok());
        let pid = pid.trim().parse().unwrap();
        let stopped = None;
        Self {
            world,
            launch,
            pid,
            stopped,
        }
    }

    /// Keeps its supervisor from doing anything, until it may go on.
    fn stop_supervisor(&mut self) {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let parent = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap();
        let supervisor = Pid::from_raw(parent.parse().unwrap()).unwrap();
        kill_process(supervisor, Signal::STOP).unwrap();
        self.stopped = Some(supervisor);
    }

    fn let_supervisor_go_on(&mut self) {
        if let Some(supervisor) = self.stopped.take() {
            kill_process(supervisor, Signal::CONT).unwrap();
        }
    }

    fn runs(&self) -> bool {
        PathBuf::from(format!("/proc/{}", self.pid)).exists()
    }

    /// What agents and launches keep of their jobs: the grace of the stop that was asked for last.
    fn grace_millis(&self) -> Option<u64> {
        let here = self.world.path(".local/state/slipway/agent/here");
        let launches = here.read_dir().ok()?.flatten().map(|entry| entry.path().join("jobs"));
        let jobs = launches.filter_map(|jobs| jobs.read_dir().ok()).flatten().flatten();
        let mut stops = jobs.filter_map(|job| fs::read(job.path().join("stop")).ok());
        let stop: Value = serde_json::from_slice(&stops.next()?).ok()?;
        stop["grace_millis"].as_u64()
    }
}

impl Drop for Stubborn {
    fn drop(&mut self) {
        // Also after a failure: it then ends its job, whose directory goes with the world.
        self.let_supervisor_go_on();
    }
}

#[test]
fn a_second_interrupt_kills_a_job_without_a_queue_that_does_not_end() {
    let mut job = Stubborn::launch();
    job.launch.signal(Signal::INT);
    let told = job.world.path("pid.told");
    until("the job's word to end", || told.exists().then_some(()));
    assert!(job.runs(), "it has a minute");
    let begin = Instant::now();
    job.launch.signal(Signal::INT);
    let (status, _, said) = job.launch.end();
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    assert_eq!(status.code(), Some(137), "{said}");
    assert!(!job.runs(), "{said}");
}

#[test]
fn a_third_interrupt_gives_up_on_a_job_that_cannot_be_ended_and_the_next_launch_clears_up() {
    let mut job = Stubborn::launch();
    // So that nobody ends the job.
    job.stop_supervisor();
    for grace in [60_000, 0] {
        job.launch.signal(Signal::INT);
        until("the wish to end", || (job.grace_millis() == Some(grace)).then_some(()));
    }
    let begin = Instant::now();
    job.launch.signal(Signal::INT);
    let (status, _, said) = job.launch.end();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(
        !status.success() && said.contains("given up: the target does not answer"),
        "{said}"
    );
    assert!(job.runs(), "the supervisor does nothing");

    job.let_supervisor_go_on();
    until("the end of the job", || (!job.runs()).then_some(()));
    fs::write(job.world.path("code/run.sh"), "exit 3").unwrap();
    job.world.create_job("next");
    let next = job
        .world
        .run(&["launch", "-j", "admin/p/next:latest", "-p", "p", "-r", "local-process"]);
    assert_eq!(next.status.code(), Some(3), "{}", stderr(&next));
    let left = job
        .world
        .path(".local/state/slipway/agent/here")
        .read_dir()
        .unwrap()
        .count();
    assert_eq!(left, 0, "{}", stderr(&next));
}

#[test]
fn a_launch_starts_beside_what_a_killed_one_left_if_that_does_not_end() {
    let mut job = Stubborn::launch();
    job.stop_supervisor();
    job.launch.kill();
    fs::write(job.world.path("code/run.sh"), "exit 3").unwrap();
    job.world.create_job("next");
    let launch = ["launch", "-j", "admin/p/next:latest", "-p", "p", "-r", "local-process"];
    let next = job.world.run(&launch);
    assert_eq!(next.status.code(), Some(3), "{}", stderr(&next));
    for words in ["is ended first; that is waited for 20 s", "starts beside it"] {
        assert!(stderr(&next).contains(words), "{}", stderr(&next));
    }
    assert!(job.runs(), "the supervisor does nothing");
}

#[test]
fn a_job_that_is_let_go_runs_on_and_leaves_its_output() {
    let world = World::with_server();
    fs::create_dir_all(world.path("code")).unwrap();
    fs::write(
        world.path("code/run.sh"),
        "echo begun; while [ ! -e \"$1\" ]; do sleep 0.02; done; echo done; exit 3",
    )
    .unwrap();
    world.create_job("train");
    let launch = |go: &str| {
        let entry = format!("sh run.sh {}", world.path(go).display());
        let job = "admin/p/train:latest";
        let flags = ["launch", "-j", job, "-p", "p", "-r", "local-process", "--async", "-E"];
        world.json(&[&flags[..], &[&entry]].concat())
    };
    let read = |told: &Value| fs::read_to_string(told["output"].as_str().unwrap()).unwrap();
    let ended = |told: &Value| read(told).contains("the job ended with code").then_some(());

    let told = launch("go");
    assert!(told["run"].as_str().unwrap().starts_with("admin/p/"), "{told}");
    until("output", || read(&told).contains("begun").then_some(()));
    fs::write(world.path("go"), "").unwrap();
    until("the end", || ended(&told));
    let output = read(&told);
    assert!(output.starts_with("begun\ndone\n"), "{output}");
    assert!(output.contains("the job ended with code 3"), "{output}");

    let told = launch("never");
    until("output", || read(&told).contains("begun").then_some(()));
    let pid = Pid::from_raw(i32::try_from(told["pid"].as_i64().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    until("the end", || ended(&told));
    let here = world.path(".local/state/slipway/agent/here");
    let left: Vec<_> = here
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.len() == 2 && left.iter().all(|name| name.to_string_lossy().ends_with(".log")),
        "{left:?}"
    );

    // What keeps it from starting is said at once.
    let refused = world.run(&["launch", "-j", "admin/p/train:latest", "-p", "p", "--async"]);
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("--resource local-process"), "{said}");
    assert_eq!(here.read_dir().unwrap().count(), 2, "nothing is kept of it");
}

/// A server whose data directory is on a small disk of its own. The disk is a `tmpfs` in a mount
/// namespace that only the server and its shell see; `/proc` leads into it.
struct SmallDisk {
    world: World,
    shell: Child,
}

const KEY: &str = "local-0123456789012345678901234567890123456789";

impl SmallDisk {
    /// Starts the server; when it is killed it is started once more.
    fn start() -> Self {
        let world = World::empty();
        fs::create_dir(world.path("data")).unwrap();
        let script = "mount -t tmpfs -o size=12m tmpfs data && head -c 4000000 /dev/zero > data/ballast || exit 9
            for turn in 1 2; do
                \"$0\" server --data-dir data --listen 127.0.0.1:0 & echo $! > data/pid
                wait $!
                rm data/address
            done";
        let mut command = Command::new("unshare");
        // Without root it takes a user namespace to mount anything.
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        let shell = command
            .args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_slipway")])
            .current_dir(world.folder.path())
            .env("HOME", world.folder.path())
            .env("SLIPWAY_ADMIN_API_KEY", KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(world.path("server.log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{error}: `apt-get install util-linux` has `unshare`"));
        Self { world, shell }
    }

    /// A file on the small disk.
    fn file(&self, name: &str) -> PathBuf {
        let folder = self.world.path("data").join(name);
        let root = PathBuf::from(format!("/proc/{}/root", self.shell.id()));
        root.join(folder.strip_prefix("/").unwrap())
    }

    fn read(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.file(name)).ok()?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// The server's address without its scheme, once it listens.
    fn address(&mut self) -> String {
        let log = self.world.path("server.log");
        until("the server's address", || {
            let ended = self.shell.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", fs::read_to_string(&log).unwrap());
            Some(self.read("address")?.strip_prefix("http://")?.to_owned())
        })
    }

    /// Sends a request; the status, the head and the body of its answer.
    fn send(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, String, String) {
        let address = self.address();
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {KEY}\r\nConnection: \
             close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses a body may end the connection before it has read all of it.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or(0), head.to_ascii_lowercase(), body.to_owned())
    }

    fn graphql(&mut self, query: &str, variables: &Value) -> (u16, String, Value) {
        let body = json!({"query": query, "variables": variables}).to_string();
        let (status, head, body) = self.send("POST", "/graphql", body.as_bytes());
        let body = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{head}\n{body}"));
        (status, head, body)
    }

    fn data(&mut self, query: &str, variables: &Value) -> Value {
        let (status, _, body) = self.graphql(query, variables);
        assert_eq!(status, 200, "{body}");
        body["data"].clone()
    }

    /// Pushes an item of some size; its id, or why not.
    fn push(&mut self, number: usize, bytes: usize) -> Result<String, (u16, String, String)> {
        let spec = json!({"docker": {"docker_image": "a"}, "overrides": {"run_config": {"x": "x".repeat(bytes)}}});
        let (status, head, body) = self.graphql(
            "mutation($s: JSONString!, $k: String!) { pushToRunQueueByName(input: {entityName: \"admin\", projectName: \
             \"model-registry\", queueName: \"q\", runSpec: $s, idempotencyKey: $k}) { runQueueItemId } }",
            &json!({"s": spec.to_string(), "k": format!("k{number}")}),
        );
        match body["data"]["pushToRunQueueByName"]["runQueueItemId"].as_str() {
            Some(id) if status == 200 => Ok(id.to_owned()),
            _ => Err((status, head, body.to_string())),
        }
    }

    /// The ids of all items, oldest first.
    fn items(&mut self) -> Vec<String> {
        let listed = "{ runQueues { items(first: 500) { edges { node { id } } } } }";
        let data = self.data(listed, &json!({}));
        let edges = data["runQueues"][0]["items"]["edges"].as_array().unwrap();
        edges
            .iter()
            .rev()
            .map(|edge| edge["node"]["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Its disk is seen through the shell, while that lives.
        let server = self.read("pid").and_then(|pid| pid.parse().ok());
        let _ = self.shell.kill();
        if let Some(server) = server.and_then(Pid::from_raw) {
            let _ = kill_process(server, Signal::KILL);
        }
        let _ = self.shell.wait();
    }
}

#[test]
fn a_full_disk_is_told_and_loses_nothing_that_was_answered() {
    let mut disk = SmallDisk::start();
    disk.data(
        "mutation { upsertRunQueue(input: {entityName: \"admin\", projectName: \"model-registry\", queueName: \"q\", \
         resourceType: \"local-container\", resourceConfig: \"{}\"}) { success } upsertBucket(input: {name: \"r\", \
         entityName: \"admin\", modelName: \"p\"}) { inserted } }",
        &json!({}),
    );
    let mut kept = Vec::new();
    let (status, head, body) = loop {
        match disk.push(kept.len(), 100_000) {
            Ok(id) => kept.push(id),
            Err(refused) => break refused,
        }
        assert!(kept.len() < 500, "the disk does not fill");
    };
    assert!(!kept.is_empty(), "{body}");
    assert_eq!(status, 503, "{body}");
    assert!(head.contains("\r\nretry-after: "), "{head}");
    assert!(body.contains("disk") && body.contains("UNAVAILABLE"), "{body}");

    let files = "mutation { createRunFiles(input: {entityName: \"admin\", projectName: \"p\", runName: \"r\", files: \
                 [\"f\"]}) { files { uploadUrl } } }";
    let (status, _, made) = disk.graphql(files, &json!({}));
    if status == 200 {
        let url = made["data"]["createRunFiles"]["files"][0]["uploadUrl"]
            .as_str()
            .unwrap();
        let path = url[url.find("/storage").unwrap()..].to_owned();
        let (status, head, body) = disk.send("PUT", &path, &vec![7; 5_000_000]);
        assert_eq!(status, 503, "{head} {body}");
    } else {
        assert_eq!(status, 503, "{made}");
    }
    let lines = json!({"files": {"output.log": {"offset": 0, "content": ["x".repeat(3_000_000)]}}}).to_string();
    let (status, head, body) = disk.send("POST", "/files/admin/p/r/file_stream", lines.as_bytes());
    assert_eq!(status, 503, "{head} {body}");
    assert!(head.contains("\r\nretry-after: "), "{head}");

    assert_eq!(
        disk.items(),
        kept,
        "what was answered can be read while the disk is full"
    );
    assert_eq!(disk.send("GET", "/healthz", b"").0, 200);

    fs::remove_file(disk.file("ballast")).unwrap();
    let last = until("a push after there is room again", || {
        disk.push(kept.len(), 100_000).ok()
    });
    kept.push(last);
    assert_eq!(disk.items(), kept);

    let server = disk.read("pid").unwrap().parse().unwrap();
    let server = Pid::from_raw(server).unwrap();
    kill_process(server, Signal::KILL).unwrap();
    until("the end of the killed server", || {
        (disk.read("pid")? != server.as_raw_nonzero().to_string()).then_some(())
    });
    assert_eq!(disk.items(), kept, "and after a sudden end");
}
