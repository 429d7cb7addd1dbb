//! The embedded MQTT broker: mqtt5 with topic rights per device, a hook that stores before it acknowledges, and tight limits.
//!
//! A device may publish on its own topics and read its own commands, labels and the host's state; nothing else, its last will included. A
//! client whose id begins with [`LABELLER`] is a tool of the operator: it may publish labels for any device, and nothing else. The
//! hook hands each message to the collector and waits for the commit before mqtt5 sends PUBACK. With certificates it speaks TLS
//! ([`super::tls`]) and, given an authority, lets in only devices with a certificate of it that names them. Leaves out passwords: without
//! certificates it belongs on loopback, where it binds by default.

use super::tls::{Front, Guests};
use super::transport::{Incoming, Outgoing};
use super::turned_away::TurnedAway;
use crate::config::BrokerTls;
use bytes::Bytes;
use driftline_shared::units::Name;
use driftline_shared::wire::FRAME_BYTES_MAX;
use driftline_shared::wire::topic::{DeviceTopic, HostTopic, Leaf};
use mqtt5::QoS;
use mqtt5::broker::config::StorageConfig;
use mqtt5::broker::{
    AuthProvider, AuthResult, BrokerConfig, BrokerEventHandler, ClientConnectEvent, ClientDisconnectEvent,
    ClientPublishEvent, MqttBroker, PublishAction, StorageBackendType,
};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::packet::publish::PublishPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use std::collections::HashMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// Connected clients.
pub const CLIENTS_MAX: usize = 20_000;
/// Retained messages: a birth and a death per device, and the host.
const RETAINED_MAX: usize = 2 * CLIENTS_MAX + 1;
/// Largest retained message.
const RETAINED_BYTES_MAX: usize = 4096;
/// First characters of the ids of clients that tell devices what their samples were.
pub const LABELLER: &str = "labels.";
/// Subscriptions of one client: its commands, its labels and the host.
const SUBSCRIPTIONS_MAX: usize = 4;
/// Room for topic and properties beside the largest frame.
const PACKET_OVERHEAD: usize = 1024;
/// Messages kept for a client that is away: none are needed, devices ask again.
const QUEUED_MAX: usize = 64;
/// Bytes kept for such a client.
const QUEUED_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How the broker listens.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to bind; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Certificates, for TLS.
    pub tls: Option<BrokerTls>,
    /// The fleet whose topics there are.
    pub fleet: Name,
    /// Where clients are counted that are not let in.
    pub turned_away: TurnedAway,
}

/// Why the broker does not run.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address cannot be bound.
    #[error(
        "the MQTT broker cannot listen on {listen} ({reason}); is another broker running there? choose another address under [mqtt]"
    )]
    Bind {
        /// Which address.
        listen: SocketAddr,
        /// What the system says.
        reason: String,
    },
    /// Its certificates cannot be used.
    #[error("{0}")]
    Tls(String),
    /// It stopped.
    #[error("the MQTT broker stopped: {0}")]
    Stopped(String),
}

