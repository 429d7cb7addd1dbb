//! `driftline demo`: broker, collector, store and 20 simulated pumps in one process, and the story they play in sentences.
//!
//! Only the pumps' readings are simulated. Their agents are the real ones, run a real ONNX model and speak MQTT over loopback; the
//! storyteller knows what it tells from the collector's API and live channel, like any dashboard.

use super::baselines::{Recipe, make};
use super::client::{Client, Failure};
use super::live::Live;
use super::output::text;
use super::rollouts::bar;
use super::serve::log;
use super::table::Table;
use super::truth::Truth;
use anyhow::{Context, bail};
use driftline_agent::bundle::Bundle;
use driftline_agent::config::{
    Broker, Config as AgentConfig, MqttConfig, SourceConfig, SourceKind, SpoolConfig, TrialConfig,
};
use driftline_agent::evidence::Policy;
use driftline_agent::io::driver;
use driftline_agent::io::report::Hooks;
use driftline_agent::pumps::{CLASSES, COLUMNS, LABEL, Pump};
use driftline_collector::baseline::Options;
use driftline_collector::config::{Config, Mqtt};
use driftline_collector::io::{self, Ready};
use driftline_shared::baseline::TOLERANCE_DEFAULT;
use driftline_shared::list::{List, Text};
use driftline_shared::units::Name;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

const MODEL_V1: &[u8] = include_bytes!("../../../tests/models/pump-v1.onnx");
const MODEL_V2: &[u8] = include_bytes!("../../../tests/models/pump-v2.onnx");

const SITES: [&str; 2] = ["busan", "ulsan"];
const PUMPS_PER_SITE: usize = 10;
/// Samples per second of each pump.
const RATE_HZ: f64 = 10.0;
/// A real fleet would use minutes; nobody would watch that.
const WINDOW_MS: u32 = 3_000;
/// How long the fleet is well.
const FAULT_AFTER: Duration = Duration::from_secs(40);
/// How long a stage is watched.
const SOAK_MS: u64 = 12_000;
/// Live samples a new model answers in the shadow of the old one, and then by itself before it stays.
const TRIAL_SAMPLES: u32 = 30;
/// The story ends within this time, or something is wrong.
const STORY_MAX: Duration = Duration::from_secs(300);
/// Baseline rows per simulated pump.
const ROWS_PER_PUMP: usize = 500;
/// Seeds of the pumps that made the baselines, far from those of the fleet.
const TRAINING_SEED: u64 = 1_000;

