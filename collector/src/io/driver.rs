//! The one task that owns the state machine and the store.
//!
//! Messages and questions come in through channels; a batch is whatever waits, up to [`BATCH_MAX`]. Batch by batch: handle, commit, then
//! answer, acknowledge and publish, so nothing leaves before it is stored. When a commit fails, the state machine is rebuilt from the
//! store: its memory had run ahead of the disk.

use super::live::{Change, Hub};
use super::store::{Store, StoreError};
use super::transport::{Incoming, Outgoing};
use super::turned_away::TurnedAway;
use crate::collector::{Collector, Command, Output, Refused, Settings, Topic};
use crate::explain::Lang;
use crate::view;
use driftline_shared::units::{MonoMs, Now, WallMs};
use driftline_shared::wire::FRAME_BYTES_MAX;
use driftline_shared::wire::messages::{BLOCK_BYTES_MAX, Block};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot, watch};

/// Messages of one transaction.
const BATCH_MAX: usize = 200;
/// Questions and commands waiting.
pub const ASKS_MAX: usize = 256;
/// Messages that wait for room on the way to the broker. Blocks beyond are dropped, devices ask again.
const OUTGOING_WAITING_MAX: usize = 50_000;
/// How long rendered views serve before texts such as "25 s ago" are written anew.
const VIEW_AGE: Duration = Duration::from_secs(2);
/// Wait before a failed store is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// How often old rows are forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// A question to the state machine.
#[derive(Debug)]
pub enum Ask {
    /// Do something; answered after the commit.
    Command(Command, oneshot::Sender<Result<Value, Refused>>),
    /// Show something, as JSON text.
    View(Topic, Lang, oneshot::Sender<Arc<str>>),
    /// The health of the collector.
    Health(oneshot::Sender<Value>),
    /// Its counters in Prometheus' text format.
    Metrics(oneshot::Sender<String>),
}

/// The two clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts the monotonic clock.
    #[expect(clippy::disallowed_methods, reason = "this is where clocks are read")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Both clocks, now.
    #[expect(clippy::disallowed_methods, reason = "this is where clocks are read")]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { mono: MonoMs(self.start.elapsed().as_millis() as u64), wall: WallMs(wall.as_millis() as u64) }
    }

    fn instant(&self, at: MonoMs) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + Duration::from_millis(at.0))
    }
}

/// Drives one collector.
pub struct Driver {
    clock: Clock,
    settings: Settings,
    epoch: u64,
    store: Store,
    core: Collector,
    hub: Arc<Hub>,
    outgoing: mpsc::Sender<Outgoing>,
    waiting: VecDeque<Outgoing>,
    views: BTreeMap<(Topic, Lang), (Instant, Arc<str>)>,
    turned_away: TurnedAway,
    #[cfg(feature = "influxdb")]
    influx: Option<super::influx::Sink>,
}

impl Driver {
    /// Rebuilds the collector from its store.
    pub fn new(
        settings: Settings,
        mut store: Store,
        hub: Arc<Hub>,
        outgoing: mpsc::Sender<Outgoing>,
        turned_away: TurnedAway,
    ) -> Result<Self, StoreError> {
        let epoch = store.next_epoch()?;
        let core = Collector::new(settings.clone(), store.load(epoch)?);
        Ok(Self {
            clock: Clock::start(),
            settings,
            epoch,
            store,
            core,
            hub,
            outgoing,
            waiting: VecDeque::new(),
            views: BTreeMap::new(),
            turned_away,
            #[cfg(feature = "influxdb")]
            influx: None,
        })
    }

    /// Also exports merged windows.
    #[cfg(feature = "influxdb")]
    pub fn with_influx(mut self, sink: super::influx::Sink) -> Self {
        self.influx = Some(sink);
        self
    }

    #[cfg(feature = "influxdb")]
    fn export_metrics(&self) -> String {
        self.influx.as_ref().map_or_else(String::new, super::influx::Sink::metrics)
    }

