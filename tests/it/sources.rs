//! Where samples come from: applications that ask over HTTP, programs, topics, files at their own pace, the device itself; and models that
//! are tried in a process of their own.

use crate::fleet::{
    Process, agent, agent_config, baseline, binary, free_port, mosquitto, must, pump_bundle, root, run, status,
    wait_for,
};
use driftline_agent::inference::Model;
use driftline_shared::random::Random;
use driftline_tests::pump_bundle::bundle;
use image::{GrayImage, Luma};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) const COLUMNS: [&str; 5] = driftline_agent::pumps::COLUMNS;

fn onnx() -> Vec<u8> {
    fs::read(root().join("tests/models/pump-v1.onnx")).expect("the model")
}

/// An agent without a collector.
fn start(dir: &Path, source: &str) -> Process {
    let path = pump_bundle(dir, 1_000);
    let config = agent_config(dir, "pump-1", free_port(), Some(&path), source);
    agent(dir, "pump-1", &config)
}

/// What the agent says when it has ended: samples taken, in windows, refused.
fn account(process: &mut Process) -> [u64; 3] {
    process.terminate();
    assert!(process.wait().success());
    let said = process.said();
    let line = said.lines().rev().find(|l| l.contains(" samples taken: ")).expect("an account");
    let mut numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
    [(); 3].map(|()| numbers.next().expect("a number"))
}

pub(crate) fn post(url: &str, body: &Value) -> (u16, Value) {
    let request = ureq::post(url).config().http_status_as_error(false).build();
    let mut answer = request.send_json(body).expect("an answer");
    (answer.status().as_u16(), answer.body_mut().read_json().expect("JSON"))
}