#[derive(clap::Args)]
pub struct Args {
    /// Roll the better model out without waiting for a click
    #[arg(long)]
    auto: bool,
    /// End when the problem is solved, or with an error after five minutes
    #[arg(long)]
    once: bool,
    /// Address of the dashboard
    #[arg(long, default_value = "127.0.0.1:8600")]
    listen: SocketAddr,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    log("off");
    let home = Home::new()?;
    eprintln!("making the models' bundles …");
    let bundles = [bundle(MODEL_V1, "v1", false)?, bundle(MODEL_V2, "v2", true)?];
    let v1 = home.0.join("v1.bundle");
    bundles[0].write(&v1)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(play(args, &home.0, &v1, &bundles));
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

/// A directory that goes with the demo.
struct Home(PathBuf);

impl Home {
    fn new() -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let unique = getrandom::u64().context("the system refuses random numbers")?;
        let path = std::env::temp_dir().join(format!("driftline-demo-{unique:016x}"));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("{} cannot be created", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A model with the baseline it was made for: v1 knows sound sensors, v2 those that read high.
fn bundle(onnx: &[u8], release: &str, fault: bool) -> anyhow::Result<Bundle> {
    let (mut table, mut training) = (Table::default(), Vec::new());
    for device in 0..20 {
        let mut pump = Pump::new(TRAINING_SEED + u64::from(device));
        for _ in 0..ROWS_PER_PUMP {
            let reading = pump.next(fault);
            table.inputs.push(reading.values.to_vec());
            table.devices.push(device);
            training.push(Some(reading.class as u16));
        }
    }
    let recipe = Recipe {
        categorical: Vec::new(),
        tolerances: Vec::new(),
        name: Name::new("pump").expect("a name"),
        release: Name::new(release).expect("a name"),
        names: COLUMNS.map(str::to_owned).into(),
        units: Default::default(),
        label: Some(LABEL.into()),
        classes: Vec::new(),
        window_ms: WINDOW_MS,
        guard: None,
        options: Options {
            window_samples: (RATE_HZ * f64::from(WINDOW_MS) / 1000.0) as u32,
            independent_rows: false,
            tolerance: TOLERANCE_DEFAULT,
        },
        truth: Truth { classes: CLASSES.map(str::to_owned).into(), training, held_out: None },
        sampled: None,
        embedding: None,
    };
    Ok(make(onnx, recipe, &table, ["the demo's model", "the demo's pumps"])?.0)
}

fn collector_config(args: &Args, home: &Path) -> anyhow::Result<Config> {
    let mut config = Config::parse("the demo", "fleet = \"demo\"")?;
    config.listen = args.listen;
    config.check("--listen")?;
    config.data_dir = home.join("collector");
    config.mqtt = Mqtt::Embedded { listen: SocketAddr::from(([127, 0, 0, 1], 0)), tls: None };
    config.settings.rollout.soak_ms = SOAK_MS;
    config.settings.rollout.timeout_ms = 60_000;
    Ok(config)
}

fn agent_config(n: usize, site: &str, port: u16, home: &Path, bundle: &Path) -> AgentConfig {
    let device = format!("pump-{n:03}");
    let mut labels = List::default();
    let _ = labels.push((Name::new("site").expect("a name"), Text::cut(site)));
    AgentConfig {
        device: Name::new(&device).expect("a name"),
        fleet: Name::new("demo").expect("a name"),
        data_dir: home.join(&device),
        labels,
        mqtt: MqttConfig { broker: Broker::open("127.0.0.1", port), keep_alive_s: 30 },
        bundle: Some(bundle.to_owned()),
        source: SourceConfig {
            kind: SourceKind::Pumps { seed: n as u64, fault_after_ms: None },
            rate_hz: Some(RATE_HZ),
            repeat: false,
            label: None,
            id: None,
        },
        window_samples_max: driftline_agent::config::SAMPLES_PER_WINDOW_MAX,
        trial: TrialConfig { samples: TRIAL_SAMPLES, commit_samples: TRIAL_SAMPLES },
        labels_samples_max: driftline_agent::labels::SAMPLES_DEFAULT,
        spool: SpoolConfig::default(),
        evidence: Policy::default(),
    }
}

async fn play(args: &Args, home: &Path, v1: &Path, bundles: &[Bundle; 2]) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stopped) = watch::channel(false);
    let ended = |mut stopped: watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let (ready, is_ready) = oneshot::channel();
    let mut server = tokio::spawn(io::serve(collector_config(args, home)?, ended(stopped.clone()), ready));
    let Ok(Ready { http, mqtt: Some(mqtt) }) = is_ready.await else {
        server.await??;
        bail!("the collector did not start");
    };
    let client = Client::new(&format!("http://{http}"), None, "en")?;
    add(&client, &bundles[0]).await?;

