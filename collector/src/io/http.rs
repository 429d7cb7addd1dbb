//! The HTTP API of docs/api.md and the dashboard, on axum.
//!
//! Handlers ask the driver and render its answer; they decide nothing. A browser page of another site can neither read nor act: the Host
//! must be one of ours (DNS rebinding), a foreign Origin is refused on everything that changes something and on the socket, and changes
//! want a content type that no plain form can send. Leaves out roles, sessions and TLS.

use super::driver::Ask;
use super::live::{self, Hub};
use crate::collector::{Command, EvidenceWanted, LabelsRequest, Refused, RolloutRequest, Topic};
use crate::detect::plan::{Assumed, devices};
use crate::explain::Lang;
use crate::view;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Largest packed bundle.
pub const BUNDLE_BYTES_MAX: usize = 64 << 20;
/// Largest body of labels.
const LABELS_BYTES_MAX: usize = 4 << 20;
/// Largest other body.
const BODY_BYTES_MAX: usize = 64 << 10;
const CSP: &str = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'";
const SUBPROTOCOL: &str = "driftline.v1";

#[derive(rust_embed::Embed)]
#[folder = "dashboard/dist/"]
struct Dashboard;

/// What every handler needs.
#[derive(Clone)]
pub struct Api {
    /// The driver.
    pub asks: mpsc::Sender<Ask>,
    /// Live clients.
    pub hub: Arc<Hub>,
    /// Where this listens.
    pub listen: SocketAddr,
    /// What clients must show, when they are not on this machine.
    pub token: Option<Arc<str>>,
    /// Serve the dashboard from here instead.
    pub ui_dir: Option<PathBuf>,
    /// For the time in `hello`.
    pub clock: super::driver::Clock,
}

/// All routes.
pub fn router(api: Api) -> Router {
    let views = Router::new()
        .route("/overview", get(|api, query| show(api, query, Topic::Overview)))
        .route("/incidents", get(|api, query| show(api, query, Topic::Incidents)))
        .route("/incidents/{id}", get(|api, query, Path(id): Path<String>| named(api, query, format!("incident:{id}"))))
        .route("/rollouts", get(|api, query| show(api, query, Topic::Rollouts)).post(create))
        .route("/rollouts/{id}", get(|api, query, Path(id): Path<String>| named(api, query, format!("rollout:{id}"))))
        .route("/evidence", get(|api, query| show(api, query, Topic::EvidenceList)).post(ask_for_evidence))
        .route("/evidence/{id}", get(|api, query, Path(id): Path<String>| named(api, query, format!("evidence:{id}"))))
        .route("/models", get(|api, query| show(api, query, Topic::Models)))
        .route("/devices", get(|api, query| show(api, query, Topic::Devices)))
        .route("/performance", get(performance))
        .route("/plan", get(visible_shifts))
        .route("/health", get(health))
        .route("/live", get(socket));
    let actions = Router::new()
        .route("/rollouts/plan", post(plan))
        .route("/rollouts/{id}/pause", post(|api, Path(id): Path<String>| numbered(api, id, "", Command::Pause)))
        .route("/rollouts/{id}/resume", post(|api, Path(id): Path<String>| numbered(api, id, "", Command::Resume)))
        .route("/rollouts/{id}/abort", post(|api, Path(id): Path<String>| numbered(api, id, "", Command::Abort)))
        .route(
            "/incidents/{id}/acknowledge",
            post(|api, Path(id): Path<String>| numbered(api, id, "INC-", Command::Acknowledge)),
        );
    let labels = Router::new().route("/labels", post(add_labels)).layer(DefaultBodyLimit::max(LABELS_BYTES_MAX));
    let models = Router::new().route("/models", post(add_model)).layer(DefaultBodyLimit::max(BUNDLE_BYTES_MAX));
    let routes = Router::new()
        .nest("/api/v1", views.merge(actions).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).merge(models).merge(labels))
        .route("/metrics", get(metrics))
        .fallback(dashboard)
        .layer(middleware::from_fn_with_state(api.clone(), guard));
    routes.with_state(api)
}

