//! The agent as a service: asked how it is, told to begin anew, watched by systemd's rules, and connected with certificates.

use crate::fleet::{
    Collector, Process, agent, agent_config, binary, free_port, must, pump_bundle, root, run, status, wait_for,
};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

fn ask(command: &str, config: &Path, more: &[&str]) -> (i32, String, String) {
    run(Command::new(binary("driftline-agent")).args([command, "--config"]).arg(config).args(more))
}

const SOURCE: &str = "kind = \"pumps\"\nseed = 1\nrate_hz = 50.0";

#[test]
fn a_running_agent_says_how_it_is_and_begins_anew_when_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let collector = Collector::start(dir.path(), None, "");
    let bundle = pump_bundle(dir.path(), 1_000);
    let config = agent_config(dir.path(), "pump-1", collector.mqtt_port, Some(&bundle), SOURCE);
    let (code, _, error) = ask("status", &config, &[]);
    assert_eq!(code, 1);
    assert!(error.contains("no agent answers at ") && error.contains("start it"), "{error}");

    let mut process = agent(dir.path(), "pump-1", &config);
    let status = || status(&config);
    let told =
        wait_for("windows with the collector", || status().filter(|s| s["windows"]["acknowledged"].as_u64() > Some(1)));
    assert_eq!((&told["device"], &told["connected"]), (&"pump-1".into(), &true.into()));
    assert_eq!(told["release"][0], "pump");
    let [taken, counted, refused] =
        ["taken", "in_windows", "refused"].map(|key| told["samples"][key].as_u64().expect("a number"));
    assert!(taken > 0 && taken == counted + refused, "{told}");
    assert!(told["latency_us"][0].as_u64() <= told["latency_us"][1].as_u64());
    let (_, text, _) = ask("status", &config, &[]);
    assert!(
        text.starts_with("pump-1 of fleet test, running for ") && text.contains("Broker:   connected to 127.0.0.1:"),
        "{text}"
    );
    let socket = dir.path().join("pump-1/status.sock");
    assert_eq!(fs::metadata(&socket).expect("the socket").permissions().mode() & 0o777, 0o600);

    // A file that cannot be changes nothing; the same file neither; another one is taken over by the same process.
    let hangup = |process: &Process| must(Command::new("kill").args(["-HUP", &process.id().to_string()]));
    let text = fs::read_to_string(&config).expect("the file");
    fs::write(&config, format!("{text}\nnonsense = 1\n")).expect("a file");
    hangup(&process);
    process.after("the configuration of before stays: ");
    fs::write(&config, &text).expect("a file");
    hangup(&process);
    process.after("has not changed: the agent goes on");
    // Something still has the directory for a while, as the trial of a release would.
    let lock = fs::File::open(dir.path().join("pump-1").join("lock")).expect("the lock");
    let holder = std::thread::spawn(move || {
        lock.lock().expect("the directory, once the agent has let go");
        std::thread::sleep(Duration::from_millis(1_500));
    });
    // The kernel lists who waits for a lock, with an arrow.
    let me = std::process::id().to_string();
    wait_for("somebody to wait for it", || {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let mine = |line: &str| line.contains("-> FLOCK") && line.split_whitespace().any(|word| word == me);
        locks.lines().any(mine).then_some(())
    });
    fs::write(&config, text.replace("busan", "incheon")).expect("a file");
    let before = told["windows"]["closed"].as_u64();
    hangup(&process);
    process.after("has changed: starting anew");
    let again = wait_for("the agent to be back", || {
        status().filter(|s| s["connected"] == true && s["windows"]["acknowledged"].as_u64() > Some(1))
    });
    assert_eq!(again["pid"], told["pid"], "the same process");
    assert!(again["running_s"].as_u64() <= told["running_s"].as_u64().map(|s| s + 60) && before.is_some());
    wait_for("the new label", || {
        let devices = collector.get("devices");
        devices.to_string().contains("incheon").then_some(())
    });
    // A configuration that reads well and cannot be: the one of before goes on.
    let good = fs::read_to_string(&config).expect("the file");
    fs::write(&config, good.replace("[mqtt]\n", "[mqtt]\nca_file = \"/no/ca.pem\"\n")).expect("a file");
    hangup(&process);
    process.after("the agent cannot begin with the new configuration, the one of before goes on: /no/ca.pem");
    fs::write(&config, &good).expect("a file");
    wait_for("the agent to be back", || status().filter(|s| s["connected"] == true));
    process.terminate();
    let began = Instant::now();
    assert!(process.wait().success());
    assert!(began.elapsed() < Duration::from_secs(4), "it ends within two seconds and a little");
    holder.join().expect("it let go");
    assert_eq!(collector.get("health")["frames_lost"], 0);
}