    #[cfg(not(feature = "influxdb"))]
    fn export_metrics(&self) -> String {
        String::new()
    }

    /// Runs until `stop` says so.
    pub async fn run(
        mut self,
        mut incoming: mpsc::Receiver<Incoming>,
        mut asks: mpsc::Receiver<Ask>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut prune = tokio::time::interval(PRUNE_EVERY);
        loop {
            self.flush();
            let due = self.clock.instant(self.core.poll_at());
            let mut batch = Vec::new();
            let mut ask = None;
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                taken = incoming.recv_many(&mut batch, BATCH_MAX) => if taken == 0 { break },
                some = asks.recv() => ask = some,
                () = tokio::time::sleep_until(due) => {}
                room = self.outgoing.reserve(), if !self.waiting.is_empty() => if room.is_err() { break },
                _ = prune.tick() => {
                    let now = self.clock.now().wall;
                    if let Err(error) = tokio::task::block_in_place(|| self.store.prune(now)) {
                        tracing::warn!(%error, "old rows could not be forgotten");
                    }
                }
            }
            self.core.backlog(self.clock.now().mono, incoming.len(), incoming.max_capacity());
            self.step(batch, ask).await;
        }
        self.core.farewell();
        self.flush();
    }

    /// One batch, from handling to answering.
    async fn step(&mut self, batch: Vec<Incoming>, ask: Option<Ask>) {
        let now = self.clock.now();
        for message in &batch {
            self.core.handle(now, &message.topic, message.client.as_deref(), &message.payload);
        }
        if now.mono >= self.core.poll_at() {
            self.core.tick(now);
        }
        let mut answer = None;
        match ask {
            Some(Ask::Command(command, reply)) => answer = Some((self.core.command(now, command), reply)),
            Some(Ask::View(topic, lang, reply)) => {
                let _ = reply.send(self.view(now, topic, lang));
            }
            Some(Ask::Health(reply)) => {
                let _ = reply.send(view::health(&self.core));
            }
            Some(Ask::Metrics(reply)) => {
                let text = metrics(&self.core, &self.hub, self.turned_away.count()) + &self.export_metrics();
                let _ = reply.send(text);
            }
            None => {}
        }
        let writes = self.core.take_writes();
        if let Err(error) = tokio::task::block_in_place(|| self.store.commit(&writes)) {
            // Senders dropped unanswered: nothing is acknowledged, and every device sends again.
            tracing::error!(%error, "nothing can be stored; no window is acknowledged until this works again");
            drop((batch, answer));
            return self.rebuild().await;
        }
        #[cfg(feature = "influxdb")]
        if let Some(sink) = &self.influx {
            sink.offer(&self.core, &writes);
        }
        self.core.committed(now);
        for message in batch {
            let _ = message.done.send(());
        }
        if let Some((result, reply)) = answer {
            let _ = reply.send(result);
        }
        let changed = self.core.take_changed();
        if !changed.is_empty() {
            self.views.retain(|(topic, _), _| !changed.contains(topic));
            self.hub.tell(Change::Topics(Arc::new(changed)));
        }
    }

    /// Starts over from what is on disk.
    async fn rebuild(&mut self) {
        loop {
            tokio::time::sleep(STORE_RETRY).await;
            match tokio::task::block_in_place(|| self.store.load(self.epoch)) {
                Ok(stored) => {
                    let fresh = Collector::new(self.settings.clone(), stored);
                    let old = std::mem::replace(&mut self.core, fresh);
                    self.core.keep_connections(&old);
                    self.views.clear();
                    return;
                }
                Err(error) => tracing::error!(%error, "the store does not read either"),
            }
        }
    }

    /// Moves outputs on their way: to the broker, or to live clients.
    fn flush(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Publish { topic, payload, qos, retain } => {
                    self.waiting.push_back(Outgoing { topic, payload: payload.into(), qos, retain });
                }
                Output::Block { topic, file, offset, bytes } if self.waiting.len() < OUTGOING_WAITING_MAX => {
                    let bytes = (bytes as usize).min(BLOCK_BYTES_MAX);
                    let Some(block) = self.store.block(file, offset, bytes) else {
                        tracing::warn!(%file, offset, topic, "a device asked for a part of a file that is not there");
                        continue;
                    };
                    let mut frame = vec![0; FRAME_BYTES_MAX];
                    if let Ok(len) = (Block { file, offset, bytes: &block }).write(&mut frame) {
                        frame.truncate(len);
                        self.waiting.push_back(Outgoing { topic, payload: frame.into(), qos: 0, retain: false });
                    }
                }
                Output::Block { .. } => {}
                Output::Event(event) => {
                    let texts = [Lang::En, Lang::Ko].map(|lang| view::event_text(&self.core, lang, &event));
                    tracing::info!(kind = event.kind, id = event.id, "{}", texts[0]);
                    self.hub.tell(Change::Event(Arc::new((event, texts))));
                }
            }
        }
        while let Some(message) = self.waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(message)) = self.outgoing.try_send(message) {
                self.waiting.push_front(message);
                break;
            }
        }
    }

    /// A view's JSON, rendered once however many ask.
    #[expect(clippy::disallowed_methods, reason = "the age of a rendered text, in io/")]
    fn view(&mut self, now: Now, topic: Topic, lang: Lang) -> Arc<str> {
        let key = (topic, lang);
        if let Some((at, text)) = self.views.get(&key)
            && at.elapsed() < VIEW_AGE
        {
            return Arc::clone(text);
        }
        let text: Arc<str> = view::render(&self.core, now, &key.0, lang).to_string().into();
        self.views.insert(key, (Instant::now(), Arc::clone(&text)));
        text
    }
}

