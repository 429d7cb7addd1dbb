//! Runs one agent: a thread that infers and owns the state machine, and tasks that move bytes.
//!
//! The thread never waits for network or disk: messages, results of disk jobs and chunks of samples reach it through
//! channels of fixed size, and it publishes only while the link has room. Used by `main.rs`, and by the collector's
//! demo with twenty agents in one process.

mod account;
mod answer;

use super::answered::Answered;
use super::clock::Clock;
use super::jobs::{self, Done, JOBS_MAX, Job};
use super::mqtt::{LinkEvent, LinkPublish};
use super::report::{Hooks, Report, Trouble};
use super::source::{self, Around, Fed, Feed};
use super::spool_dir::{self, Writer};
use super::start::{self, StartError, Started};
use crate::agent::{Agent, Input, Publish, Settings};
use crate::config::Config;
use crate::guard::Answers;
use crate::inference::Model;
use crate::serving::Served;
use crate::signal::Stretch;
use crate::slot::{Action, Proof};
use crate::source::{Chunk, SourceError, Wanted};
use crate::spool::journal::Entry;
use answer::Before;
use driftline_shared::manifest::{Guard, Sampled};
use driftline_shared::units::{ReleaseId, Stream};
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Publishes between the thread and the link.
const PUBLISHES_MAX: usize = 64;
/// Link events between the link and the thread.
const EVENTS_MAX: usize = 64;
/// A finished source waits so long for the collector to acknowledge its last windows.
const FINISH: Duration = Duration::from_secs(10);
/// A stopped agent waits so long.
const STOP: Duration = Duration::from_millis(1_200);
/// The link gets so long to say goodbye.
const GOODBYE: Duration = Duration::from_millis(400);
/// The last windows get so long to reach the disk.
const SYNCED: Duration = Duration::from_millis(300);
/// The thread shows that it lives at least so often.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Pause before room on a full link is looked for again, should its signal be missed.
const BLOCKED: Duration = Duration::from_millis(100);

/// Why an agent could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its source failed.
    #[error("{0}")]
    Source(#[from] SourceError),
    /// Its thread broke off.
    #[error("the agent's thread broke off: this is a defect, please report it with the lines above")]
    Thread,
}

/// An agent that runs.
#[derive(Debug)]
pub struct Running {
    ended: oneshot::Receiver<Result<Report, RunError>>,
    link: tokio::task::JoinHandle<()>,
    status: tokio::task::JoinHandle<()>,
    disk_jobs: tokio::task::JoinHandle<()>,
}