#[test]
fn the_doctor_names_what_is_wrong() {
    let dir = tempfile::tempdir().expect("a folder");
    let collector = Collector::start(dir.path(), None, "");
    let bundle = pump_bundle(dir.path(), 1_000);
    let config = agent_config(dir.path(), "pump-1", collector.mqtt_port, Some(&bundle), SOURCE);
    let (code, text, error) = ask("doctor", &config, &[]);
    assert_eq!(code, 0, "{text}{error}");
    assert!(text.contains("ok       model pump v1 answers its golden rows"), "{text}");
    assert!(text.lines().all(|line| line.starts_with("ok ")), "{text}");

    // Beside an agent that runs it finds nothing wrong with what that one holds.
    let source = format!("kind = \"http\"\nlisten = \"127.0.0.1:{}\"", free_port());
    let config = agent_config(dir.path(), "pump-3", collector.mqtt_port, Some(&bundle), &source);
    let mut running = agent(dir.path(), "pump-3", &config);
    running.after("applications can ask the model at ");
    let (code, text, error) = ask("doctor", &config, &[]);
    assert_eq!(code, 0, "{text}{error}");
    assert!(text.contains("the agent that runs serves applications at 127.0.0.1:"), "{text}");
    // A second agent on its directory is told so, and changes nothing.
    let (code, _, error) = ask("run", &config, &[]);
    assert_eq!(code, 2);
    assert!(error.contains("another agent uses the data directory "), "{error}");
    running.terminate();
    assert!(running.wait().success());

    let source = "kind = \"command\"\ncommand = [\"no-such-program\"]";
    let config = agent_config(dir.path(), "pump-2", free_port(), Some(Path::new("/no/bundle")), source);
    let (code, text, error) = ask("doctor", &config, &[]);
    assert_eq!(code, 1);
    for sentence in [
        "problem  the bundle /no/bundle cannot be used",
        "problem  the program no-such-program is not there",
        "does not answer: check host",
    ] {
        assert!(text.contains(sentence), "{text}");
    }
    assert!(error.contains("3 of 6 checks found a problem"), "{error}");
}

#[test]
fn systemd_is_told_and_its_watchdog_is_fed() {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).expect("a socket");
    systemd.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let bundle = pump_bundle(dir.path(), 1_000);
    // Nobody listens at the broker's port: that the link tries again is progress too.
    let config = agent_config(dir.path(), "pump-1", free_port(), Some(&bundle), SOURCE);
    let mut command = Command::new(binary("driftline-agent"));
    command.args(["run", "--config"]).arg(&config);
    let process =
        Process::start(dir.path(), "pump-1", command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "8000000"));
    let hear = || {
        let mut buffer = [0; 256];
        let n = systemd.recv(&mut buffer).expect("a word within the time");
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    assert!(hear().contains("READY=1"));
    for _ in 0..3 {
        assert!(hear().contains("WATCHDOG=1"));
    }
    // A process that stands still feeds nobody.
    must(Command::new("kill").args(["-STOP", &process.id().to_string()]));
    systemd.set_read_timeout(Some(Duration::from_secs(8))).expect("a timeout");
    let mut buffer = [0; 256];
    while let Ok(n) = systemd.recv(&mut buffer) {
        // At most what was on its way.
        assert!(String::from_utf8_lossy(&buffer[..n]).contains("WATCHDOG=1"));
    }
    must(Command::new("kill").args(["-CONT", &process.id().to_string()]));
    systemd.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    process.terminate();
    while !hear().contains("STOPPING=1") {}
}

#[test]
fn the_unit_is_hardened() {
    let unit = root().join("firmware-configs/systemd/driftline-agent.service");
    let text = must(Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager"]).arg(unit));
    let exposure = text.lines().find_map(|l| l.split_once("Overall exposure level for driftline-agent.service: "));
    let exposure: f64 = exposure.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok()).expect("a number");
    assert!(exposure <= 2.0, "exposure {exposure}");
}