#[test]
fn applications_ask_over_http() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut agent = start(dir.path(), "kind = \"http\"\nlisten = \"127.0.0.1:0\"");
    let base = agent.after("applications can ask the model at ");
    let get = |path: &str| -> Value {
        ureq::get(format!("{base}{path}")).call().expect("an answer").body_mut().read_json().expect("JSON")
    };
    assert_eq!(get("")["extensions"], json!(["binary_tensor_data"]));
    let model = get("/models/pump");
    assert_eq!(model["versions"], json!(["v1"]));
    let input = model["inputs"][0]["name"].as_str().expect("a name").to_owned();
    assert_eq!(model["inputs"][0]["shape"], json!([-1, 5]));
    ureq::get(format!("{base}/models/pump/versions/v1/ready")).call().expect("ready");

    let row = [62.0f32, 1.8, 30.0, 12.0, 1450.0];
    let mut own = Vec::new();
    Model::load(&onnx(), 5).expect("the model").run(&row, &mut own).expect("an answer");
    let infer = format!("{base}/models/pump/infer");
    let whole = json!({ "id": "a-7", "inputs": [{ "name": input, "shape": [1, 5], "datatype": "FP32", "data": row }] });
    let columns: Vec<Value> = COLUMNS
        .iter()
        .zip(row)
        .map(|(name, v)| json!({ "name": name, "shape": [1], "datatype": "FP64", "data": [v] }))
        .collect();
    for body in [whole, json!({ "id": "a-7", "inputs": columns })] {
        let (status, answer) = post(&infer, &body);
        assert_eq!((status, &answer["id"]), (200, &json!("a-7")), "{answer}");
        let scores = answer["outputs"][0]["data"].as_array().expect("scores");
        for (found, wanted) in scores.iter().zip(&own) {
            assert!((found.as_f64().expect("a number") - f64::from(*wanted)).abs() < 1e-6, "{answer}");
        }
        let label = answer["outputs"][1]["data"][0].as_str().expect("a label");
        assert!(driftline_agent::pumps::CLASSES.contains(&label), "{label}");
    }
    let tensor = |shape: Value, kind: &str, data: Value| json!({ "inputs": [{ "name": input, "shape": shape, "datatype": kind, "data": data }] });
    let wrong = [
        (tensor(json!([1, 4]), "FP32", json!([1, 2, 3, 4])), "has shape [1, 4] where [-1, 5] is right"),
        (tensor(json!([1, 5]), "BYTES", json!([1, 2, 3, 4, 5])), "has datatype BYTES"),
        (
            json!({ "inputs": [{ "name": "nobody", "shape": [1], "datatype": "FP32", "data": [1] }] }),
            "has no input nobody",
        ),
        (json!({ "inputs": 7 }), "is no inference request of the v2 protocol"),
    ];
    for (body, sentence) in wrong {
        let (status, answer) = post(&infer, &body);
        assert_eq!(status, 400);
        assert!(answer["error"].as_str().expect("a sentence").contains(sentence), "{answer}");
    }
    let (status, answer) = post(&format!("{base}/models/other/infer"), &json!({ "inputs": [] }));
    assert_eq!((status, answer["error"].as_str()), (404, Some("this device runs the model pump, version v1")));
    // What is wrong with a request beside its JSON is said as JSON too.
    let raw = |method: &str, headers: &str, body: &[u8]| -> (u16, String) {
        let mut stream =
            TcpStream::connect(base.trim_start_matches("http://").trim_end_matches("/v2")).expect("a connection");
        let head =
            format!("{method} /v2/models/pump/infer HTTP/1.1\r\nHost: device\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).expect("bytes");
        // It may be refused before all of it was read.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.get(9..12).and_then(|n| n.parse().ok()).unwrap_or(0);
        let json: Value =
            answer.split_once("\r\n\r\n").and_then(|(_, json)| serde_json::from_str(json).ok()).unwrap_or_default();
        (status, json["error"].as_str().unwrap_or_default().to_owned())
    };
    let refused = [
        ("GET", "", &b""[..], (405, "infer is asked with POST")),
        ("POST", "Content-Length: 9000000\r\n", b"", (413, "larger than 8 MiB")),
        ("POST", "Content-Encoding: br\r\nContent-Length: 2\r\n", b"{}", (415, "use gzip, deflate or none")),
        ("POST", "Content-Encoding: gzip\r\nContent-Length: 2\r\n", b"{}", (400, "cannot be decompressed")),
        ("POST", "Expect: 100-continue\r\nContent-Length: 2\r\n", b"{}", (100, "")),
    ];
    for (method, headers, body, (status, sentence)) in refused {
        let (found, said) = raw(method, headers, body);
        assert!(found == status && said.contains(sentence), "{headers}: {found} {said}");
    }
    // In pieces, as a client sends who does not know how long it will be.
    let chunked = json!({ "inputs": 7 }).to_string();
    let pieces = format!("{:x}\r\n{chunked}\r\n0\r\n\r\n", chunked.len());
    let (status, said) = raw("POST", "Transfer-Encoding: chunked\r\n", pieces.as_bytes());
    assert!(status == 400 && said.contains("no inference request"), "{status} {said}");
    // Eight megabytes that decompress to more.
    must(Command::new("sh").current_dir(dir.path()).args(["-c", "head -c 100000000 /dev/zero | gzip -9 > bomb.gz"]));
    let bomb = fs::read(dir.path().join("bomb.gz")).expect("the bomb");
    let (status, said) = raw("POST", &format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n", bomb.len()), &bomb);
    assert!(status == 413 && said.contains("larger than 8 MiB"), "{status} {said}");
    let troubles = &crate::fleet::status(&dir.path().join("pump-1.toml")).expect("an answer")["troubles"];
    assert_eq!((&troubles["requests_malformed"], &troubles["requests_for_another_model"]), (&json!(10), &json!(1)));
    // Connections that say nothing, and one that says nonsense, are nobody's trouble.
    let address = base.trim_start_matches("http://").trim_end_matches("/v2").to_owned();
    let silent: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(&address).expect("a connection")).collect();
    TcpStream::connect(&address).expect("a connection").write_all(b"\x16\x03\x01 nonsense\r\n\r\n").expect("bytes");
    let many = json!({ "inputs": [{ "name": input, "shape": [100, 5], "datatype": "FP32", "data": row.repeat(100) }] });
    assert_eq!(post(&infer, &many).0, 200);
    drop(silent);
    assert_eq!(account(&mut agent), [112, 102, 10], "two requests of one, one of a hundred, ten refused");
}

#[test]
fn applications_ask_over_a_unix_socket() {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("model.sock");
    let mut agent = start(dir.path(), &format!("kind = \"http\"\nlisten = \"unix:{}\"", socket.display()));
    agent.after("applications can ask the model at the socket ");
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("the socket");
    // Two requests on one connection.
    stream.write_all(b"GET /v2/health/ready HTTP/1.1\r\nHost: device\r\n\r\n").expect("bytes");
    let columns: Vec<Value> = COLUMNS
        .iter()
        .zip([62.0, 1.8, 30.0, 12.0, 1450.0])
        .map(|(name, v)| json!({ "name": name, "shape": [1], "datatype": "FP32", "data": [v] }))
        .collect();
    let body = json!({ "inputs": columns }).to_string();
    let head = "POST /v2/models/pump/infer HTTP/1.1\r\nHost: device\r\nConnection: close\r\n";
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("bytes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"model_name\":\"pump\""), "{answer}");
    assert_eq!(account(&mut agent), [1, 1, 0]);
}