/// An error in the shape of docs/api.md.
fn error(status: StatusCode, code: &str, message: &str, hint: &str) -> Response {
    let body = json!({ "error": { "code": code, "message": message, "hint": hint } });
    (status, axum::Json(body)).into_response()
}

fn refused(why: Refused) -> Response {
    let status = match why.code {
        "not_found" => StatusCode::NOT_FOUND,
        "conflict" => StatusCode::CONFLICT,
        _ => StatusCode::BAD_REQUEST,
    };
    error(status, why.code, &why.message, &why.hint)
}

fn unavailable() -> Response {
    let message = "The collector cannot store anything at the moment; nothing was changed.";
    error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message, "look at its log: the disk may be full")
}

/// Who may ask, and the headers of every answer.
async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let mut response = match check(&api, &request) {
        Ok(()) => next.run(request).await,
        Err(response) => response,
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[expect(clippy::result_large_err, reason = "the error is the answer, and is sent at once")]
fn check(api: &Api, request: &Request) -> Result<(), Response> {
    let headers = request.headers();
    let forbidden =
        |message: &str| error(StatusCode::FORBIDDEN, "forbidden", message, "open the address that driftline printed");
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    if api.listen.ip().is_loopback() && !is_local(host) {
        return Err(forbidden("This server answers only under its own address."));
    }
    let live = request.uri().path() == "/api/v1/live";
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes || live {
        let origin = headers.get(header::ORIGIN).map(|o| o.to_str().unwrap_or("?"));
        let own = |origin: &str| origin.split_once("://").is_some_and(|(_, rest)| rest == host);
        if origin.is_some_and(|origin| !own(origin)) {
            return Err(forbidden("A page of another site may not do this."));
        }
    }
    if changes {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|c| c.to_str().ok()).unwrap_or_default();
        let wanted =
            if request.uri().path() == "/api/v1/models" { "application/octet-stream" } else { "application/json" };
        if !kind.starts_with(wanted) {
            let message = format!("This wants Content-Type {wanted}.");
            return Err(error(StatusCode::BAD_REQUEST, "bad_request", &message, ""));
        }
    }
    // The socket shows its token in its first frame: a browser cannot set headers there.
    let api_path = request.uri().path().starts_with("/api/") || request.uri().path() == "/metrics";
    if let Some(token) = api.token.as_ref().filter(|_| api_path && !live) {
        let shown =
            headers.get(header::AUTHORIZATION).and_then(|a| a.to_str().ok()).and_then(|a| a.strip_prefix("Bearer "));
        if !shown.is_some_and(|shown| live::same(shown, token)) {
            let hint = "give the token with --token-file";
            return Err(error(StatusCode::UNAUTHORIZED, "forbidden", "This needs the server's token.", hint));
        }
    }
    Ok(())
}

/// Whether a Host header names this machine.
fn is_local(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[derive(Debug, Deserialize)]
struct Options {
    #[serde(default)]
    lang: String,
}

async fn show(State(api): State<Api>, Query(options): Query<Options>, topic: Topic) -> Response {
    let (reply, answer) = oneshot::channel();
    if api.asks.send(Ask::View(topic.clone(), Lang::parse(&options.lang), reply)).await.is_err() {
        return unavailable();
    }
    match answer.await {
        Ok(text) if &*text == "null" => missing(&view::topic_name(&topic)),
        Ok(text) => {
            ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], text.to_string())
                .into_response()
        }
        Err(_) => unavailable(),
    }
}

async fn named(api: State<Api>, options: Query<Options>, name: String) -> Response {
    match view::parse_topic(&name) {
        Some(topic) => show(api, options, topic).await,
        None => missing(&name),
    }
}

#[derive(Debug, Deserialize)]
struct Model {
    #[serde(default)]
    model: String,
}

