//! The inference server that applications on the device ask: HTTP on a TCP port or a Unix socket. The protocol is [`crate::serving`].
//!
//! A request waits its turn behind at most [`REQUESTS_MAX`] others; the next one is refused at once, the client may try again. One that has waited past
//! its deadline is dropped unanswered by the model. Requests that do not fit the model are counted as samples that could not be read.

use super::connections::Limited;
use super::images;
use super::report::{Counters, Trouble};
use super::source::{Around, Fed};
use crate::config::Listen;
use crate::serving::{self, JSON_LENGTH, REQUEST_BYTES_MAX, Refused, Request, Served};
use crate::source::{Chunk, Known, SourceError};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use driftline_shared::units::hash;
use serde_json::{Value, json};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// Requests that wait for the model.
pub const REQUESTS_MAX: usize = 64;
/// A body up to this size is read at once.
const SMALL_BYTES: usize = 64_000;
/// Larger ones share so many kilobytes: two of the largest.
const BODIES_KB: usize = 2 * REQUEST_BYTES_MAX / 1000;
/// A body has to arrive within this time.
const BODY: Duration = Duration::from_secs(10);
/// How long a port that is in use is waited for.
const BIND: Duration = Duration::from_secs(2);
/// How long a client whose request was refused is asked to wait, in seconds.
const RETRY_AFTER_S: &str = "1";

/// Requests on their way to the inference thread.
#[derive(Debug)]
pub struct Asked {
    /// Its samples.
    pub chunk: Chunk,
    /// The release that it was read for.
    pub served: Arc<Served>,
    /// When it is too late for an answer.
    pub deadline: Instant,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Answer, Unanswered>>,
}

/// The answer to all samples of a request.
#[derive(Debug, Default)]
pub struct Answer {
    /// Scores, one sample after the other.
    pub scores: Vec<f32>,
    /// Why a sample's scores are not to be trusted, where that is so.
    pub guards: Vec<Option<String>>,
}

/// Why the model gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// No release.
    #[error("the agent has no model yet: roll one out to this device")]
    NoModel,
    /// It came too late.
    #[error("the request waited longer than its deadline: the device is too busy")]
    Late,
    /// The release changed between its samples.
    #[error("the model was replaced while it answered: ask again")]
    Changed,
    /// The model needs the reading that is missing.
    #[error("sample {0} has a missing reading, and the model gives no answer without it")]
    Missing(usize),
    /// The model failed.
    #[error("the model gave no finite answer to sample {0}")]
    Failed(usize),
}

/// Reads what is compressed.
type Inflate = for<'a> fn(&'a [u8]) -> Box<dyn Read + 'a>;

/// A body that is here whole, with its place in memory.
struct Arrived {
    bytes: Bytes,
    inflate: Option<Inflate>,
    place: Option<OwnedSemaphorePermit>,
}

impl Arrived {
    fn read(self, json_length: Option<usize>, served: &Served) -> Result<Request, Failure> {
        let parse =
            |body: &[u8]| serving::parse(body, json_length, served, images::decode).map_err(|why| refused(&why));
        let Some(inflate) = self.inflate else { return parse(&self.bytes) };
        let mut whole = Vec::new();
        let inflated = inflate(&self.bytes).take(REQUEST_BYTES_MAX as u64 + 1).read_to_end(&mut whole);
        inflated.map_err(|e| Failure(StatusCode::BAD_REQUEST, format!("the request cannot be decompressed ({e})")))?;
        if whole.len() > REQUEST_BYTES_MAX {
            return Err(too_large());
        }
        parse(&whole)
    }
}

#[derive(Clone)]
struct Server {
    served: watch::Receiver<Option<Arc<Served>>>,
    counters: Arc<Counters>,
    asked: mpsc::Sender<Fed>,
    deadline: Duration,
    token: Option<Arc<str>>,
    /// Kilobytes that large bodies may still take in memory.
    bodies: Arc<Semaphore>,
    /// One request at a time is decoded where samples are images: it may take much memory.
    decoding: Arc<Semaphore>,
}

/// Something went wrong; the protocol wants it as JSON.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.0, json_body(&json!({ "error": self.1 }))).into_response();
        if self.0 == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        response
    }
}

fn refused(why: &Refused) -> Failure {
    Failure(StatusCode::BAD_REQUEST, why.to_string())
}

fn busy(sentence: String) -> Failure {
    Failure(StatusCode::SERVICE_UNAVAILABLE, sentence)
}

fn too_large() -> Failure {
    let sentence = format!("the request is larger than {} MiB: ask in parts", REQUEST_BYTES_MAX >> 20);
    Failure(StatusCode::PAYLOAD_TOO_LARGE, sentence)
}

fn json_body(value: &Value) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string())
}