#[test]
fn tritonclient_drives_the_endpoint() {
    // `tests/run models` gives a Python with tritonclient; the protocol itself is tested above in every run.
    let Some(python) = std::env::var_os("DRIFTLINE_TRITON") else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let mut agent = start(dir.path(), "kind = \"http\"\nlisten = \"127.0.0.1:0\"\ndeadline = \"5s\"");
    let base = agent.after("applications can ask the model at http://");
    let script = root().join("tests/models/triton.py");
    let said = must(Command::new(python).arg(script).args([base.trim_end_matches("/v2"), "pump"]));
    assert!(said.contains("all of it agrees"), "{said}");
    let [taken, in_windows, refused] = account(&mut agent);
    assert!(taken > 300 && in_windows + refused == taken && refused == 5, "{taken} {in_windows} {refused}");
}

#[test]
fn what_a_program_has_started_ends_with_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let pids = dir.path().join("pids");
    let header = COLUMNS.join(",");
    let text = format!(
        "echo $$ >> {p}\n(while :; do sleep 0.05; echo 1,2,3,4,5; done) &\necho $! >> {p}\necho {header}\nwait\n",
        p = pids.display()
    );
    let script = dir.path().join("sensor.sh");
    fs::write(&script, text).expect("a script");
    let source = format!("kind = \"command\"\ncommand = [\"sh\", {script:?}]\nformat = \"csv\"");
    let mut agent = start(dir.path(), &source);
    let config = dir.path().join("pump-1.toml");
    wait_for("samples", || (status(&config)?["samples"]["taken"].as_u64() > Some(3)).then_some(()));
    let [taken, ..] = account(&mut agent);
    assert!(taken > 3);
    let started = fs::read_to_string(&pids).expect("two processes");
    assert_eq!(started.lines().count(), 2);
    // A process that has ended may still wait for its parent to look.
    let lives = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z")
    };
    wait_for("both to end", || (!started.lines().any(lives)).then_some(()));
}

#[test]
fn programs_that_fail_or_flood_are_started_again() {
    let dir = tempfile::tempdir().expect("a folder");
    // First it floods with a line that never ends, then it dies, then it prints and ends well.
    let script = dir.path().join("sensor.sh");
    let header = COLUMNS.join(",");
    let state = dir.path().join("state");
    let text = format!(
        "echo x >> {state}\ncase $(wc -l < {state}) in\n1) tr '\\0' a < /dev/zero;;\n2) echo {header}; echo 1,2,3,4,5; exit 3;;\n\
         *) echo {header}; echo 1,2,3,4,5; echo 1,2,3; echo 5,4,3,2,1;;\nesac\n",
        state = state.display()
    );
    fs::write(&script, text).expect("a script");
    let source = format!("kind = \"command\"\ncommand = [\"sh\", {script:?}]\nformat = \"csv\"");
    let mut agent = start(dir.path(), &source);
    agent.after("a line is longer than ");
    agent.after("the program sh ended (exit status: 3); it is started again in 2 s");
    assert!(agent.wait().success());
    let said = agent.said();
    assert!(said.contains("4 samples taken: 3 in windows, 1 refused"), "{said}");

    let config = agent_config(
        dir.path(),
        "pump-2",
        free_port(),
        Some(&dir.path().join("v1.bundle")),
        "kind = \"command\"\ncommand = [\"/no/such/program\"]",
    );
    let (code, _, error) = run(Command::new(binary("driftline-agent")).args(["run", "--config"]).arg(&config));
    assert_eq!(code, 1);
    assert!(error.contains("the program /no/such/program cannot be started"), "{error}");
}

/// Publishes messages at QoS 0 with a client of a few bytes (MQTT 3.1.1).
fn publish(port: u16, topic: &str, messages: &[&[u8]]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker");
    stream.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01t").expect("CONNECT");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("CONNACK");
    for message in messages {
        let mut packet = Vec::new();
        packet.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        packet.extend_from_slice(topic.as_bytes());
        packet.extend_from_slice(message);
        let mut frame = vec![0x30];
        let mut rest = packet.len();
        while rest >= 128 {
            frame.push((rest % 128) as u8 | 0x80);
            rest /= 128;
        }
        frame.push(rest as u8);
        frame.extend_from_slice(&packet);
        stream.write_all(&frame).expect("PUBLISH");
    }
    stream.write_all(b"\xe0\x00").expect("DISCONNECT");
}

