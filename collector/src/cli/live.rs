//! Follows the live channel of docs/api.md.

use super::client::{Client, Failure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// A connection to the live channel.
pub struct Live(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Live {
    /// Connects and subscribes.
    pub async fn open(client: &Client, topics: &[&str]) -> anyhow::Result<Self> {
        let address = format!("{}/api/v1/live", client.url.replacen("http", "ws", 1));
        let mut request = address.into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("driftline.v1"));
        let connected = tokio_tungstenite::connect_async(request).await;
        let (socket, _) = connected.map_err(|e| {
            let message = format!("no collector answers at {} ({e})", client.url);
            Failure::new(7, "unreachable", message, "driftline serve, or give the collector's address with --url")
        })?;
        let mut live = Self(socket);
        if let Some(token) = &client.token {
            live.send(json!({ "t": "auth", "token": token })).await?;
        }
        live.subscribe(topics, &client.lang).await?;
        Ok(live)
    }

    /// Replaces the subscription.
    pub async fn subscribe(&mut self, topics: &[&str], lang: &str) -> anyhow::Result<()> {
        self.send(json!({ "t": "sub", "topics": topics, "lang": lang, "pace_ms": 250 })).await
    }

    async fn send(&mut self, message: Value) -> anyhow::Result<()> {
        Ok(self.0.send(Message::text(message.to_string())).await?)
    }

    /// The next frame of docs/api.md; `None` when the collector is gone.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            match self.0.next().await? {
                Ok(Message::Text(text)) => {
                    if let Ok(value) = serde_json::from_str(&text) {
                        return Some(value);
                    }
                }
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}