/// Serves until `asked` is closed. Fails when nothing can be listened on.
pub(super) async fn serve(
    listen: &Listen,
    deadline: Duration,
    token: Option<String>,
    around: Around,
    asked: mpsc::Sender<Fed>,
) -> Result<(), SourceError> {
    let gone = asked.clone();
    let gone = async move { gone.closed().await };
    let Around { served, counters, .. } = around;
    let (bodies, decoding) = (Arc::new(Semaphore::new(BODIES_KB)), Arc::new(Semaphore::new(1)));
    let server = Server { served, counters, asked, deadline, token: token.map(Into::into), bodies, decoding };
    let models = ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"];
    let mut router = Router::new()
        .route("/v2", get(async || json_body(&serving::server())))
        .route("/v2/health/live", get(async || StatusCode::OK))
        .route("/v2/health/ready", get(health));
    for model in models {
        router = router
            .route(model, get(describe))
            .route(&format!("{model}/ready"), get(ready))
            .route(&format!("{model}/infer"), post(infer));
    }
    let router = router
        .fallback(async || {
            Failure(StatusCode::NOT_FOUND, "there is nothing here: the inference API is below /v2".into())
        })
        .method_not_allowed_fallback(async || {
            Failure(StatusCode::METHOD_NOT_ALLOWED, "infer is asked with POST, everything else with GET".into())
        })
        .layer(axum::middleware::from_fn_with_state(server.clone(), allowed))
        .with_state(server);
    let failed = |source| SourceError::Listen { address: listen.to_string(), source };
    match listen {
        Listen::Tcp(address) => {
            let listener = bind(*address).await.map_err(failed)?;
            if let Ok(address) = listener.local_addr() {
                tracing::info!("applications can ask the model at http://{address}/v2");
            }
            axum::serve(Limited::new(listener), router).with_graceful_shutdown(gone).await.map_err(failed)
        }
        Listen::Unix(path) => {
            // A socket that an earlier start left behind; anything else there stays and is an error.
            if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
                let _ = std::fs::remove_file(path);
            }
            let listener = tokio::net::UnixListener::bind(path).map_err(failed)?;
            // Group members may ask, others may not.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
            tracing::info!("applications can ask the model at the socket {}", path.display());
            axum::serve(Limited::new(listener), router).with_graceful_shutdown(gone).await.map_err(failed)
        }
    }
}

/// An agent that has just begun anew may still hold the port for a moment.
async fn bind(address: std::net::SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let until = Instant::now() + BIND;
    loop {
        match tokio::net::TcpListener::bind(address).await {
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < until => {
                tokio::time::sleep(BIND / 10).await;
            }
            done => return done,
        }
    }
}

async fn allowed(
    State(server): State<Server>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Result<Response, Failure> {
    if let Some(token) = &server.token {
        let given = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let given = given.and_then(|v| v.strip_prefix("Bearer ")).unwrap_or_default();
        // Digests differ in length and place as little as it can be made out.
        if crate::bundle::sha256(given.as_bytes()) != crate::bundle::sha256(token.as_bytes()) {
            server.counters.troubles.add(Trouble::RequestDenied);
            return Err(Failure(StatusCode::UNAUTHORIZED, "send the token as Authorization: Bearer …".into()));
        }
    }
    Ok(next.run(request).await)
}

async fn health(State(server): State<Server>) -> StatusCode {
    if server.served.borrow().is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[derive(serde::Deserialize)]
struct Which {
    model: String,
    version: Option<String>,
}

impl Server {
    /// Waits for a body of limited size, for a limited time.
    async fn body(&self, headers: &HeaderMap, body: Body) -> Result<Arrived, Failure> {
        let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
        let inflate: Option<Inflate> = match text(header::CONTENT_ENCODING) {
            None | Some("identity") => None,
            Some("gzip") => Some(|bytes| Box::new(flate2::read::MultiGzDecoder::new(bytes))),
            Some("deflate") => Some(|bytes| Box::new(flate2::read::ZlibDecoder::new(bytes))),
            Some(_) => {
                let sentence = "the request is compressed in a way that is not read here: use gzip, deflate or none";
                return Err(Failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence.into()));
            }
        };
        // What is compressed, or does not say how long it is, may become as large as allowed.
        let length = text(header::CONTENT_LENGTH).and_then(|v| v.parse::<usize>().ok());
        let most = length.filter(|_| inflate.is_none()).unwrap_or(REQUEST_BYTES_MAX);
        if most > REQUEST_BYTES_MAX {
            return Err(too_large());
        }
        let place = (most > SMALL_BYTES).then(|| self.bodies.clone().try_acquire_many_owned((most / 1000) as u32));
        let place = place.transpose().map_err(|_| busy("other large requests are read: try again".into()))?;
        match tokio::time::timeout(BODY, to_bytes(body, most)).await {
            Ok(Ok(bytes)) => Ok(Arrived { bytes, inflate, place }),
            Ok(Err(_)) => Err(too_large()),
            Err(_) => {
                let sentence = format!("the request took longer than {} s to arrive", BODY.as_secs());
                Err(Failure(StatusCode::REQUEST_TIMEOUT, sentence))
            }
        }
    }

    /// Reads a request. What takes its time is read elsewhere: the link is not to wait for it.
    async fn read(&self, headers: &HeaderMap, body: Body, served: &Arc<Served>) -> Result<Request, Failure> {
        let arrived = self.body(headers, body).await?;
        let length = match headers.get(JSON_LENGTH).map(|v| v.to_str().ok().and_then(|v| v.parse::<usize>().ok())) {
            Some(None) => return Err(refused(&Refused::Form(format!("{JSON_LENGTH} is no number")))),
            length => length.flatten(),
        };
        let is_image = served.image.is_some();
        if !is_image && arrived.place.is_none() {
            return arrived.read(length, served);
        }
        let turn = if is_image { self.decoding.clone().acquire_owned().await.ok() } else { None };
        let served = served.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            arrived.read(length, &served)
        });
        read.await.unwrap_or_else(|_| Err(refused(&Refused::Form("it cannot be read".into()))))
    }

    /// Counts what was wrong with a request, and the request as a sample where it cannot be read.
    fn count(&self, failure: &Failure) {
        let trouble = match failure.0 {
            StatusCode::NOT_FOUND => Trouble::RequestUnknown,
            StatusCode::SERVICE_UNAVAILABLE => Trouble::RequestBusy,
            _ => Trouble::RequestMalformed,
        };
        self.counters.troubles.add(trouble);
        if matches!(trouble, Trouble::RequestMalformed) {
            // When even that finds no room, the device has other worries.
            let _ = self.asked.try_send(Fed::Chunk(Chunk { malformed: 1, ..Chunk::default() }));
        }
    }

    fn find(&self, which: &Which) -> Result<Arc<Served>, Failure> {
        let Some(served) = self.served.borrow().clone() else {
            return Err(Failure(StatusCode::SERVICE_UNAVAILABLE, Unanswered::NoModel.to_string()));
        };
        let version = which.version.as_deref().is_none_or(|v| v == served.release.as_str());
        if which.model == served.model.as_str() && version {
            return Ok(served);
        }
        let sentence = format!("this device runs the model {}, version {}", served.model, served.release);
        Err(Failure(StatusCode::NOT_FOUND, sentence))
    }
}