#[test]
fn messages_on_a_topic_are_samples() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_mosquitto, port) = mosquitto(dir.path());
    let mut agent = start(dir.path(), &format!("kind = \"mqtt\"\ntopic = \"line/+/samples\"\nport = {port}"));
    agent.after("samples come from line/+/samples at 127.0.0.1:");
    let one = json!({ "temp_c": 61.0, "id": 4 }).to_string();
    let two = json!([{ "temp_c": 61.0 }, { "temp_c": 62.0 }]).to_string();
    // Five megabytes are more than the agent reads.
    let large = "x".repeat(5 << 20);
    publish(port, "line/1/samples", &[one.as_bytes(), large.as_bytes(), b"nonsense", two.as_bytes()]);
    agent.after("the line is no JSON object");
    let config = dir.path().join("pump-1.toml");
    wait_for("all messages", || (status(&config)?["samples"]["taken"] == 5).then_some(()));
    assert_eq!(status(&config).expect("an answer")["troubles"]["messages_too_large"], 1);
    assert_eq!(account(&mut agent), [5, 3, 2]);
    assert!(agent.said().contains("has 5120 KiB and is not read: 1024 KiB are taken"), "{}", agent.said());
}

#[test]
fn a_topic_of_a_broker_that_wants_to_know_who_asks() {
    let dir = tempfile::tempdir().expect("a folder");
    let (open, closed, password) = (free_port(), free_port(), dir.path().join("password"));
    let users = dir.path().join("users");
    let known = |password: &str| {
        fs::write(&users, format!("reader:{password}\n")).expect("users");
        must(Command::new("mosquitto_passwd").arg("-U").arg(&users));
    };
    known("another");
    fs::write(&password, "secret words\n").expect("a password");
    let config = dir.path().join("brokers.conf");
    let text = format!(
        "user root\nper_listener_settings true\nlistener {open} 127.0.0.1\nallow_anonymous true\nlistener {closed} 127.0.0.1\npassword_file {}\n",
        users.display()
    );
    fs::write(&config, text).expect("a config");
    let broker = Process::start(dir.path(), "brokers", Command::new("/usr/sbin/mosquitto").arg("-c").arg(&config));
    wait_for("Mosquitto", || std::net::TcpStream::connect(("127.0.0.1", closed)).ok());
    let source = format!(
        "kind = \"mqtt\"\ntopic = \"line/1\"\nport = {closed}\nusername = \"reader\"\npassword_file = {password:?}"
    );
    let mut agent = start(dir.path(), &source);
    agent.after("no samples come from 127.0.0.1:");
    assert!(agent.said().contains("it is tried again"), "{}", agent.said());
    // The broker learns the right password; the agent has gone on trying.
    known("secret words");
    must(Command::new("kill").args(["-HUP", &broker.id().to_string()]));
    agent.after("samples come from line/1 at 127.0.0.1:");
    publish(open, "line/1", &[json!({ "temp_c": 61.0 }).to_string().as_bytes()]);
    let config = dir.path().join("pump-1.toml");
    wait_for("a sample", || (status(&config)?["samples"]["taken"] == 1).then_some(()));
    assert!(!agent.said().contains("secret words"), "{}", agent.said());
}

#[test]
fn messages_are_images_for_a_model_of_images() {
    let dir = tempfile::tempdir().expect("a folder");
    let train = dir.path().join("train");
    fs::create_dir(&train).expect("a folder");
    let mut random = Random::new(3);
    let mut image = |name: &str| {
        let path = train.join(name);
        GrayImage::from_fn(16, 16, |_, _| Luma([random.bits() as u8])).save(&path).expect("an image");
        fs::read(path).expect("the image")
    };
    let files: Vec<Vec<u8>> = (0..100).map(|at| image(&format!("{at:03}.png"))).collect();
    let bundle = baseline(dir.path(), "corpus/nn-camera.onnx", &train, &["--window", "1s"]);
    let (_mosquitto, port) = mosquitto(dir.path());
    let source = format!("kind = \"mqtt\"\ntopic = \"camera/+\"\nport = {port}");
    let config = agent_config(dir.path(), "camera-1", free_port(), Some(&bundle), &source);
    let mut agent = agent(dir.path(), "camera-1", &config);
    agent.after("samples come from camera/+ at 127.0.0.1:");
    // A file, its pixels, half a file, and text; then another file, which shows that all were read.
    let raw = vec![7u8; 256];
    let taken = |many: u32| wait_for("messages", || (status(&config)?["samples"]["taken"] == many).then_some(()));
    publish(port, "camera/1", &[&files[0], &raw, &files[1][..90], b"no image at all"]);
    // More than four at a time may find a slow device too far behind.
    taken(4);
    publish(port, "camera/1", &[&files[2]]);
    taken(5);
    assert_eq!(account(&mut agent), [5, 3, 2]);
    assert!(agent.said().contains("camera/+ is not used"), "{}", agent.said());
}