    let mut agents = Vec::new();
    let mut faults = Vec::new();
    for (s, site) in SITES.iter().enumerate() {
        for i in 0..PUMPS_PER_SITE {
            let config = agent_config(s * PUMPS_PER_SITE + i + 1, site, mqtt.port(), home, v1);
            let hooks = Hooks::default();
            if s == 0 {
                faults.push(hooks.fault.clone());
            }
            agents.push(driver::start(config, hooks, ended(stopped.clone())).await?);
        }
    }
    println!("Driftline demo: 20 simulated pumps at two sites, each with a real agent that runs a real ONNX model.");
    println!("Dashboard: http://{http}/");
    println!("Ctrl-C ends it.\n");
    let mut story = Story::new(&client, args.auto).await?;
    let fault = || faults.iter().for_each(|f| f.store(true, Ordering::Relaxed));
    let outcome = tokio::select! {
        told = story.tell(&bundles[1], fault, args.once) => told,
        ended = &mut server => { ended??; Err(anyhow::anyhow!("the collector ended by itself")) }
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
        _ = terminate.recv() => Ok(ExitCode::from(143)),
    };
    story.bar.finish_and_clear();
    // Agents first: the broker takes their goodbyes.
    let _ = stop.send(true);
    for agent in agents {
        let _ = agent.wait().await;
    }
    if !server.is_finished() {
        let _ = server.await;
    }
    outcome
}

async fn add(client: &Client, bundle: &Bundle) -> anyhow::Result<Value> {
    let packed = bundle.pack();
    blocking(client, move |c| c.post_bytes("models", &packed)).await
}

/// A request outside the asynchronous threads, which serve it.
async fn blocking<T: Send + 'static>(
    client: &Client,
    ask: impl FnOnce(&Client) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let client = Client::new(&client.url, None, &client.lang)?;
    tokio::task::spawn_blocking(move || ask(&client)).await?
}

/// Tells what the collector says, and does what the demo does to the fleet.
struct Story<'a> {
    client: &'a Client,
    live: Live,
    auto: bool,
    began: Instant,
    bar: ProgressBar,
    incident: Option<String>,
    rollout: Option<String>,
    well: bool,
    told: String,
}

/// How the story ended.
#[derive(PartialEq)]
enum End {
    Solved,
    NotYet,
}

impl<'a> Story<'a> {
    async fn new(client: &'a Client, auto: bool) -> anyhow::Result<Self> {
        let live = Live::open(client, &["overview"]).await?;
        let bar = bar(0);
        let (began, told) = (Instant::now(), String::new());
        Ok(Self { client, live, auto, began, bar, incident: None, rollout: None, well: false, told })
    }

    fn say(&self, text: &str) {
        let s = self.began.elapsed().as_secs();
        self.bar.suspend(|| println!("{:>2}:{:02}  {text}", s / 60, s % 60));
    }

    fn add(&self, text: &str) {
        self.bar.suspend(|| println!("       {text}"));
    }

    async fn tell(&mut self, v2: &Bundle, fault: impl Fn(), once: bool) -> anyhow::Result<ExitCode> {
        let mut faulty = false;
        loop {
            let until_fault = self.began + FAULT_AFTER;
            let too_late = self.began + STORY_MAX;
            let frame = tokio::select! {
                frame = self.live.next() => frame.context("the collector closed the live channel")?,
                () = tokio::time::sleep_until(until_fault), if !faulty => {
                    faulty = true;
                    fault();
                    self.say("Behind the scenes: the temperature sensors at busan begin to read 6 °C too high. The pumps are as well as before.");
                    continue;
                }
                () = tokio::time::sleep_until(too_late), if once => return Err(self.late()),
            };
            let outcome = match frame["t"].as_str() {
                Some("d") => {
                    self.look(&frame);
                    End::NotYet
                }
                Some("ev") => self.event(&frame, v2).await?,
                _ => End::NotYet,
            };
            if outcome == End::Solved {
                if once {
                    return Ok(ExitCode::SUCCESS);
                }
                self.add("The demo goes on; Ctrl-C ends it.");
            }
        }
    }

    /// The story did not complete: one sentence that says where it stopped.
    fn late(&self) -> anyhow::Error {
        let where_to = match (&self.incident, &self.rollout) {
            (None, _) => "no incident opened".to_owned(),
            (Some(id), None) => {
                format!("{id} opened, but nobody rolled a better model out (use --auto to play it without a person)")
            }
            (Some(id), Some(rollout)) => format!("rollout {rollout} did not resolve {id}"),
        };
        let message = format!("the story did not complete within {} minutes: {where_to}", STORY_MAX.as_secs() / 60);
        Failure::new(1, "error", message, "run it again with DRIFTLINE_LOG=info and report what it prints").into()
    }

