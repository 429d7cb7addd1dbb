//! The live websocket of docs/api.md: state coalesced per client, events in order, slow clients bounded.
//!
//! A client keeps a set of topics that changed; when its pace allows, the *current* value of each is asked for and sent. While a send
//! blocks, the set only fills. Events come over a broadcast ring: a client that falls behind is told to look anew, never disconnected.

use super::driver::Ask;
use crate::collector::Topic;
use crate::explain::Lang;
use crate::record::Event;
use crate::view;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

/// Connected clients.
pub const CLIENTS_MAX: usize = 256;
/// Changes that a client may fall behind.
const RING: usize = 1_000;
/// Topics of one client.
const TOPICS_MAX: usize = 32;
/// Bytes of one client frame.
pub const CLIENT_FRAME_BYTES_MAX: usize = 4096;
/// Heartbeat.
const BEAT: Duration = Duration::from_secs(15);
/// A client that takes longer than this for one frame is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Bounds of a client's pace.
const PACE_MS: (u64, u64) = (100, 60_000);
/// How long a client has to show its token, where one is needed.
const AUTH_TIMEOUT: Duration = Duration::from_secs(10);

/// What changed.
#[derive(Debug, Clone)]
pub enum Change {
    /// These views.
    Topics(Arc<BTreeSet<Topic>>),
    /// Something happened; its text in English and Korean.
    Event(Arc<(Event, [String; 2])>),
}

/// Tells every client what changed.
#[derive(Debug)]
pub struct Hub {
    changes: broadcast::Sender<Change>,
    clients: AtomicUsize,
    seq: AtomicU64,
    epoch: String,
}

/// A client's place among the connected ones; given back when dropped.
#[derive(Debug)]
pub struct Seat(Arc<Hub>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hub {
    /// A hub; `epoch` names this life of the server.
    pub fn new(epoch: String) -> Self {
        Self { changes: broadcast::channel(RING).0, clients: AtomicUsize::new(0), seq: AtomicU64::new(0), epoch }
    }

    /// Tells every client.
    pub fn tell(&self, change: Change) {
        self.seq.fetch_add(1, Ordering::Relaxed);
        // Nobody listening is fine.
        let _ = self.changes.send(change);
    }

    /// How many clients are connected.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// A place for one more client, if there is one.
    pub fn seat(self: &Arc<Self>) -> Option<Seat> {
        let taken =
            self.clients.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < CLIENTS_MAX).then_some(n + 1));
        taken.ok().map(|_| Seat(Arc::clone(self)))
    }
}

#[derive(Debug, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
enum FromClient {
    Sub {
        topics: Vec<String>,
        #[serde(default)]
        lang: String,
        pace_ms: Option<u64>,
    },
    Pace {
        pace_ms: u64,
    },
    Auth {
        token: String,
    },
}

struct Client {
    asks: mpsc::Sender<Ask>,
    hub: Arc<Hub>,
    topics: BTreeSet<Topic>,
    lang: Lang,
    pace: Duration,
    dirty: BTreeSet<Topic>,
    /// Topics that named nothing we know; answered once with null.
    unknown: Vec<String>,
}