/// Runs the broker until `shutdown` completes. The bound address is told once it listens.
pub async fn run(
    config: Config,
    incoming: mpsc::Sender<Incoming>,
    mut outgoing: mpsc::Receiver<Outgoing>,
    bound: oneshot::Sender<SocketAddr>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), BrokerError> {
    let wills = Mutex::new(HashMap::new());
    let hook = Arc::new(Hook { incoming, wills });
    let guests = config.tls.is_some().then(Guests::default);
    let host = HostTopic(&config.fleet).to_string();
    let rights = Arc::new(Rights {
        host,
        fleet: config.fleet.clone(),
        guests: guests.clone(),
        turned_away: config.turned_away.clone(),
    });
    let bind = |reason: String| BrokerError::Bind { listen: config.listen, reason };
    let at = if guests.is_some() { SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) } else { config.listen };
    let broker = MqttBroker::with_config(limits(at, hook)).await.map_err(|e| bind(e.to_string()))?;
    let mut broker = broker.with_auth_provider(rights);
    let router = broker.router();
    let stop = broker.shutdown_handle();
    let mut address = broker.local_addr().unwrap_or(at);
    let mut front = tokio::task::JoinSet::new();
    if let (Some(files), Some(guests)) = (config.tls, guests) {
        let listener = TcpListener::bind(config.listen).await.map_err(|e| bind(e.to_string()))?;
        let inner = std::mem::replace(&mut address, listener.local_addr().unwrap_or(config.listen));
        let front_door = Front::new(listener, files, inner, guests, config.turned_away, CLIENTS_MAX);
        front.spawn(front_door.map_err(BrokerError::Tls)?.run());
    }
    let mut running = tokio::spawn(async move { broker.run().await });
    let _ = bound.send(address);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            message = outgoing.recv() => match message {
                Some(message) => {
                    let qos = if message.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
                    let mut publish = PublishPacket::new(message.topic, message.payload, qos);
                    publish.retain = message.retain;
                    router.route_message(&publish, None).await;
                }
                None => break,
            },
            ended = &mut running => {
                let why = match ended {
                    Ok(Ok(())) => "it was told to".to_owned(),
                    Ok(Err(e)) => e.to_string(),
                    Err(e) => e.to_string(),
                };
                return Err(BrokerError::Stopped(why));
            }
            () = &mut shutdown => break,
        }
    }
    stop.shutdown();
    // What it still has to say takes a moment at most; the collector's data is stored already.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), running).await;
    Ok(())
}

/// mqtt5 with every default that is wide open made narrow.
fn limits(at: SocketAddr, hook: Arc<Hook>) -> BrokerConfig {
    let storage = StorageConfig::new()
        .with_backend(StorageBackendType::Memory)
        .with_persistence(false)
        .with_max_queued_messages_per_client(QUEUED_MAX)
        .with_max_queued_bytes_per_client(QUEUED_BYTES_MAX);
    let mut config = BrokerConfig::new()
        .with_bind_addresses(vec![at])
        .with_max_clients(CLIENTS_MAX)
        .with_max_packet_size(FRAME_BYTES_MAX + PACKET_OVERHEAD)
        .with_maximum_qos(1)
        .with_max_subscriptions_per_client(SUBSCRIPTIONS_MAX)
        .with_max_retained_messages(RETAINED_MAX)
        .with_max_retained_message_size(RETAINED_BYTES_MAX)
        .with_sys_topics_enabled(false)
        .with_session_expiry(std::time::Duration::from_secs(3600))
        .with_storage(storage)
        .with_event_handler(hook);
    config.wildcard_subscription_available = false;
    config.shared_subscription_available = false;
    config
}

/// Who may do what. The client id is the device's name.
struct Rights {
    fleet: Name,
    host: String,
    /// Who is who, where TLS says it.
    guests: Option<Guests>,
    turned_away: TurnedAway,
}

impl Rights {
    fn own(&self, client: &str, topic: &str) -> Option<Leaf> {
        let topic = DeviceTopic::parse(topic)?;
        (topic.fleet == self.fleet && topic.device.as_str() == client).then_some(topic.leaf)
    }

    fn may_publish(&self, client: &str, topic: &str) -> bool {
        if client.starts_with(LABELLER) {
            let topic = DeviceTopic::parse(topic);
            return topic.is_some_and(|topic| topic.fleet == self.fleet && topic.leaf == Leaf::Labels);
        }
        self.own(client, topic).is_some_and(Leaf::is_from_device)
    }

    fn may_subscribe(&self, client: &str, filter: &str) -> bool {
        let own = |leaf: Leaf| matches!(leaf, Leaf::Commands | Leaf::Labels) && !client.starts_with(LABELLER);
        filter == self.host || self.own(client, filter).is_some_and(own)
    }
}