/// Starts an agent and runs it until its source ends or `shutdown` completes.
pub async fn run(
    config: Config,
    hooks: Hooks,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Report, RunError> {
    start(config, hooks, shutdown).await?.wait().await
}

/// Starts an agent; its models are loaded when this returns.
pub async fn start(
    config: Config,
    hooks: Hooks,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Running, RunError> {
    let config = Arc::new(config);
    let (prepared, trial) = (config.clone(), hooks.trial.clone());
    let prepare = tokio::task::spawn_blocking(move || start::prepare(&prepared, &trial));
    let Started { disk, file, active, before } = prepare.await.map_err(|_| RunError::Thread)??;
    hooks.counters.troubles.add_many(Trouble::StateUnread, disk.unread());
    let refused = |what| move |e: std::io::Error| StartError::System { what, reason: e.to_string() };
    let stream = getrandom::u64().map_err(|e| StartError::System { what: "random numbers", reason: e.to_string() })?;
    let settings = Settings {
        fleet: config.fleet.clone(),
        device: config.device.clone(),
        labels: config.labels.clone(),
        stream: Stream(stream),
        window_samples_max: config.window_samples_max,
        room: config.spool.room,
        spool_commit_ms: config.spool.commit_ms / 2,
        drain: config.spool.drain,
        labels_samples_max: config.labels_samples_max,
        evidence: config.evidence,
        proof: Proof { trial: config.trial.samples, commit: config.trial.commit_samples },
    };
    let (model, profile) = active.unzip();
    let before = before.map(Before::of);
    let mut clock = Clock::start();
    let mut agent = Agent::new(clock.now(), settings, file.clone(), profile);
    let dir = config.data_dir.join("spool");
    // Half of the time until windows have a number, half until they are written.
    let delay = Duration::from_millis(u64::from(config.spool.commit_ms / 2));
    let free = u64::from(config.spool.free_mb) << 20;
    let (beat, lock) = (hooks.counters.clone(), disk.lock());
    let opened =
        tokio::task::spawn_blocking(move || spool_dir::start(&dir, free, Stream(stream), delay, beat, lock)).await;
    let (spool, found) = opened.map_err(|_| RunError::Thread)?.map_err(refused("a thread"))?;
    agent.durable(found.streams);
    match agent.ledger().windows_waiting {
        0 => {}
        n => tracing::info!("{n} windows of earlier starts wait in the spool"),
    }

    let (publish, publishes) = mpsc::channel(PUBLISHES_MAX);
    let (event_tx, events) = mpsc::channel(EVENTS_MAX);
    // Every start has numbers of its own, so that an old will is known as old.
    let connection_first = file.starts << 20;
    let beat = hooks.counters.clone();
    let link = super::link::start(&config, &agent, connection_first, publishes, event_tx, beat)?;
    let status = tokio::spawn(super::status::serve(config.clone(), hooks.counters.clone()));
    if let Some(samples) = disk.take_labels().and_then(|bytes| agent.remember(&bytes)) {
        tracing::info!("{samples} samples of the last start can still be labelled");
    }
    let (job_tx, jobs) = mpsc::channel(JOBS_MAX);
    let (done_tx, done) = mpsc::channel(JOBS_MAX);
    let disk_jobs = tokio::spawn(jobs::run(disk, hooks.trial.clone(), file, jobs, done_tx));
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        shutdown.await;
        let _ = stop.send(true);
        // Kept open: a closed channel would say the same again and again.
        stop.closed().await;
    });

    let worker = Worker {
        agent,
        clock,
        active: model,
        before,
        candidate: None,
        trial: false,
        answered: Answered::default(),
        stretch: None,
        stretches: Chunk::default(),
        trial_outputs: Vec::new(),
        feed: None,
        served: watch::Sender::new(None),
        answers: Answers::default(),
        publish,
        events,
        jobs: job_tx,
        done,
        spool,
        behind: VecDeque::new(),
        stopped,
        hooks,
        config: config.clone(),
        runtime: tokio::runtime::Handle::current(),
        connection: None,
        ending: None,
        source_error: None,
    };
    let (ended_tx, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(refused("timers"))?;
    std::thread::Builder::new()
        .name(format!("agent-{}", config.device))
        .spawn(move || {
            let _ = ended_tx.send(runtime.block_on(worker.run()));
        })
        .map_err(refused("a thread"))?;
    Ok(Running { ended, link, status, disk_jobs })
}

impl Running {
    /// Waits until the agent has ended.
    pub async fn wait(self) -> Result<Report, RunError> {
        let result = self.ended.await.unwrap_or(Err(RunError::Thread));
        self.status.abort();
        // The thread has let go of the link, which now says goodbye, while the last jobs are done.
        let mut link = self.link;
        let both = async { tokio::join!(&mut link, self.disk_jobs) };
        if tokio::time::timeout(GOODBYE, both).await.is_err() {
            link.abort();
        }
        result
    }
}

struct Worker {
    agent: Agent,
    clock: Clock,
    active: Option<Model>,
    /// The release before: for the way back, and for a guard that falls back to it.
    before: Option<Before>,
    candidate: Option<Model>,
    /// Whether the candidate sees live samples.
    trial: bool,
    answered: Answered,
    /// Readings on their way to a sample of a signal, and samples that are whole.
    stretch: Option<(Arc<Sampled>, Stretch)>,
    stretches: Chunk,
    trial_outputs: Vec<f32>,
    feed: Option<Feed>,
    /// What applications can ask.
    served: watch::Sender<Option<Arc<Served>>>,
    answers: Answers,
    publish: mpsc::Sender<LinkPublish>,
    events: mpsc::Receiver<LinkEvent>,
    jobs: mpsc::Sender<Job>,
    done: mpsc::Receiver<Done>,
    spool: Writer,
    /// What the spool's thread had no room for.
    behind: VecDeque<Entry>,
    stopped: watch::Receiver<bool>,
    hooks: Hooks,
    config: Arc<Config>,
    runtime: tokio::runtime::Handle,
    connection: Option<u64>,
    /// Until when the last windows may still be acknowledged.
    ending: Option<Instant>,
    source_error: Option<SourceError>,
}

enum Woken {
    Link(LinkEvent),
    Done(Done),
    Leaves(Stream),
    Fed(Option<Fed>),
    Stop,
    Tick,
}

impl Worker {
    async fn run(mut self) -> Result<Report, RunError> {
        self.serve();
        self.start_source();
        loop {
            self.act();
            let blocked = self.publish_what_is_due();
            // After it: what is published may have to be told to the disk.
            self.spool();
            self.count();
            if self.is_over() {
                break;
            }
            let wake = self.wake_at(blocked);
            let woken = tokio::select! {
                Some(event) = self.events.recv() => Woken::Link(event),
                Some(done) = self.done.recv() => Woken::Done(done),
                Some(stream) = self.spool.leaves() => Woken::Leaves(stream),
                fed = next(&mut self.feed), if self.ending.is_none() => Woken::Fed(fed),
                _ = self.publish.reserve(), if blocked => Woken::Tick,
                _ = self.stopped.changed(), if self.ending.is_none() => Woken::Stop,
                () = tokio::time::sleep_until(wake) => Woken::Tick,
            };
            match woken {
                Woken::Link(event) => self.link_event(event),
                Woken::Done(done) => self.job_done(done),
                Woken::Leaves(stream) => self.agent.may_leave(stream),
                Woken::Fed(fed) => self.fed(fed),
                Woken::Stop => self.end(STOP),
                Woken::Tick => self.handle(Input::Tick),
            }
        }
        self.goodbye();
        // Truth that came since the end began.
        self.handle(Input::Flush);
        self.spool();
        let remembered = self.agent.remembered();
        if !remembered.is_empty() {
            self.job(Job::KeepLabels(remembered));
        }
        let ended = match self.source_error.take() {
            Some(error) => Err(error.into()),
            None => Ok(self.report()),
        };
        self.spool.finish(SYNCED);
        ended
    }

    fn handle(&mut self, input: Input<'_>) {
        let now = self.clock.now();
        self.agent.handle(now, input);
    }

    /// Does what the state machine asked for; whether another model answers now.
    fn act(&mut self) -> bool {
        let mut another = false;
        while let Some(action) = self.agent.poll_output() {
            another |= matches!(action, Action::Switch | Action::Back);
            match action {
                Action::Persist { number, file } => self.job(Job::Persist { number, file }),
                Action::Stage { digest, from } => self.job(Job::Stage { digest, from }),
                Action::Try => self.trial = true,
                Action::Switch => {
                    self.trial = false;
                    // What is served still is of the release before.
                    let served = self.served.borrow().clone();
                    self.before = self.active.take().zip(served).map(|(model, served)| Before::new(model, &served));
                    self.active = self.candidate.take();
                    self.log_release("answers now");
                    self.serve();
                    self.start_source();
                }
                Action::Back => {
                    // After a restart the release before may be here while the state machine has still to load it.
                    let before = self.before.take().filter(|_| self.agent.active().is_some());
                    self.active = before.map(|before| before.model);
                    self.log_release("answers again");
                    self.serve();
                }
                Action::Discard => {
                    self.trial = false;
                    self.candidate = None;
                }
                Action::Settle { reverted } => {
                    // What somebody has just gone back from is nothing to fall back to.
                    if reverted || self.agent.active().is_none_or(|p| p.guard != Some(Guard::Fallback)) {
                        self.before = None;
                    }
                    self.log_release("stays");
                    self.job(Job::Tidy);
                }
            }
        }
        another
    }

    /// Hands what is to be put on the disk to the thread that does.
    fn spool(&mut self) {
        while let Some(entry) = self.behind.pop_front().or_else(|| self.agent.poll_entry()) {
            if let Err(entry) = self.spool.give(entry) {
                self.behind.push_front(entry);
                break;
            }
        }
    }

    /// A full queue would mean that the disk hangs; then the transition fails and the active model goes on.
    fn job(&mut self, job: Job) {
        let Err(refused) = self.jobs.try_send(job) else { return };
        let reason = "too much is waiting for the disk".to_owned();
        match refused.into_inner() {
            Job::Persist { number, .. } => self.handle(Input::Persisted { number, result: Err(reason) }),
            Job::Stage { digest, .. } => self.handle(Input::Staged { digest, result: Err(reason) }),
            Job::Tidy | Job::KeepLabels(_) => {}
        }
    }

    /// Publishes while the link has room; true when it has none.
    fn publish_what_is_due(&mut self) -> bool {
        loop {
            match self.publish.try_reserve() {
                Ok(permit) => match self.agent.poll_publish() {
                    Some(message) => permit.send(link_publish(message)),
                    None => return false,
                },
                Err(mpsc::error::TrySendError::Full(())) => return true,
                Err(mpsc::error::TrySendError::Closed(())) => return false,
            }
        }
    }

    fn wake_at(&self, blocked: bool) -> Instant {
        let now = Instant::now();
        let due = self.agent.poll_at().map(|at| Instant::from_std(self.clock.instant(at)));
        let soonest = if blocked { now + BLOCKED } else { now };
        let wake = due.map_or(now + HEARTBEAT, |at| at.max(soonest)).min(now + HEARTBEAT);
        self.ending.map_or(wake, |end| wake.min(end))
    }

    fn link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { connection } => {
                self.connection = Some(connection);
                self.hooks.counters.change(|snapshot| {
                    snapshot.link_changed = Some(std::time::Instant::now());
                    snapshot.connections += 1;
                });
                tracing::info!("connected to {}:{}", self.config.mqtt.broker.host, self.config.mqtt.broker.port);
                self.handle(Input::LinkUp { connection });
            }
            LinkEvent::Down { reason } => {
                if self.connection.take().is_some() {
                    self.hooks.counters.change(|snapshot| snapshot.link_changed = Some(std::time::Instant::now()));
                    tracing::warn!("the connection is lost, windows wait in the spool: {reason}");
                }
                self.handle(Input::LinkDown);
            }
            LinkEvent::Message { topic, payload } => self.handle(Input::Message { topic: &topic, payload: &payload }),
        }
    }

    fn job_done(&mut self, done: Done) {
        match done {
            Done::Persisted { number, result } => self.handle(Input::Persisted { number, result }),
            Done::Staged { digest, result } => {
                let result = result.map(|(model, profile)| {
                    self.candidate = Some(model);
                    profile
                });
                if let Err(reason) = &result {
                    tracing::warn!("release {} is refused: {reason}", ReleaseId::of(&digest.0));
                }
                self.handle(Input::Staged { digest, result });
            }
        }
    }

    fn fed(&mut self, fed: Option<Fed>) {
        match fed {
            Some(Fed::Asked(asked)) => self.asked(asked),
            Some(Fed::Chunk(chunk)) => {
                self.rows(&chunk);
                if let Some(feed) = &self.feed {
                    feed.give_back(chunk);
                }
            }
            Some(Fed::End(result)) => {
                self.feed = None;
                self.source_error = result.err();
                self.end(FINISH);
            }
            None => {
                self.feed = None;
                self.end(FINISH);
            }
        }
    }

    fn start_source(&mut self) {
        let source = &self.config.source;
        if self.feed.is_some() || self.ending.is_some() {
            return;
        }
        let wanted = match self.agent.active() {
            Some(profile) => Wanted::of(profile, source.label.as_deref(), source.id.as_deref()),
            // Applications get a sentence while there is no model; other sources wait for one.
            None if source.is_asked() => Wanted::default(),
            None => return,
        };
        let around = Around {
            fault: self.hooks.fault.clone(),
            served: self.served.subscribe(),
            counters: self.hooks.counters.clone(),
        };
        match source::start(source, wanted, around, &self.runtime) {
            Ok(feed) => self.feed = Some(feed),
            Err(source) => {
                self.source_error = Some(SourceError::Read { path: "the source".into(), source });
                self.end(FINISH);
            }
        }
    }

    /// Closes the open window and gives the collector some time to acknowledge what is left.
    fn end(&mut self, patience: Duration) {
        self.spool.hurry();
        self.handle(Input::Flush);
        self.ending = Some(Instant::now() + patience);
    }

    fn is_over(&self) -> bool {
        let Some(until) = self.ending else { return false };
        self.agent.ledger().windows_waiting == 0 || Instant::now() >= until
    }
}

/// The next thing from the source, or never when there is none.
async fn next(feed: &mut Option<Feed>) -> Option<Fed> {
    match feed {
        Some(feed) => feed.next().await,
        None => std::future::pending().await,
    }
}

fn link_publish(message: Publish) -> LinkPublish {
    let Publish { topic, payload, at_least_once, retain } = message;
    LinkPublish { topic, payload, qos: u8::from(at_least_once), retain }
}
