//! `driftline-agent doctor`: what keeps an agent from working on this device, before it is started. Each check is one line.

use super::link;
use super::sensors::Sensors;
use super::start;
use super::trial::Trial;
use crate::bundle::Bundle;
use crate::config::{Broker, Config, Listen, SourceKind};
use crate::source::Wanted;
use std::fs;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Free bytes below which a spool is in trouble.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// The broker answers a connection within this time.
const CONNECT: Duration = Duration::from_secs(5);
/// Clocks before 2024 were never set.
const CLOCK_MIN_S: u64 = 1_704_067_200;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Nothing to do.
    Fine(String),
    /// It works, and yet.
    Mind(String),
    /// The agent will not work.
    Problem(String),
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fine(text) => write!(f, "ok       {text}"),
            Self::Mind(text) => write!(f, "note     {text}"),
            Self::Problem(text) => write!(f, "problem  {text}"),
        }
    }
}

use Finding::{Fine, Mind, Problem};

/// Looks at everything the configuration names.
pub fn examine(config: &Config) -> Vec<Finding> {
    let (bundle, wanted) = bundle(config);
    vec![
        directory(&config.data_dir),
        space(&config.data_dir),
        clock(),
        bundle,
        source(config, wanted.as_ref()),
        broker(config),
    ]
}

fn directory(dir: &Path) -> Finding {
    let shown = dir.display();
    if let Err(e) = fs::create_dir_all(dir) {
        return Problem(format!("data directory {shown} cannot be made ({e}): create it and give it to this user"));
    }
    let probe = dir.join(".doctor");
    let written = fs::write(&probe, b"x").and_then(|()| fs::remove_file(&probe));
    match (written, super::status::ask(&dir.join("status.sock"))) {
        (Err(e), _) => Problem(format!("data directory {shown} cannot be written ({e}): let this user write there")),
        (Ok(()), Ok(status)) => Mind(format!("an agent runs already on {shown}, process {}", status.pid)),
        (Ok(()), Err(_)) => Fine(format!("data directory {shown} can be written")),
    }
}

fn space(dir: &Path) -> Finding {
    match rustix::fs::statvfs(dir) {
        Err(e) => Mind(format!("free space of {} is unknown ({e})", dir.display())),
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let mib = free >> 20;
            match (free < FREE_BYTES_MIN, stat.f_favail == 0 && stat.f_files > 0) {
                (true, _) => Problem(format!("only {mib} MiB are free at {}: make room", dir.display())),
                (_, true) => Problem(format!("no inodes are free at {}: remove files", dir.display())),
                _ => Fine(format!("{mib} MiB are free")),
            }
        }
    }
}

fn clock() -> Finding {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if now < CLOCK_MIN_S {
        return Mind(
            "the clock was never set: windows are dated by the collector once it is reached; set up NTP if you can"
                .into(),
        );
    }
    Fine("the clock has been set".into())
}

fn bundle(config: &Config) -> (Finding, Option<Wanted>) {
    let Some(dir) = &config.bundle else {
        return (
            Mind("no model.bundle is configured: the agent waits until the collector rolls a model out".into()),
            None,
        );
    };
    // With the limits of a trial first: a model made to exhaust memory is to end a child of this program.
    let tried = Bundle::read(dir)
        .map_err(|e| e.to_string())
        .and_then(|bundle| Trial { program: std::env::current_exe().ok() }.of(dir).map(|()| bundle));
    let loaded = tried.and_then(|bundle| start::load(&bundle).map_err(|e| e.to_string()));
    match loaded {
        Err(e) => (Problem(format!("the bundle {} cannot be used: {e}", dir.display())), None),
        Ok((_, profile)) => {
            let wanted = Wanted::of(&profile, config.source.label.as_deref(), config.source.id.as_deref());
            (Fine(format!("model {} {} answers its golden rows", profile.model, profile.name)), Some(wanted))
        }
    }
}

fn source(config: &Config, wanted: Option<&Wanted>) -> Finding {
    match &config.source.kind {
        SourceKind::File { path, .. } => match fs::File::open(path) {
            Ok(_) => Fine(format!("{} can be read", path.display())),
            Err(e) => Problem(format!("{} cannot be read ({e}): check the path and the rights", path.display())),
        },
        SourceKind::Images { path } => match fs::read_dir(path) {
            Ok(_) => Fine(format!("the folder {} can be read", path.display())),
            Err(e) => {
                Problem(format!("the folder {} cannot be read ({e}): check the path and the rights", path.display()))
            }
        },
        SourceKind::Stdin { .. } => Fine("samples come on standard input".into()),
        SourceKind::Command { command, .. } => {
            let program = command.first().map_or("", String::as_str);
            let found = program.contains('/') && Path::new(program).exists()
                || std::env::var_os("PATH")
                    .is_some_and(|p| std::env::split_paths(&p).any(|dir| dir.join(program).exists()));
            match found {
                true => Fine(format!("the program {program} is there")),
                false => Problem(format!("the program {program} is not there: check source.command")),
            }
        }
        SourceKind::Http { listen, .. } => match listen {
            Listen::Tcp(address) if super::status::ask(&super::status::path(&config.data_dir)).is_ok() => {
                Fine(format!("the agent that runs serves applications at {address}"))
            }
            Listen::Tcp(address) => match TcpListener::bind(address) {
                Ok(_) => Fine(format!("applications can be served at {address}")),
                Err(e) => {
                    Problem(format!("applications cannot be served at {address} ({e}): choose another source.listen"))
                }
            },
            Listen::Unix(path) => match path.parent().is_some_and(Path::is_dir) {
                true => Fine(format!("applications can be served at {}", path.display())),
                false => Problem(format!("the folder of {} is not there: create it", path.display())),
            },
        },
        SourceKind::Mqtt { broker, .. } => answers("the samples' broker", broker),
        SourceKind::System => match wanted {
            None => Fine(format!("this device has {} readings", Sensors::all(Path::new("/")).names().len())),
            Some(wanted) => match Sensors::wanted(Path::new("/"), wanted, Arc::default()) {
                Ok(mut sensors) => match sensors.absent().as_slice() {
                    [] => Fine(format!("all {} readings of the model are there", sensors.names().len())),
                    gone => Problem(format!(
                        "sensors cannot be read and count as missing: {}: check their drivers and the rights",
                        gone.join(", ")
                    )),
                },
                Err(e) => Problem(e.to_string()),
            },
        },
        SourceKind::Pumps { .. } => Fine("samples are simulated".into()),
    }
}

fn broker(config: &Config) -> Finding {
    answers("the collector's broker", &config.mqtt.broker)
}

/// Whether a broker answers, and what one is to show it can be read.
fn answers(what: &str, broker: &Broker) -> Finding {
    match link::credentials(broker) {
        Ok(_) => reach(what, &broker.host, broker.port),
        Err(e) => Problem(e.to_string()),
    }
}

fn reach(what: &str, host: &str, port: u16) -> Finding {
    let addresses: Vec<_> = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(e) => return Problem(format!("{what} {host} has no address ({e}): check the name and this device's DNS")),
    };
    let answers = addresses.iter().any(|address| TcpStream::connect_timeout(address, CONNECT).is_ok());
    match answers {
        true => Fine(format!("{what} {host}:{port} answers")),
        false => Problem(format!(
            "{what} {host}:{port} does not answer: check host, port, network and firewall; until then windows wait here"
        )),
    }
}
