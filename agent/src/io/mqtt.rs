//! The device's MQTT connection, on rumqttc behind a small surface of our own so that a successor can replace it.
//!
//! The spool owns delivery, so this link may lose what it holds. What it must not do: spin, hold unbounded memory, or fall into a loop
//! over one bad packet. A client lives for one connection only: rumqttc clears or replays its own state in ways that depend on the
//! broker's session (rumqtt #1014, #1056), so every reconnect builds a new client with a clean session.

use super::report::Counters;
use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, ConnectReturnCode, Filter, LastWill, Packet, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// First wait after a failure, before jitter.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// Longest wait, before jitter.
const BACKOFF_MAX: Duration = Duration::from_secs(600);
/// A connection that lived this long resets the wait.
const HEALTHY: Duration = Duration::from_secs(300);
/// Connection, CONNACK and SUBACK must be there within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Keep-alives without a word from the broker after which the client is given up.
const SILENT_KEEP_ALIVES: u32 = 3;
/// The task shows that it lives at least so often, but for the time a connection takes.
const BEAT: Duration = Duration::from_secs(2);
/// Requests inside rumqttc; more wait with the caller.
const REQUESTS_MAX: usize = 16;
/// Unacknowledged QoS 1 publishes inside rumqttc, far below its packet-id range.
const IN_FLIGHT_MAX: u16 = 100;
/// Room for topic and properties beside the largest payload.
const PACKET_OVERHEAD: u32 = 1024;

/// A password: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How TLS is spoken; two are the same when they are one.
#[derive(Debug, Clone)]
pub struct Tls(pub Arc<rustls::ClientConfig>);

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
impl Eq for Tls {}

/// A message that the broker sends when the connection breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Bytes,
}

/// How to connect. Made anew for every connection, because the will names the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Client id: the device's name.
    pub client_id: String,
    /// User name, when the broker wants one.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// TLS, when the broker wants it.
    pub tls: Option<Tls>,
    /// Keep-alive in seconds, at least 1.
    pub keep_alive_s: u16,
    /// Largest payload either way.
    pub payload_bytes_max: u32,
    /// Retained last will, QoS 1.
    pub will: Will,
    /// Topics to subscribe to, QoS 1.
    pub subscribe: Vec<String>,
}

/// What the link tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// Connected and subscribed.
    Up {
        /// The number in this connection's will.
        connection: u64,
    },
    /// Not connected any more; what was queued is gone.
    Down {
        /// Why.
        reason: String,
    },
    /// Something on a subscribed topic.
    Message {
        /// Topic.
        topic: String,
        /// Payload.
        payload: Bytes,
    },
}

/// Something to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPublish {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// 0 or 1.
    pub qos: u8,
    /// Kept by the broker.
    pub retain: bool,
}

/// Runs the link until nobody publishes or listens any more. Attempts are numbered from `first`.
pub async fn run(
    first: u64,
    mut config: impl FnMut(u64) -> LinkConfig + Send,
    mut publishes: mpsc::Receiver<LinkPublish>,
    events: mpsc::Sender<LinkEvent>,
    beat: Arc<Counters>,
) {
    let mut failures = 0u32;
    for number in first.. {
        let since = Instant::now();
        let Err(reason) = connection(number, &config(number), &mut publishes, &events, &beat).await else { return };
        // The spool sends again; what waits here would only be old.
        while publishes.try_recv().is_ok() {}
        if events.send(LinkEvent::Down { reason: reason.clone() }).await.is_err() {
            return;
        }
        failures = if since.elapsed() >= HEALTHY { 0 } else { failures.saturating_add(1) };
        let wait = backoff(failures);
        tracing::info!(reason, wait_ms = wait.as_millis() as u64, "not connected; trying again");
        let until = Instant::now() + wait;
        while Instant::now() < until {
            beat.link_beat.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep_until(until.min(Instant::now() + BEAT)).await;
        }
    }
}