async fn describe(State(server): State<Server>, Path(which): Path<Which>) -> Result<impl IntoResponse, Failure> {
    server.find(&which).map(|served| json_body(&serving::model(&served)))
}

async fn ready(State(server): State<Server>, Path(which): Path<Which>) -> Result<StatusCode, Failure> {
    server.find(&which).map(|_| StatusCode::OK)
}

async fn infer(
    State(server): State<Server>,
    Path(which): Path<Which>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let (served, request) = match server.find(&which) {
        Ok(served) => (served.clone(), server.read(&headers, body, &served).await),
        Err(failure) => {
            server.count(&failure);
            return Err(failure);
        }
    };
    let request = request.inspect_err(|failure| server.count(failure))?;
    let (reply, answer) = oneshot::channel();
    let asked =
        Asked { chunk: chunk(&request), served: served.clone(), deadline: Instant::now() + server.deadline, reply };
    let unanswered = match server.asked.try_send(Fed::Asked(asked)) {
        Err(_) => busy(format!("{REQUESTS_MAX} requests wait already: try again")),
        Ok(()) => match answer.await {
            Ok(Ok(answer)) => {
                return Ok(written(serving::respond(&request, &served, &answer.scores, &answer.guards)));
            }
            // Its samples are counted already, by who did not answer them.
            Ok(Err(why @ Unanswered::Missing(_))) => return Err(Failure(StatusCode::BAD_REQUEST, why.to_string())),
            Ok(Err(why @ Unanswered::Failed(_))) => {
                return Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()));
            }
            Ok(Err(why)) => busy(why.to_string()),
            Err(_) => busy("the agent stops".into()),
        },
    };
    server.count(&unanswered);
    Err(unanswered)
}

/// The request's samples as the inference thread takes them; the id names one sample, or with its place one of several.
fn chunk(request: &Request) -> Chunk {
    let known = |at: usize| {
        let id = request.id.as_deref().filter(|id| !id.is_empty());
        let id =
            id.map(|id| if request.samples == 1 { hash(id.as_bytes()) } else { hash(format!("{id}:{at}").as_bytes()) });
        Known { id, ..Known::default() }
    };
    Chunk { values: request.values.clone(), rows: (0..request.samples).map(known).collect(), ..Chunk::default() }
}

fn written(response: serving::Response) -> Response {
    let mut headers = HeaderMap::new();
    let kind = if response.json_length.is_some() { "application/octet-stream" } else { "application/json" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(length) = response.json_length {
        headers.insert(HeaderName::from_static(JSON_LENGTH), HeaderValue::from(length));
    }
    (headers, Body::from(response.body)).into_response()
}
