//! Asks a collector over HTTP (docs/api.md).

use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer read.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Why a command did not succeed: the exit code of the process, the server's code, a sentence and what to try.
#[derive(Debug)]
pub struct Failure {
    pub exit: u8,
    pub code: String,
    pub message: String,
    pub hint: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    pub fn new(exit: u8, code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, code: code.into(), message: message.into(), hint: hint.into() }
    }
}

/// A collector's address and how to be let in.
pub struct Client {
    agent: ureq::Agent,
    pub url: String,
    pub token: Option<String>,
    pub lang: String,
}

impl Client {
    /// A client; reads the token's file.
    pub fn new(url: &str, token_file: Option<&Path>, lang: &str) -> anyhow::Result<Self> {
        let url = url.trim_end_matches('/').to_owned();
        if !url.starts_with("http://") {
            let hint = "--url http://127.0.0.1:8600; for a collector behind TLS, forward its port with ssh -L";
            return Err(Failure::new(2, "usage", format!("{url} is no http:// address"), hint).into());
        }
        let token = token_file.map(|path| {
            let text = std::fs::read_to_string(path)
                .map_err(|e| Failure::new(2, "usage", format!("{} cannot be read: {e}", path.display()), ""))?;
            Ok::<_, Failure>(text.lines().next().unwrap_or_default().trim().to_owned())
        });
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).build();
        Ok(Self { agent: config.into(), url, token: token.transpose()?, lang: lang.into() })
    }

    fn authorization(&self) -> String {
        self.token.as_ref().map_or(String::new(), |t| format!("Bearer {t}"))
    }

    /// A view.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        let and = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}/api/v1/{path}{and}lang={}", self.url, self.lang);
        self.answer(self.agent.get(url).header("Authorization", self.authorization()).call())
    }

    /// An action.
    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}/api/v1/{path}", self.url);
        self.answer(self.agent.post(url).header("Authorization", self.authorization()).send_json(body))
    }

    /// An action on bytes.
    pub fn post_bytes(&self, path: &str, body: &[u8]) -> anyhow::Result<Value> {
        let url = format!("{}/api/v1/{path}", self.url);
        let request = self.agent.post(url).header("Authorization", self.authorization());
        self.answer(request.header("Content-Type", "application/octet-stream").send(body))
    }

    fn answer(&self, result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> anyhow::Result<Value> {
        let mut response = result.map_err(|e| {
            let hint = "driftline serve, or give the collector's address with --url";
            Failure::new(7, "unreachable", format!("no collector answers at {} ({e})", self.url), hint)
        })?;
        let status = response.status().as_u16();
        let read = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_json::<Value>();
        let value = read.map_err(|e| {
            Failure::new(1, "error", format!("{} gave no JSON ({e})", self.url), "is it a driftline collector?")
        })?;
        if status < 400 {
            return Ok(value);
        }
        let error = &value["error"];
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        let exit = match status {
            401 | 403 => 4,
            404 => 5,
            409 => 6,
            _ => 1,
        };
        Err(Failure { exit, code: text("code"), message: text("message"), hint: text("hint") }.into())
    }
}