async fn performance(api: State<Api>, options: Query<Options>, model: Query<Model>) -> Response {
    of_model(api, options, model, "performance", Assumed::default()).await
}

/// Taken as text, so that a wrong one is answered in the API's own form.
#[derive(Debug, Deserialize)]
struct AssumedText {
    devices: Option<String>,
    false_alarms_per_month: Option<String>,
}

impl AssumedText {
    fn read(&self) -> Result<Assumed, String> {
        let named = |name: &'static str| move |why: String| format!("{name} does not fit: {why}.");
        let devices = self.devices.as_deref().map(devices).transpose().map_err(named("devices"))?;
        let tolerated = self.false_alarms_per_month.as_deref().map(str::parse).transpose();
        Ok(Assumed { devices, tolerated: tolerated.map_err(named("false_alarms_per_month"))? })
    }
}

async fn visible_shifts(
    api: State<Api>,
    options: Query<Options>,
    model: Query<Model>,
    Query(assumed): Query<AssumedText>,
) -> Response {
    match assumed.read() {
        Ok(assumed) => of_model(api, options, model, "plan", assumed).await,
        Err(message) => {
            let hint = "GET /api/v1/plan?model=pump&devices=40&false_alarms_per_month=0.5";
            error(StatusCode::BAD_REQUEST, "bad_request", &message, hint)
        }
    }
}

async fn of_model(
    api: State<Api>,
    options: Query<Options>,
    Query(Model { model }): Query<Model>,
    what: &str,
    assumed: Assumed,
) -> Response {
    if model.is_empty() {
        let message = "This wants the name of a model.";
        return error(StatusCode::BAD_REQUEST, "bad_request", message, &format!("GET /api/v1/{what}?model=pump"));
    }
    match view::parse_topic(&format!("{what}:{model}")) {
        Some(Topic::Plan(model, _)) => show(api, options, Topic::Plan(model, assumed)).await,
        Some(topic) => show(api, options, topic).await,
        None => missing(&format!("model:{model}")),
    }
}

async fn ask_for_evidence(State(api): State<Api>, body: Bytes) -> Response {
    match serde_json::from_slice::<EvidenceWanted>(&body) {
        Ok(wanted) => command(&api, Command::Evidence(Box::new(wanted)), StatusCode::ACCEPTED).await,
        Err(e) => {
            let message = format!("This is no request for samples: {e}.");
            error(StatusCode::BAD_REQUEST, "bad_request", &message, "docs/api.md shows the fields")
        }
    }
}

async fn add_labels(State(api): State<Api>, body: Bytes) -> Response {
    match serde_json::from_slice::<LabelsRequest>(&body) {
        Ok(labels) => command(&api, Command::AddLabels(Box::new(labels)), StatusCode::ACCEPTED).await,
        Err(e) => {
            let message = format!("These are no labels: {e}.");
            error(StatusCode::BAD_REQUEST, "bad_request", &message, "docs/api.md shows the fields")
        }
    }
}

fn missing(name: &str) -> Response {
    let (kind, id) = name.split_once(':').unwrap_or((name, ""));
    let kind = if matches!(kind, "performance" | "plan") { "model" } else { kind };
    error(StatusCode::NOT_FOUND, "not_found", &format!("There is no {kind} {id}."), &format!("driftline {kind}s list"))
}

async fn command(api: &Api, command: Command, success: StatusCode) -> Response {
    let (reply, answer) = oneshot::channel();
    if api.asks.send(Ask::Command(command, reply)).await.is_err() {
        return unavailable();
    }
    match answer.await {
        Ok(Ok(value)) => (success, axum::Json(value)).into_response(),
        Ok(Err(why)) => refused(why),
        Err(_) => unavailable(),
    }
}

#[expect(clippy::result_large_err, reason = "the error is the answer, and is sent at once")]
fn request(body: &Bytes) -> Result<Box<RolloutRequest>, Response> {
    serde_json::from_slice(body).map(Box::new).map_err(|e| {
        let message = format!("This is no rollout request: {e}.");
        error(StatusCode::BAD_REQUEST, "bad_request", &message, "docs/api.md shows the fields")
    })
}

