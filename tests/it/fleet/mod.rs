//! Real processes for end-to-end tests: the built binaries, a collector, agents, Mosquitto, VictoriaMetrics.
//!
//! Everything listens on loopback ports the system chose. What a test started ends with it.

use serde_json::Value;
use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything that is waited for may take before the test gives up.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// A binary beside this test's own, built by `cargo build --workspace`.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    let path = test.parent().and_then(Path::parent).expect("deps/ lies in the profile's folder").join(name);
    assert!(path.exists(), "{} is missing: run cargo build --workspace first", path.display());
    path
}

/// Real sensor data, if it is there.
pub fn data() -> PathBuf {
    let path = std::env::var_os("DRIFTLINE_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    assert!(path.join("gas-sensor-drift").exists(), "no data at {}: set DRIFTLINE_DATA", path.display());
    path.join("gas-sensor-drift")
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// Waits until `ask` has an answer.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "waited {} s for {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A process that ends with the test; what it says goes to a file.
pub struct Process {
    child: Child,
    said: PathBuf,
}

impl Process {
    /// Starts `command`; `dir` takes its output.
    pub fn start(dir: &Path, name: &str, command: &mut Command) -> Self {
        let said = dir.join(format!("{name}.log"));
        let log = File::create(&said).expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log).spawn();
        Self { child: child.unwrap_or_else(|e| panic!("{name} does not start: {e}")), said }
    }

    /// Everything it has said so far.
    pub fn said(&self) -> String {
        let mut text = String::new();
        File::open(&self.said).and_then(|mut f| f.read_to_string(&mut text)).expect("its log");
        text
    }

    /// What follows `mark` on the first line that has it.
    pub fn after(&mut self, mark: &str) -> String {
        let said = self.said.clone();
        wait_for(mark, || {
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("it ended with {status}: {}", fs::read_to_string(&said).unwrap_or_default());
            }
            let text = fs::read_to_string(&said).ok()?;
            text.lines().find_map(|l| l.split_once(mark).map(|(_, rest)| rest.trim().to_owned()))
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as systemd does.
    pub fn terminate(&self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("a process to end", || self.child.try_wait().expect("a child"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = self.said();
            let tail: Vec<&str> = text.lines().rev().take(15).collect();
            eprintln!("--- {}\n{}", self.said.display(), tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// A program's exit code, standard output and standard error.
pub fn run(command: &mut Command) -> (i32, String, String) {
    let out = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}

/// Runs a program that must succeed; its standard output.
pub fn must(command: &mut Command) -> String {
    let (code, out, err) = run(command);
    assert_eq!(code, 0, "{command:?}: {err}");
    out
}

/// A running collector.
pub struct Collector {
    /// Kept for its end, and for its log when a test fails.
    _process: Process,
    /// Its address.
    pub url: String,
    /// The port of its broker, or of the external one.
    pub mqtt_port: u16,
}

impl Collector {
    /// Starts `driftline serve` with an own broker, or with the external one at a port. `more` is added to its configuration.
    pub fn start(dir: &Path, external: Option<u16>, more: &str) -> Self {
        Self::start_with(dir, external, "", more)
    }

    /// The same with further keys before the first section.
    pub fn start_with(dir: &Path, external: Option<u16>, keys: &str, more: &str) -> Self {
        let mqtt = external
            .map_or("embedded = \"127.0.0.1:0\"".to_owned(), |port| format!("host = \"127.0.0.1\"\nport = {port}"));
        let config = dir.join("collector.toml");
        let data = dir.join("collector");
        let text =
            format!("fleet = \"test\"\nlisten = \"127.0.0.1:0\"\ndata_dir = {data:?}\n{keys}[mqtt]\n{mqtt}\n{more}");
        fs::write(&config, text).expect("a config");
        let mut process = Process::start(
            dir,
            "collector",
            Command::new(binary("driftline")).args(["serve", "--config"]).arg(&config),
        );
        let url = process.after("dashboard: ").trim_end_matches('/').to_owned();
        let mqtt_port =
            external.unwrap_or_else(|| process.after("agents connect to 127.0.0.1:").parse().expect("a port"));
        Self { _process: process, url, mqtt_port }
    }

    /// A view.
    pub fn get(&self, path: &str) -> Value {
        let mut answer = ureq::get(format!("{}/api/v1/{path}", self.url)).call().expect("an answer");
        answer.body_mut().read_json().expect("JSON")
    }

    /// The command line, asking this collector.
    pub fn cli(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("driftline"));
        command.args(["--url", &self.url]).args(args);
        command
    }
}

/// An agent's configuration; `source` is the text of its section.
pub fn agent_config(dir: &Path, device: &str, port: u16, bundle: Option<&Path>, source: &str) -> PathBuf {
    let site = if device.ends_with(['1', '2', '3']) { "busan" } else { "ulsan" };
    let data = dir.join(device);
    let model = bundle.map_or(String::new(), |b| format!("[model]\nbundle = {b:?}\n"));
    let text = format!(
        "[agent]\ndevice = \"{device}\"\nfleet = \"test\"\ndata_dir = {data:?}\nlabels = {{ site = \"{site}\" }}\n\
         [mqtt]\nhost = \"127.0.0.1\"\nport = {port}\nkeep_alive = \"5s\"\n{model}\
         [trial]\nsamples = 30\ncommit_samples = 30\n[source]\n{source}\n"
    );
    let path = dir.join(format!("{device}.toml"));
    fs::write(&path, text).expect("a config");
    path
}

/// A bundle of the pump model with windows of this length.
pub fn pump_bundle(dir: &Path, window_ms: u32) -> PathBuf {
    let onnx = fs::read(root().join("tests/models/pump-v1.onnx")).expect("the model");
    let path = dir.join("v1.bundle");
    driftline_tests::pump_bundle::bundle("v1", false, window_ms, &onnx).write(&path).expect("a folder");
    path
}

/// How the agent with this configuration says it is; `None` while it says nothing.
pub fn status(config: &Path) -> Option<Value> {
    let (_, text, _) = run(Command::new(binary("driftline-agent")).args(["status", "--json", "--config"]).arg(config));
    serde_json::from_str(&text).ok()
}

/// Starts an agent.
pub fn agent(dir: &Path, device: &str, config: &Path) -> Process {
    Process::start(dir, device, Command::new(binary("driftline-agent")).args(["run", "--config"]).arg(config))
}

/// Runs `driftline baselines create`; the bundle's directory.
pub fn baseline(dir: &Path, model: &str, data: &Path, more: &[&str]) -> PathBuf {
    let out = dir.join(model.replace(".onnx", ".bundle"));
    let model = root().join("tests/models").join(model);
    let mut command = Command::new(binary("driftline"));
    command
        .args(["baselines", "create", "--model"])
        .arg(model)
        .arg("--data")
        .arg(data)
        .arg("--out")
        .arg(&out)
        .args(more);
    must(&mut command);
    out
}

/// A Mosquitto of Debian.
pub fn mosquitto(dir: &Path) -> (Process, u16) {
    let port = free_port();
    let config = dir.join("mosquitto.conf");
    fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\n")).expect("a config");
    let program =
        ["/usr/sbin/mosquitto", "mosquitto"].into_iter().find(|p| !p.starts_with('/') || Path::new(p).exists());
    let process = Process::start(dir, "mosquitto", Command::new(program.expect("one of them")).arg("-c").arg(&config));
    wait_for("Mosquitto", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    (process, port)
}