/// One connection, from connecting to its end. `Ok` when nobody needs the link any more.
async fn connection(
    number: u64,
    config: &LinkConfig,
    publishes: &mut mpsc::Receiver<LinkPublish>,
    events: &mpsc::Sender<LinkEvent>,
    beat: &Counters,
) -> Result<(), String> {
    let (client, mut broker) = AsyncClient::new(options(config), REQUESTS_MAX);
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, subscribed(config, &client, &mut broker));
    connected.await.map_err(|_| format!("{}:{} does not answer", config.host, config.port))??;
    if events.send(LinkEvent::Up { connection: number }).await.is_err() {
        return Ok(());
    }
    let silence = Duration::from_secs(u64::from(config.keep_alive_s.max(1))) * SILENT_KEEP_ALIVES;
    let mut heard = Instant::now();
    let mut waiting: Option<LinkPublish> = None;
    let mut tick = tokio::time::interval(BEAT);
    loop {
        beat.link_beat.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            // Both branches are safe to cancel: recv loses nothing, poll keeps its state in the event loop.
            event = broker.poll() => match event.map_err(|e| e.to_string())? {
                Event::Incoming(Packet::Publish(p)) => {
                    heard = Instant::now();
                    let Ok(topic) = String::from_utf8(p.topic.to_vec()) else { continue };
                    if events.send(LinkEvent::Message { topic, payload: p.payload }).await.is_err() {
                        return Ok(());
                    }
                }
                Event::Incoming(Packet::Disconnect(d)) => return Err(format!("the broker closed the connection ({:?})", d.reason_code)),
                Event::Incoming(_) => heard = Instant::now(),
                Event::Outgoing(_) => {}
            },
            publish = publishes.recv(), if waiting.is_none() => match publish {
                // Larger ones would make the broker close the connection, again and again.
                Some(p) if p.payload.len() > config.payload_bytes_max as usize => {
                    tracing::warn!(topic = p.topic, bytes = p.payload.len(), "a message is larger than the broker takes; dropped");
                }
                Some(p) => waiting = try_publish(&client, p),
                None => {
                    farewell(&client, &mut broker).await;
                    return Ok(());
                }
            },
            _ = tick.tick() => {}
            () = tokio::time::sleep_until(heard + silence) => {
                return Err(format!("the broker said nothing for {} s", silence.as_secs()));
            }
        }
        if let Some(p) = waiting.take() {
            waiting = try_publish(&client, p);
        }
    }
}

/// Polls until CONNACK and every SUBACK are there.
async fn subscribed(config: &LinkConfig, client: &AsyncClient, broker: &mut EventLoop) -> Result<(), String> {
    loop {
        match broker.poll().await.map_err(|e| e.to_string())? {
            Event::Incoming(Packet::ConnAck(ConnAck { code: ConnectReturnCode::Success, .. })) => {
                let filters = config.subscribe.iter().map(|topic| Filter::new(topic.clone(), QoS::AtLeastOnce));
                client.try_subscribe_many(filters).map_err(|e| e.to_string())?;
            }
            Event::Incoming(Packet::ConnAck(ack)) => return Err(format!("the broker refused: {:?}", ack.code)),
            Event::Incoming(Packet::SubAck(ack)) => {
                let granted = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
                return if ack.return_codes.iter().all(granted) {
                    Ok(())
                } else {
                    Err(format!("the broker refused a subscription: {:?}", ack.return_codes))
                };
            }
            _ => {}
        }
    }
}

/// Hands a publish to rumqttc; returns it when there is no room yet.
fn try_publish(client: &AsyncClient, publish: LinkPublish) -> Option<LinkPublish> {
    let qos = if publish.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    let sent = client.try_publish(publish.topic.clone(), qos, publish.retain, publish.payload.clone());
    sent.is_err().then_some(publish)
}

/// Lets what was handed over go out, then says goodbye; the broker then sends no will.
async fn farewell(client: &AsyncClient, broker: &mut EventLoop) {
    if client.try_disconnect().is_ok() {
        let gone = async { while broker.poll().await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_millis(300), gone).await;
    }
}

fn options(config: &LinkConfig) -> MqttOptions {
    let mut options = MqttOptions::new(&config.client_id, &config.host, config.port);
    options.set_keep_alive(Duration::from_secs(u64::from(config.keep_alive_s.max(1))));
    options.set_clean_start(true);
    options.set_max_packet_size(Some(config.payload_bytes_max.saturating_add(PACKET_OVERHEAD)));
    options.set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX);
    options.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    if let Some(username) = &config.username {
        options.set_credentials(username, config.password.as_ref().map_or("", |p| p.0.as_str()));
    }
    if let Some(Tls(tls)) = &config.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
    }
    let will = LastWill::new(&config.will.topic, config.will.payload.to_vec(), QoS::AtLeastOnce, true, None);
    options.set_last_will(will);
    options
}

/// Full jitter: a uniform share of a wait that doubles with each failure.
fn backoff(failures: u32) -> Duration {
    let ceiling = BACKOFF_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(BACKOFF_MAX);
    // Without randomness the whole fleet would come back at once; a failing generator is no reason to stay away.
    let share = getrandom::u32().map_or(0.5, |r| f64::from(r) / f64::from(u32::MAX));
    ceiling.mul_f64(share).max(Duration::from_millis(50))
}