    /// A view has changed.
    fn look(&mut self, frame: &Value) {
        let view = &frame["v"];
        if frame["topic"] == "overview" {
            let counts = &view["counts"];
            let (total, normal) = (counts["total"].as_u64().unwrap_or(0), counts["normal"].as_u64().unwrap_or(0));
            if self.rollout.is_none() {
                self.bar.set_length(total);
                self.bar.set_position(normal);
                self.bar.set_message(text(view, "headline"));
            }
            if !self.well && view["state"] == "normal" && normal == total && total > 0 {
                self.well = true;
                self.say(&format!("{} {}", text(view, "headline"), text(view, "summary")));
            }
        } else if view.is_object() {
            self.bar.set_length(view["total"].as_u64().unwrap_or(0));
            self.bar.set_position(view["installed"].as_u64().unwrap_or(0));
            self.bar.set_message(text(view, "state_label"));
            // One line for each state of each stage.
            let stage = view["stages"].as_array().into_iter().flatten().filter(|s| s["state"] != "waiting").count();
            let state = format!("{stage} {}", text(view, "state"));
            if self.told != state {
                self.told = state;
                self.say(&text(view, "sentence"));
            }
        }
    }

    async fn event(&mut self, frame: &Value, v2: &Bundle) -> anyhow::Result<End> {
        let (id, words) = (text(frame, "id"), text(frame, "text"));
        match frame["k"].as_str().unwrap_or_default() {
            "incident.opened" => {
                self.say(&format!("{id} {words}"));
                if self.incident.is_none() {
                    self.incident = Some(id.clone());
                    self.explain(&id).await?;
                    add(self.client, v2).await?;
                    self.offer(&id).await?;
                }
            }
            "incident.resolved" => {
                self.say(&format!("{id} {words}"));
                let incident = self.incident(&id).await?;
                for item in incident["accuracy"]["items"].as_array().into_iter().flatten() {
                    let share = item["share"].as_f64().unwrap_or_default() * 100.0;
                    self.add(&format!(
                        "{}: right in {share:.0}% of {} readings.",
                        text(item, "label"),
                        text(item, "labelled")
                    ));
                }
                if self.incident.as_ref() == Some(&id) {
                    return Ok(End::Solved);
                }
            }
            "rollout.created" => {
                let topic = format!("rollout:{id}");
                self.rollout = Some(id);
                self.say(&words);
                self.live.subscribe(&["overview", &topic], "en").await?;
            }
            "device.failed" | "rollout.paused" | "rollout.resumed" | "rollout.aborted" => self.say(&words),
            _ => {}
        }
        Ok(End::NotYet)
    }

    async fn incident(&self, id: &str) -> anyhow::Result<Value> {
        let path = format!("incidents/{id}");
        blocking(self.client, move |c| c.get(&path)).await
    }

    async fn explain(&self, id: &str) -> anyhow::Result<()> {
        for fact in self.incident(id).await?["facts"].as_array().into_iter().flatten() {
            self.add(&format!("{}: {}", text(fact, "label"), text(fact, "text")));
        }
        Ok(())
    }

    /// Model v2 is there now: roll it out, or say how.
    async fn offer(&self, id: &str) -> anyhow::Result<()> {
        self.say("A model pump v2 was trained with readings of such sensors, and has been added.");
        if !self.auto {
            self.add(&format!("Open {}/#/incidents/{id} and press the blue button, or:", self.client.url));
            self.add(&format!("driftline rollouts create --url {} --model pump@v2 --incident {id}", self.client.url));
            return Ok(());
        }
        let request = json!({ "model": "pump", "release": "v2", "query": { "incident": id } });
        let sentence = blocking(self.client, move |c| {
            let mut request = request;
            let plan = c.post("rollouts/plan", &request)?;
            request["plan_hash"] = plan["plan_hash"].clone();
            c.post("rollouts", &request)?;
            Ok(text(&plan, "sentence"))
        });
        self.say(&sentence.await?);
        Ok(())
    }
}