impl AuthProvider for Rights {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        from: SocketAddr,
    ) -> Later<'a, mqtt5::Result<AuthResult>> {
        let will_allowed = connect.will.as_ref().is_none_or(|will| self.may_publish(&connect.client_id, &will.topic));
        // A name that is none is not repeated: it may be anything.
        let (refused, client) = if Name::new(&connect.client_id).is_err() {
            let why = "the client id is a device name: A-Z a-z 0-9 . _ -";
            // Behind TLS it comes from here.
            let client = if self.guests.is_some() { "a client".into() } else { format!("a client at {from}") };
            (Some((ReasonCode::ClientIdentifierNotValid, why)), client)
        } else if let Some(Err(why)) = self.guests.as_ref().map(|guests| guests.allow(from, &connect.client_id)) {
            (Some((ReasonCode::NotAuthorized, why)), format!("a client that calls itself {}", connect.client_id))
        } else if !will_allowed {
            let why = "a device's last will goes to its own topics";
            (Some((ReasonCode::NotAuthorized, why)), connect.client_id.clone())
        } else {
            (None, String::new())
        };
        let result = match refused {
            Some((code, why)) => {
                self.turned_away.add(&client, &why);
                AuthResult::fail_with_reason(code, why)
            }
            None => AuthResult::success(),
        };
        Box::pin(async move { Ok(result) })
    }

    fn authorize_publish<'a>(&'a self, client: &str, _: Option<&'a str>, topic: &'a str) -> Later<'a, bool> {
        let may = self.may_publish(client, topic);
        Box::pin(async move { may })
    }

    fn authorize_subscribe<'a>(&'a self, client: &str, _: Option<&'a str>, filter: &'a str) -> Later<'a, bool> {
        let may = self.may_subscribe(client, filter);
        Box::pin(async move { may })
    }
}

/// Hands messages to the collector and waits for its commit.
struct Hook {
    incoming: mpsc::Sender<Incoming>,
    /// Last wills by client id: mqtt5 publishes them without asking the hook. Bounded by the number of clients.
    wills: Mutex<HashMap<String, (String, Bytes)>>,
}

impl Hook {
    /// Waits until the message is stored. When it cannot be, this never ends: the device gets no PUBACK and comes back.
    async fn store(&self, client: &str, topic: &str, payload: Bytes) {
        let (done, stored) = oneshot::channel();
        let message = Incoming { topic: topic.to_owned(), payload, client: Some(client.to_owned()), done };
        if self.incoming.send(message).await.is_err() || stored.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn wills(&self) -> std::sync::MutexGuard<'_, HashMap<String, (String, Bytes)>> {
        self.wills.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BrokerEventHandler for Hook {
    fn on_client_connect<'a>(&'a self, event: ClientConnectEvent) -> Later<'a, ()> {
        Box::pin(async move {
            let client = event.client_id.to_string();
            match (event.will_topic, event.will_payload) {
                (Some(topic), Some(payload)) => self.wills().insert(client, (topic.to_string(), payload)),
                _ => self.wills().remove(&client),
            };
        })
    }

    fn on_client_publish<'a>(&'a self, event: ClientPublishEvent) -> Later<'a, PublishAction> {
        Box::pin(async move {
            if DeviceTopic::parse(&event.topic).is_some_and(|topic| topic.leaf == Leaf::Labels) {
                // From a tool straight to the device; kept for later it would only be told again at every connect.
                return if event.retain { PublishAction::Handled } else { PublishAction::Continue };
            }
            self.store(&event.client_id, &event.topic, event.payload).await;
            // Births and deaths stay visible to whoever looks with an MQTT client; the rest goes no further.
            if event.retain { PublishAction::Continue } else { PublishAction::Handled }
        })
    }

    fn on_client_disconnect<'a>(&'a self, event: ClientDisconnectEvent) -> Later<'a, ()> {
        Box::pin(async move {
            let client = event.client_id.to_string();
            if event.unexpected {
                let will = self.wills().get(&client).cloned();
                if let Some((topic, payload)) = will {
                    let (done, _) = oneshot::channel();
                    let message = Incoming { topic, payload, client: Some(client), done };
                    let _ = self.incoming.send(message).await;
                }
            }
        })
    }
}