#[test]
fn a_file_is_played_at_the_pace_of_its_times() {
    let dir = tempfile::tempdir().expect("a folder");
    let table = dir.path().join("rows.csv");
    let rows: Vec<String> = (0..30).map(|i| format!("2026-01-01T00:00:{i:02}Z,61,1.8,30,12,1450")).collect();
    fs::write(&table, format!("at,{}\n{}\n", COLUMNS.join(","), rows.join("\n"))).expect("a table");
    let began = Instant::now();
    let mut agent = start(dir.path(), &format!("kind = \"csv\"\npath = {table:?}\ntime = \"at\"\nspeed = 10.0"));
    assert!(agent.wait().success());
    assert!(began.elapsed() >= Duration::from_millis(2_900), "29 s at ten times the speed");
    assert!(agent.said().contains("30 samples taken: 30 in windows"), "{}", agent.said());
}

#[test]
fn the_device_itself_can_be_recorded() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = agent_config(dir.path(), "pump-1", 1, None, "kind = \"system\"\nrate_hz = 50.0");
    let table = must(Command::new(binary("driftline-agent")).args(["record", "--rows", "3", "--config"]).arg(&config));
    let mut lines = table.lines();
    assert!(lines.next().expect("a header").starts_with("load1,load5,load15,memory_total,memory_available"));
    let row = lines.next().expect("a row");
    let total: f64 = row.split(',').nth(3).and_then(|cell| cell.parse().ok()).expect("a number");
    assert!(total > 1e8, "this machine has memory: {row}");
    assert_eq!(lines.count(), 2);
}

#[test]
fn a_model_made_to_exhaust_memory_or_the_processor_ends_its_trial_and_not_the_agent() {
    let dir = tempfile::tempdir().expect("a folder");
    let bomb = fs::read(root().join("tests/models/bad/bomb.onnx")).expect("the bomb");
    assert!(bomb.len() < 1000);
    let bad = dir.path().join("bomb.bundle");
    bundle("v9", false, 1_000, &bomb).write(&bad).expect("a folder");
    let source = "kind = \"pumps\"\nseed = 1\nrate_hz = 50.0";
    let config = agent_config(dir.path(), "pump-1", free_port(), Some(&bad), source);
    let (code, _, error) = run(Command::new(binary("driftline-agent")).args(["run", "--config"]).arg(&config));
    assert_eq!(code, 2, "{error}");
    // Without the limit, this machine would have had so much.
    assert!(error.contains("the model cannot be prepared: failed to allocate Layout { size: 4026531840"), "{error}");

    // Another takes minutes of the processor, and half of one is allowed.
    let slow = fs::read(root().join("tests/models/bad/slow.onnx")).expect("the slow one");
    let idle = dir.path().join("slow.bundle");
    bundle("v9", false, 1_000, &slow).write(&idle).expect("a folder");
    let mut tried = Command::new(binary("driftline-agent"));
    let status = tried.args(["try-release", "--bundle"]).arg(&idle).status().expect("a trial");
    assert_eq!(status.signal(), Some(9), "{status}");

    // An agent that has a good release goes on with it.
    let good = pump_bundle(dir.path(), 1_000);
    let config = agent_config(dir.path(), "pump-1", free_port(), Some(&good), source);
    let first = agent(dir.path(), "pump-1", &config);
    wait_for("its first window", || dir.path().join("pump-1/slots.json").exists().then_some(()));
    drop(first);
    let config = agent_config(dir.path(), "pump-1", free_port(), Some(&bad), source);
    let mut second = agent(dir.path(), "pump-1", &config);
    second.after("the configured bundle cannot be used, so the last release goes on: the model cannot be prepared");
    second.terminate();
    assert!(second.wait().success());
}
