//! The device's MQTT connection, on rumqttc behind a small surface of our own so that a successor can replace it.
//!
//! The spool owns delivery, so this link may lose what it holds. What it must not do: spin, hold unbounded memory, or fall into a loop
//! over one bad packet. A client lives for one connection only: rumqttc clears or replays its own state in ways that depend on the
//! broker's session (rumqtt #1014, #1056), so every reconnect builds a new client with a clean session.

use super::report::{Counters, Trouble};
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
/// Shortest wait.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest wait, before jitter.
const BACKOFF_MAX: Duration = Duration::from_secs(600);
/// A connection that lived this long resets the wait.
const HEALTHY: Duration = Duration::from_secs(300);
/// Connection, CONNACK and SUBACK must be there within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Keep-alives without a word from the broker, or without an acknowledgement while publishes wait for one, after which the client is
/// given up.
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
        beat.troubles.add(Trouble::LinkLost);
        failures = failures_after(failures, since.elapsed());
        // Without randomness the whole fleet would come back at once; a failing generator is no reason to stay away.
        let wait = backoff(failures, getrandom::u32().map_or(0.5, |r| f64::from(r) / f64::from(u32::MAX)));
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
    // Publishes that the broker has not acknowledged, and when it last did or the first of them left.
    let (mut unacknowledged, mut moved) = (0u32, Instant::now());
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
                Event::Incoming(packet) => {
                    heard = Instant::now();
                    if matches!(packet, Packet::PubAck(_)) {
                        (unacknowledged, moved) = (unacknowledged.saturating_sub(1), heard);
                    }
                }
                Event::Outgoing(_) => {}
            },
            publish = publishes.recv(), if waiting.is_none() => match publish {
                // Larger ones would make the broker close the connection, again and again.
                Some(p) if p.payload.len() > config.payload_bytes_max as usize => {
                    tracing::warn!(topic = p.topic, bytes = p.payload.len(), "a message is larger than the broker takes; dropped");
                }
                Some(p) => waiting = Some(p),
                None => {
                    farewell(&client, &mut broker).await;
                    return Ok(());
                }
            },
            _ = tick.tick() => {}
            () = tokio::time::sleep_until(heard + silence) => {
                return Err(format!("the broker said nothing for {} s", silence.as_secs()));
            }
            () = tokio::time::sleep_until(moved + silence), if unacknowledged > 0 => {
                return Err(format!("the broker acknowledged nothing for {} s", silence.as_secs()));
            }
        }
        if let Some(p) = waiting.take() {
            let counts = p.qos > 0;
            waiting = try_publish(&client, p);
            if counts && waiting.is_none() {
                if unacknowledged == 0 {
                    moved = Instant::now();
                }
                unacknowledged += 1;
            }
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
    authenticate(&mut options, config.username.as_deref(), config.password.as_ref(), config.tls.as_ref());
    let will = LastWill::new(&config.will.topic, config.will.payload.to_vec(), QoS::AtLeastOnce, true, None);
    options.set_last_will(will);
    options
}

/// Says who one is, and speaks TLS, where the broker wants it.
pub(super) fn authenticate(
    options: &mut MqttOptions,
    username: Option<&str>,
    password: Option<&Secret>,
    tls: Option<&Tls>,
) {
    if let Some(username) = username {
        options.set_credentials(username, password.map_or("", |p| p.0.as_str()));
    }
    if let Some(Tls(tls)) = tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
    }
}

/// Failures in a row, after one more connection that lasted so long.
fn failures_after(before: u32, lasted: Duration) -> u32 {
    if lasted >= HEALTHY { 0 } else { before.saturating_add(1) }
}

/// Full jitter: a uniform `share` of a wait that doubles with each failure.
fn backoff(failures: u32, share: f64) -> Duration {
    let ceiling = BACKOFF_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(BACKOFF_MAX);
    ceiling.mul_f64(share).max(BACKOFF_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_ten_minutes_and_are_spread_evenly() {
        let ceilings: Vec<u64> = (0..13).map(|failures| backoff(failures, 1.0).as_millis() as u64).collect();
        assert_eq!(ceilings[..4], [500, 500, 1_000, 2_000]);
        assert_eq!(ceilings[11..], [512_000, 600_000]);
        assert_eq!(backoff(u32::MAX, 1.0), BACKOFF_MAX);
        assert_eq!(backoff(u32::MAX, 0.25), BACKOFF_MAX / 4);
        assert_eq!(backoff(1, 0.0), BACKOFF_MIN);
    }

    #[test]
    fn five_healthy_minutes_begin_the_waits_again() {
        assert_eq!(failures_after(7, Duration::from_secs(299)), 8);
        assert_eq!(failures_after(7, Duration::from_secs(300)), 0);
        assert_eq!(failures_after(u32::MAX, Duration::ZERO), u32::MAX);
    }

    fn config(port: u16) -> LinkConfig {
        LinkConfig {
            host: "127.0.0.1".into(),
            port,
            client_id: "device".into(),
            username: None,
            password: None,
            tls: None,
            keep_alive_s: 5,
            payload_bytes_max: 1_000,
            will: Will { topic: "w".into(), payload: Bytes::new() },
            subscribe: vec!["c".into()],
        }
    }

    /// A broker that lets anybody in and answers pings, and acknowledges nothing.
    async fn polite(mut stream: tokio::net::TcpStream) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        loop {
            let Ok(kind) = stream.read_u8().await else { return };
            let (mut length, mut shift) = (0usize, 0);
            loop {
                let byte = stream.read_u8().await.expect("a length");
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.expect("a packet");
            let answer: &[u8] = match kind >> 4 {
                1 => &[0x20, 3, 0, 0, 0],
                8 => &[0x90, 4, body[0], body[1], 0, 1],
                12 => &[0xd0, 0],
                _ => &[],
            };
            stream.write_all(answer).await.expect("taken");
        }
    }

    #[tokio::test]
    async fn a_broker_that_answers_pings_and_acknowledges_nothing_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(polite(stream));
            }
        });
        let ((publish, publishes), (events_tx, mut events)) = (mpsc::channel(4), mpsc::channel(16));
        let counters = Arc::<Counters>::default();
        let task = tokio::spawn(run(1, move |_| config(port), publishes, events_tx, counters.clone()));
        assert_eq!(events.recv().await, Some(LinkEvent::Up { connection: 1 }));
        let payload = Bytes::from_static(b"x");
        publish.send(LinkPublish { topic: "t".into(), payload, qos: 1, retain: false }).await.expect("room");
        let Some(LinkEvent::Down { reason }) = events.recv().await else { panic!("must be given up") };
        assert_eq!(reason, "the broker acknowledged nothing for 15 s");
        assert_eq!(counters.troubles.counted()["connections_lost"], 1);
        // With another client it tries again.
        assert_eq!(events.recv().await, Some(LinkEvent::Up { connection: 2 }));
        drop((publish, events));
        let _ = task.await;
    }
}