/// The counters as Prometheus reads them.
fn metrics(core: &Collector, hub: &Hub, turned_away: u64) -> String {
    let c = core.counters();
    let mut text = String::new();
    let mut counter = |name: &str, help: &str, value: u64| {
        text += &format!("# HELP driftline_{name} {help}\n# TYPE driftline_{name} counter\ndriftline_{name} {value}\n");
    };
    counter("frames_received_total", "Numbered frames that arrived.", c.frames_received);
    counter("frames_accepted_total", "Frames stored for the first time.", c.frames_accepted);
    counter("frames_duplicate_total", "Frames that were stored before.", c.frames_duplicate);
    counter("frames_refused_total", "Frames refused.", c.frames_refused);
    counter("frames_lost_total", "Frames that devices declared lost.", c.frames_lost);
    counter("frames_corrupt_total", "Frames among them that were damaged on a device's disk.", c.frames_corrupt);
    counter("frames_merged_total", "Frames that devices without room merged into wider ones.", c.frames_merged);
    counter("windows_total", "Windows merged.", c.windows);
    counter("samples_total", "Samples in them.", c.samples);
    let help = "Clients not let in for their name, certificate or last will or, with TLS, for want of room.";
    counter("clients_turned_away_total", help, turned_away);
    text += "# HELP driftline_refused_total Frames, windows and messages refused, by reason.\n# TYPE driftline_refused_total counter\n";
    for (reason, n) in &c.refused {
        text += &format!("driftline_refused_total{{reason=\"{}\"}} {n}\n", reason.as_str());
    }
    text += "# HELP driftline_samples_refused_total Samples that devices refused, by reason.\n# TYPE driftline_samples_refused_total counter\n";
    for (reason, n) in ["malformed", "late", "inference"].iter().zip(c.samples_refused) {
        text += &format!("driftline_samples_refused_total{{reason=\"{reason}\"}} {n}\n");
    }
    text += "# HELP driftline_slow_down_seconds Time that devices are asked to leave between frames.\n# TYPE driftline_slow_down_seconds gauge\n";
    text += &format!("driftline_slow_down_seconds {}\n", core.slow_down_s());
    text += "# HELP driftline_live_clients Connected live clients.\n# TYPE driftline_live_clients gauge\n";
    text + &format!("driftline_live_clients {}\n", hub.clients())
}