#[test]
fn the_unit_of_several_agents_is_that_of_one() {
    let unit = |name: &str| {
        let text = fs::read_to_string(root().join("firmware-configs/systemd").join(name)).expect("a unit");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (one, several) = (unit("driftline-agent.service"), unit("driftline-agent@.service"));
    let differ: Vec<&str> = one.iter().zip(&several).filter(|(a, b)| a != b).map(|(_, b)| b.as_str()).collect();
    assert_eq!(one.len(), several.len());
    assert!(differ.iter().all(|line| line.contains("%i")) && differ.len() == 4, "{differ:?}");
}

#[test]
fn the_units_let_the_example_configurations_write() {
    let folder = root().join("firmware-configs");
    let board = fs::read_to_string(folder.join("systemd/board-armv7.conf")).expect("a drop-in");
    let mut seen = 0;
    for name in ["board-armv7", "gateway-arm64", "gateway-x86", "csv"] {
        let text = fs::read_to_string(folder.join(name).with_extension("toml")).expect("a file");
        let config = driftline_agent::config::Config::parse(&text, name).unwrap_or_else(|e| panic!("{e}"));
        let dir = config.data_dir.display().to_string();
        let own = dir.starts_with("/var/lib/driftline-agent");
        let dropped = board.lines().any(|line| line == format!("ReadWritePaths={dir}"));
        // One that a newcomer starts by hand is beside them.
        assert!(own || (name == "board-armv7" && dropped) || config.data_dir.is_relative(), "{name}: {dir}");
        seen += u32::from(own || dropped);
    }
    assert_eq!(seen, 3);
}

/// An agent's configuration with these keys for its broker.
fn config_with(dir: &Path, device: &str, port: u16, bundle: &Path, keys: &str) -> PathBuf {
    let config = agent_config(dir, device, port, Some(bundle), SOURCE);
    let text = fs::read_to_string(&config).expect("the file").replace("[mqtt]\n", &format!("[mqtt]\n{keys}\n"));
    fs::write(&config, text).expect("a file");
    config
}

/// An authority, and a certificate of it for `name`.
fn certificates(dir: &Path, names: &[&str]) {
    let openssl = |args: &[&str]| must(Command::new("openssl").current_dir(dir).args(args));
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(
        &[&["req", "-x509", "-days", "2", "-subj", "/CN=Test CA", "-keyout", "ca.key", "-out", "ca.pem"], &key[..]]
            .concat(),
    );
    for name in names {
        let (request, cert) = (format!("{name}.csr"), format!("{name}.pem"));
        openssl(
            &[&["req", "-subj", &format!("/CN={name}"), "-keyout", &format!("{name}.key"), "-out", &request], &key[..]]
                .concat(),
        );
        // What a device goes by, and where a broker is found.
        let names = if *name == "broker" { "DNS:localhost,IP:127.0.0.1".into() } else { format!("DNS:{name}") };
        fs::write(dir.join("ext"), format!("subjectAltName={names}\nbasicConstraints=CA:FALSE\n")).expect("a file");
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "ext",
            "-out",
            &cert,
        ]);
    }
}

#[test]
fn certificates_on_both_sides() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    certificates(dir, &["broker", "pump-1", "collector"]);
    let tls = free_port();
    let conf = dir.join("mosquitto.conf");
    let file = |name: &str| dir.join(name).display().to_string();
    let text = format!(
        "per_listener_settings true\nuser root\nlistener {tls} 127.0.0.1\n\
         cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true\n",
        file("ca.pem"),
        file("broker.pem"),
        file("broker.key")
    );
    fs::write(&conf, text).expect("a config");
    let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
    let _broker = Process::start(dir, "mosquitto", Command::new(program).arg("-c").arg(&conf));
    wait_for("Mosquitto", || std::net::TcpStream::connect(("127.0.0.1", tls)).ok());
    let keys = |own: &str| {
        let (own_cert, own_key) = (file(&format!("{own}.pem")), file(&format!("{own}.key")));
        format!("ca_file = {:?}\ncert_file = {own_cert:?}\nkey_file = {own_key:?}", file("ca.pem"))
    };
    let collector = Collector::start(dir, Some(tls), &keys("collector"));
    let bundle = pump_bundle(dir, 1_000);
    let with = |device: &str, keys: &str| config_with(dir, device, tls, &bundle, keys);
    let (ca, cert, key) = (file("ca.pem"), file("pump-1.pem"), file("pump-1.key"));
    let config = with("pump-1", &format!("ca_file = {ca:?}\ncert_file = {cert:?}\nkey_file = {key:?}"));
    let mut process = agent(dir, "pump-1", &config);
    process.after("connected to 127.0.0.1:");
    wait_for("windows over TLS", || (status(&config)?["windows"]["acknowledged"].as_u64() > Some(0)).then_some(()));
    process.terminate();
    assert!(process.wait().success());
    assert_eq!(collector.get("health")["frames_lost"], 0);

    // Without its own certificate, or with another authority, nothing comes through; the reason is told.
    let config = with("pump-2", &format!("ca_file = {ca:?}"));
    let mut process = agent(dir, "pump-2", &config);
    process.after("not connected; trying again");
    let other = dir.join("other");
    fs::create_dir(&other).expect("a folder");
    certificates(&other, &[]);
    let foreign = other.join("ca.pem");
    let config = with("pump-3", &format!("ca_file = {foreign:?}\ncert_file = {cert:?}\nkey_file = {key:?}"));
    let mut process = agent(dir, "pump-3", &config);
    assert!(process.after("not connected; trying again").contains("certificate"));
    // Files that cannot be are a mistake in the configuration.
    let config = with("pump-4", "ca_file = \"/no/ca.pem\"");
    let (code, _, error) = ask("run", &config, &[]);
    assert_eq!(code, 2);
    assert!(error.contains("/no/ca.pem cannot be used") && error.contains("the authority's certificates"), "{error}");
}