/// Serves one client until it goes.
pub async fn serve(socket: WebSocket, seat: Seat, asks: mpsc::Sender<Ask>, token: Option<Arc<str>>, server_ms: u64) {
    let hub = Arc::clone(&seat.0);
    let mut changes = hub.changes.subscribe();
    let (mut to_client, mut from_client) = socket.split();
    if let Some(token) = token {
        let first = tokio::time::timeout(AUTH_TIMEOUT, from_client.next()).await;
        let shown = matches!(first, Ok(Some(Ok(Message::Text(text))))
            if matches!(serde_json::from_str(&text), Ok(FromClient::Auth { token: shown }) if same(&shown, &token)));
        if !shown {
            let _ = to_client.send(close(4401, "show a token first: {\"t\":\"auth\",\"token\":…}")).await;
            return;
        }
    }
    let seq = hub.seq.load(Ordering::Relaxed);
    let hello = json!({ "t": "hello", "epoch": hub.epoch, "seq": seq, "srv_ms": server_ms, "proto": 1 });
    if to_client.send(Message::text(hello.to_string())).await.is_err() {
        return;
    }
    let mut client = Client {
        asks,
        hub: Arc::clone(&hub),
        topics: BTreeSet::new(),
        lang: Lang::En,
        pace: Duration::from_millis(250),
        dirty: BTreeSet::new(),
        unknown: Vec::new(),
    };
    let mut beat = tokio::time::interval_at(Instant::now() + BEAT, BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let started = Instant::now();
    let mut next = started;
    loop {
        let due = !client.dirty.is_empty() || !client.unknown.is_empty();
        let frames = tokio::select! {
            message = from_client.next() => match client.heard(message) {
                Ok(()) => Vec::new(),
                Err(frame) => {
                    if let Some(frame) = frame {
                        let _ = to_client.send(frame).await;
                    }
                    return;
                }
            },
            change = changes.recv() => match client.changed(change) {
                Ok(frame) => frame.into_iter().collect(),
                Err(()) => return,
            },
            () = tokio::time::sleep_until(next), if due => {
                next = Instant::now() + client.pace;
                client.current().await
            }
            _ = beat.tick() => {
                let srv_ms = server_ms + started.elapsed().as_millis() as u64;
                vec![Message::text(json!({ "t": "beat", "srv_ms": srv_ms }).to_string())]
            }
        };
        for frame in frames {
            match tokio::time::timeout(SEND_TIMEOUT, to_client.send(frame)).await {
                Ok(Ok(())) => {}
                _ => return,
            }
        }
    }
}

impl Client {
    /// Takes in what the client says. `Err` ends the connection, with a last word where one is due.
    fn heard(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), Option<Message>> {
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Ok(Message::Binary(_))) => return Err(Some(close(1008, "frames are JSON text"))),
            // An oversize frame is an error of the socket itself.
            Some(Err(_)) => return Err(Some(close(1008, "a frame is at most 4 KiB of JSON text"))),
            Some(Ok(Message::Close(_))) | None => return Err(None),
        };
        match serde_json::from_str(&text) {
            Ok(FromClient::Sub { topics, lang, pace_ms }) => {
                if topics.len() > TOPICS_MAX {
                    return Err(Some(close(1008, "at most 32 topics")));
                }
                self.lang = Lang::parse(&lang);
                self.pace = pace_ms.map_or(self.pace, pace);
                self.topics = topics.iter().filter_map(|t| view::parse_topic(t)).collect();
                self.unknown = topics.into_iter().filter(|t| view::parse_topic(t).is_none()).collect();
                self.dirty = self.topics.clone();
                Ok(())
            }
            Ok(FromClient::Pace { pace_ms }) => {
                self.pace = pace(pace_ms);
                Ok(())
            }
            Ok(FromClient::Auth { .. }) => Ok(()),
            Err(_) => Err(Some(close(1008, "this is no message of driftline.v1"))),
        }
    }

    fn changed(&mut self, change: Result<Change, broadcast::error::RecvError>) -> Result<Option<Message>, ()> {
        match change {
            Ok(Change::Topics(topics)) => {
                self.dirty.extend(topics.intersection(&self.topics).cloned());
                Ok(None)
            }
            Ok(Change::Event(event)) => {
                let (event, texts) = &*event;
                let text = &texts[usize::from(self.lang == Lang::Ko)];
                let seq = self.hub.seq.load(Ordering::Relaxed);
                let frame =
                    json!({ "t": "ev", "seq": seq, "k": event.kind, "id": event.id, "text": text, "t_ms": event.at });
                Ok(Some(Message::text(frame.to_string())))
            }
            Err(broadcast::error::RecvError::Lagged(_)) => {
                self.dirty = self.topics.clone();
                Ok(Some(Message::text(json!({ "t": "resync", "why": "gap" }).to_string())))
            }
            Err(broadcast::error::RecvError::Closed) => Err(()),
        }
    }

    /// The current value of everything that changed.
    async fn current(&mut self) -> Vec<Message> {
        let seq = self.hub.seq.load(Ordering::Relaxed);
        let frame = |topic: &str, value: &str| {
            let topic = serde_json::Value::from(topic);
            Message::text(format!(r#"{{"t":"d","seq":{seq},"topic":{topic},"v":{value}}}"#))
        };
        let mut frames: Vec<Message> =
            std::mem::take(&mut self.unknown).iter().map(|topic| frame(topic, "null")).collect();
        for topic in std::mem::take(&mut self.dirty) {
            let (reply, answer) = oneshot::channel();
            let name = view::topic_name(&topic);
            if self.asks.send(Ask::View(topic, self.lang, reply)).await.is_ok()
                && let Ok(value) = answer.await
            {
                frames.push(frame(&name, &value));
            }
        }
        frames
    }
}

fn pace(ms: u64) -> Duration {
    Duration::from_millis(ms.clamp(PACE_MS.0, PACE_MS.1))
}

fn close(code: u16, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame { code, reason: reason.into() }))
}

/// Compares secrets in time that depends on their length alone.
pub fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differ, (x, y)| differ | (x ^ y)) == 0
}
