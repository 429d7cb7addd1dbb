//! Samples from a topic of a broker on the device or nearby: each message is a JSON object, or a list of them; for a model of images it is
//! an image.
//!
//! A message that finds the model too far behind is dropped and counted as late: a broker that had to wait would end the connection. The connection is made again for as long as the agent runs.

use super::report::{Trouble, Troubles};
use super::source::{Fed, log_malformed};
use super::{images, link, mqtt};
use crate::config::Broker;
use crate::source::{Chunk, Known, RowError, Wanted, members};
use driftline_shared::manifest::Sampled;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::sync::mpsc;

/// Largest message that is read; one of images may be as large as a file.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Largest packet that the broker may send, beside what is read.
const BESIDE_BYTES_MAX: usize = 8 << 20;
/// Most samples of a message.
const MESSAGE_SAMPLES_MAX: usize = 1024;
/// Messages that wait for the model; images are large.
const MESSAGES_MAX: usize = 64;
const IMAGES_MAX: usize = 4;
/// Pause before the connection is tried again.
const RECONNECT: Duration = Duration::from_secs(2);

/// How many messages wait for the model.
pub(super) fn waiting(wanted: &Wanted) -> usize {
    if image_of(wanted).is_some() { IMAGES_MAX } else { MESSAGES_MAX }
}

fn image_of(wanted: &Wanted) -> Option<&Sampled> {
    wanted.sampled.as_ref().filter(|sampled| matches!(sampled, Sampled::Image { .. }))
}

/// Listens until `full` is closed.
pub(super) async fn listen(topic: &str, at: &Broker, wanted: &Wanted, full: &mpsc::Sender<Fed>, troubles: &Troubles) {
    let Broker { host, port, .. } = at;
    let mut malformed = 0;
    let mut down = false;
    loop {
        // Two agents on one broker must not take each other's place.
        let client_id = format!("driftline-source-{:016x}", getrandom::u64().unwrap_or_default());
        let mut options = MqttOptions::new(client_id, host, *port);
        options.set_keep_alive(Duration::from_secs(30));
        let largest = if image_of(wanted).is_some() { images::FILE_BYTES_MAX as usize } else { MESSAGE_BYTES_MAX };
        // Larger ones the broker keeps to itself; one that does not is to be told, not to end the connection.
        options.set_max_packet_size(u32::try_from(largest + BESIDE_BYTES_MAX).ok());
        // Read anew for every connection: a new password or certificate needs no restart.
        let login = link::credentials(at);
        if let Ok((password, tls)) = &login {
            mqtt::authenticate(&mut options, at.username.as_deref(), password.as_ref(), tls.as_ref());
        }
        let (client, mut broker) = AsyncClient::new(options, 8);
        if client.subscribe(topic, QoS::AtLeastOnce).await.is_err() {
            return;
        }
        let why = loop {
            if let Err(error) = &login {
                break error.to_string();
            }
            let event = tokio::select! {
                event = broker.poll() => event,
                () = full.closed() => return,
            };
            match event {
                Ok(Event::Incoming(Packet::Publish(message))) if message.payload.len() > largest => {
                    troubles.add(Trouble::MessageTooLarge);
                    tracing::warn!(
                        "a message of {topic} has {} KiB and is not read: {} KiB are taken",
                        message.payload.len() >> 10,
                        largest >> 10
                    );
                    let lost = Chunk { malformed: 1, cuts: vec![0], ..Chunk::default() };
                    if full.send(Fed::Chunk(lost)).await.is_err() {
                        return;
                    }
                }
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    let chunk = match image_of(wanted).cloned() {
                        Some(image) => {
                            // Decoding takes a processor for a while.
                            let payload = message.payload;
                            let decoded = tokio::task::spawn_blocking(move || images::decode_or_raw(&payload, &image));
                            let pixels = decoded.await.unwrap_or_else(|_| Err("its decoder broke off".into()));
                            picture(pixels, topic, &mut malformed)
                        }
                        None => read(&message.payload, wanted, &mut malformed),
                    };
                    let rows = (chunk.rows.len() + chunk.malformed as usize) as u32;
                    if full.try_send(Fed::Chunk(chunk)).is_err() {
                        tracing::debug!("{rows} samples of {topic} are dropped: the model is behind");
                        let lost = Chunk { malformed: rows, late: rows, cuts: vec![0], ..Chunk::default() };
                        // Counted as soon as there is room: the count is small, and the broker is read on after it.
                        if full.send(Fed::Chunk(lost)).await.is_err() {
                            return;
                        }
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(ack))) => {
                    if !ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))) {
                        break format!("the broker refuses {topic}: {:?}", ack.return_codes);
                    }
                    tracing::info!("samples come from {topic} at {host}:{port}");
                    down = false;
                }
                Ok(_) => {}
                Err(error) => break error.to_string(),
            }
        };
        troubles.add(Trouble::SourceLost);
        if !std::mem::replace(&mut down, true) {
            tracing::warn!("no samples come from {host}:{port}: {why}; it is tried again");
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// The sample of a message that is an image.
fn picture(pixels: Result<Vec<f32>, String>, topic: &str, malformed: &mut u64) -> Chunk {
    match pixels {
        Ok(values) => Chunk { values, rows: vec![Known::default()], ..Chunk::default() },
        Err(reason) => {
            *malformed += 1;
            log_malformed(*malformed, *malformed, &RowError::Image { path: topic.into(), reason });
            Chunk { malformed: 1, ..Chunk::default() }
        }
    }
}

/// The samples of one message.
fn read(payload: &[u8], wanted: &Wanted, malformed: &mut u64) -> Chunk {
    let mut chunk = Chunk::default();
    let mut refuse = |chunk: &mut Chunk, error: &RowError| {
        chunk.malformed += 1;
        chunk.cuts.push(chunk.rows.len());
        *malformed += 1;
        log_malformed(*malformed, 1, error);
    };
    let samples: Vec<Map<String, Value>> = match payload.trim_ascii_start().first() {
        Some(b'[') => serde_json::from_slice(payload).unwrap_or_default(),
        _ => serde_json::from_slice(payload).map(|one| vec![one]).unwrap_or_default(),
    };
    if samples.is_empty() || samples.len() > MESSAGE_SAMPLES_MAX {
        refuse(&mut chunk, &RowError::NotAnObject);
        return chunk;
    }
    for sample in &samples {
        match members(sample, wanted, &mut chunk.values) {
            Ok(known) => chunk.rows.push(known),
            Err(error) => refuse(&mut chunk, &error),
        }
    }
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_hold_one_sample_or_several() {
        let wanted = Wanted {
            inputs: vec!["a".into(), "b".into()],
            label: None,
            classes: vec![],
            id: Some("n".into()),
            time: None,
            sampled: None,
        };
        let mut malformed = 0;
        let one = read(br#"{"a":1,"b":2,"n":"x"}"#, &wanted, &mut malformed);
        assert_eq!((one.values, one.rows.len(), one.malformed), (vec![1.0, 2.0], 1, 0));
        assert!(one.rows[0].id.is_some());
        let several = read(br#"[{"a":1},{"b":"x"},{"b":3}]"#, &wanted, &mut malformed);
        assert_eq!((several.rows.len(), several.malformed), (2, 1));
        for nonsense in [&b"[]"[..], b"nonsense", b"[1]", b""] {
            assert_eq!(read(nonsense, &wanted, &mut malformed).malformed, 1);
        }
        assert_eq!(malformed, 5);
    }
}
