//! What the collector and an MQTT broker exchange, whichever broker it is.

use bytes::Bytes;
use tokio::sync::oneshot;

/// Messages waiting for the collector's state machine.
pub const INCOMING_MAX: usize = 1024;
/// Messages waiting to be published.
pub const OUTGOING_MAX: usize = 4096;

/// One message for the collector.
#[derive(Debug)]
pub struct Incoming {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// The sender's client id, when the broker is ours and has checked it.
    pub client: Option<String>,
    /// Answered once the message is stored or refused for good: only then may the broker acknowledge it. Dropped unanswered when
    /// it could not be stored.
    pub done: oneshot::Sender<()>,
}

/// One message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// 0 or 1.
    pub qos: u8,
    /// Kept by the broker for later subscribers.
    pub retain: bool,
}