async fn plan(State(api): State<Api>, body: Bytes) -> Response {
    match request(&body) {
        Ok(request) => command(&api, Command::Plan(request), StatusCode::OK).await,
        Err(response) => response,
    }
}

async fn create(State(api): State<Api>, body: Bytes) -> Response {
    match request(&body) {
        Ok(request) => command(&api, Command::Create(request), StatusCode::CREATED).await,
        Err(response) => response,
    }
}

async fn add_model(State(api): State<Api>, body: Bytes) -> Response {
    command(&api, Command::AddRelease(body.to_vec()), StatusCode::CREATED).await
}

async fn numbered(State(api): State<Api>, id: String, prefix: &str, make: fn(u64) -> Command) -> Response {
    match id.strip_prefix(prefix).and_then(|n| n.parse().ok()) {
        Some(n) => command(&api, make(n), StatusCode::OK).await,
        None => error(StatusCode::NOT_FOUND, "not_found", &format!("There is no {id}."), ""),
    }
}

async fn health(State(api): State<Api>) -> Response {
    let (reply, answer) = oneshot::channel::<Value>();
    if api.asks.send(Ask::Health(reply)).await.is_err() {
        return unavailable();
    }
    answer.await.map_or_else(|_| unavailable(), |value| axum::Json(value).into_response())
}

async fn metrics(State(api): State<Api>) -> Response {
    let (reply, answer) = oneshot::channel();
    if api.asks.send(Ask::Metrics(reply)).await.is_err() {
        return unavailable();
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    answer.await.map_or_else(|_| unavailable(), |text| (kind, text).into_response())
}

async fn socket(State(api): State<Api>, upgrade: WebSocketUpgrade) -> Response {
    let Some(seat) = api.hub.seat() else {
        let message = format!("{} live clients are connected, which is the most.", live::CLIENTS_MAX);
        return error(StatusCode::TOO_MANY_REQUESTS, "busy", &message, "close a dashboard");
    };
    let now = api.clock.now().wall.0;
    upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(live::CLIENT_FRAME_BYTES_MAX)
        .max_frame_size(live::CLIENT_FRAME_BYTES_MAX)
        .on_upgrade(move |socket| live::serve(socket, seat, api.asks, api.token, now))
}

/// A file of the dashboard. Unhashed names, so the ETag decides.
async fn dashboard(State(api): State<Api>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return error(
            StatusCode::NOT_FOUND,
            "not_found",
            "There is nothing here to change.",
            "docs/api.md lists the routes",
        );
    }
    let path = request.uri().path().trim_start_matches('/');
    let path = if path.is_empty() { "index.html" } else { path };
    let content = match &api.ui_dir {
        // Only plain names below the folder.
        Some(dir) if path.split('/').all(|part| !part.is_empty() && !part.starts_with('.')) => {
            tokio::fs::read(dir.join(path)).await.ok().map(|bytes| (bytes, String::new()))
        }
        Some(_) => None,
        None => Dashboard::get(path).map(|file| (file.data.into_owned(), hex(&file.metadata.sha256_hash()))),
    };
    let Some((bytes, etag)) = content else {
        return error(StatusCode::NOT_FOUND, "not_found", &format!("There is no page /{path}."), "open / instead");
    };
    answer(request.headers(), path, bytes, &etag)
}

fn answer(asked: &HeaderMap, path: &str, bytes: Vec<u8>, etag: &str) -> Response {
    let kind = match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" => "application/json",
        _ => "application/octet-stream",
    };
    let etag = format!("\"{etag}\"");
    if etag.len() > 2 && asked.get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == etag.as_bytes()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache"), (header::ETAG, etag.as_str())];
    (headers, Body::from(bytes)).into_response()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|b| format!("{b:02x}")).collect()
}