#[test]
fn the_collectors_own_broker_speaks_tls_and_knows_devices_by_their_certificates() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    certificates(dir, &["broker", "pump-1"]);
    let file = |name: &str| dir.join(name).display().to_string();
    let (ca, port) = (file("ca.pem"), free_port());
    let config = dir.join("collector.toml");
    let text = format!(
        "fleet = \"test\"\nlisten = \"127.0.0.1:0\"\ndata_dir = {:?}\n[mqtt]\nembedded = \"127.0.0.1:{port}\"\n\
         cert_file = {:?}\nkey_file = {:?}\nca_file = {ca:?}\n",
        dir.join("collector"),
        file("broker.pem"),
        file("broker.key")
    );
    fs::write(&config, text).expect("a config");
    let mut collector =
        Process::start(dir, "collector", Command::new(binary("driftline")).args(["serve", "--config"]).arg(&config));
    let url = collector.after("dashboard: ").trim_end_matches('/').to_owned();
    let bundle = pump_bundle(dir, 1_000);
    let with = |device: &str, keys: &str| config_with(dir, device, port, &bundle, keys);
    let config = with(
        "pump-1",
        &format!("ca_file = {ca:?}\ncert_file = {:?}\nkey_file = {:?}", file("pump-1.pem"), file("pump-1.key")),
    );
    let mut process = agent(dir, "pump-1", &config);
    process.after("connected to 127.0.0.1:");
    wait_for("acknowledged windows", || (status(&config)?["windows"]["acknowledged"].as_u64() > Some(0)).then_some(()));
    process.terminate();
    assert!(process.wait().success());
    // Renewed certificates, of another authority even, are the ones that count from now on.
    certificates(dir, &["broker", "pump-1"]);
    let mut process = agent(dir, "pump-1", &config);
    process.after("connected to 127.0.0.1:");
    process.terminate();
    assert!(process.wait().success());
    // Without a certificate of its own a device is not let in, nor with that of another one, nor without TLS.
    let pump_1 = format!("ca_file = {ca:?}\ncert_file = {:?}\nkey_file = {:?}", file("pump-1.pem"), file("pump-1.key"));
    for (device, keys) in [("pump-2", format!("ca_file = {ca:?}")), ("pump-3", String::new()), ("pump-4", pump_1)] {
        let mut process = agent(dir, device, &with(device, &keys));
        process.after("not connected; trying again");
    }
    let why = collector.after("a client that calls itself pump-4 is turned away: ");
    assert!(why.contains("the certificate does not name this device"), "{why}");
    let metrics = ureq::get(format!("{url}/metrics")).call().expect("an answer").body_mut().read_to_string();
    let metrics = metrics.expect("text");
    let turned_away = metrics.lines().find_map(|line| line.strip_prefix("driftline_clients_turned_away_total "));
    assert!(turned_away.and_then(|n| n.parse::<u64>().ok()) >= Some(3), "{metrics}");
    let devices: Value =
        ureq::get(format!("{url}/api/v1/devices")).call().expect("an answer").body_mut().read_json().expect("JSON");
    assert_eq!(devices["items"].as_array().map(Vec::len), Some(1), "{devices}");
}

#[test]
fn a_program_that_prints_samples_is_started_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let bundle = pump_bundle(dir.path(), 1_000);
    let pids = dir.path().join("pids");
    // It says its columns and then nothing for a long time.
    let header = driftline_agent::pumps::COLUMNS.join(",");
    let script = format!("echo $$ >> {}; echo {header}; echo 61,1.8,30,12,1450; exec sleep 1000", pids.display());
    let source = format!("kind = \"command\"\ncommand = [\"sh\", \"-c\", {script:?}]\nformat = \"csv\"");
    let config = agent_config(dir.path(), "pump-1", free_port(), Some(&bundle), &source);
    let process = agent(dir.path(), "pump-1", &config);
    let started = |n| {
        wait_for("the program", || {
            let text = fs::read_to_string(&pids).unwrap_or_default();
            let all: Vec<u32> = text.lines().filter_map(|l| l.parse().ok()).collect();
            (all.len() == n).then_some(all)
        })
    };
    let lives = |pid: u32| Path::new(&format!("/proc/{pid}/stat")).exists();
    let first = started(1)[0];
    let text = fs::read_to_string(&config).expect("the file");
    fs::write(&config, text.replace("busan", "incheon")).expect("a file");
    must(Command::new("kill").args(["-HUP", &process.id().to_string()]));
    let second = started(2)[1];
    assert!(!lives(first) && lives(second));
    process.terminate();
    wait_for("the program's end", || (!lives(second)).then_some(()));
}
