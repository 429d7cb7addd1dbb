//! Starts a whole collector: store, driver, broker or broker connection, and HTTP; stops it again in the right order.

use super::driver::{ASKS_MAX, Clock, Driver};
use super::http::{self, Api};
use super::live::Hub;
use super::store::{Store, StoreError};
use super::transport::{INCOMING_MAX, OUTGOING_MAX};
use super::turned_away::TurnedAway;
use super::{broker, mqtt};
use crate::config::{Config, Mqtt};
use driftline_shared::wire::messages::Host;
use driftline_shared::wire::{self, Kind};
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

/// How long open requests get when the collector stops.
const GRACE: Duration = Duration::from_secs(2);

/// Where a started collector can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Dashboard and API.
    pub http: SocketAddr,
    /// The embedded broker, if it is used.
    pub mqtt: Option<SocketAddr>,
}

/// Why a collector does not run. Each is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The embedded broker.
    #[error(transparent)]
    Broker(#[from] broker::BrokerError),
    /// The HTTP address.
    #[error(
        "the dashboard cannot listen on {listen} ({source}); is another driftline running? choose another address with --listen"
    )]
    Listen {
        /// Which address.
        listen: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Certificates for the broker.
    #[error("{0}")]
    Tls(String),
    /// A secret's file.
    #[error("{path} cannot be read ({source}); it should hold one line")]
    Secret {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The export's address.
    #[cfg(feature = "influxdb")]
    #[error("influxdb.url is not usable ({0}); write it as http://host:8086")]
    Influx(String),
    /// HTTP ended by itself.
    #[error("the HTTP server stopped: {0}")]
    Http(std::io::Error),
}

/// Runs a collector until `shutdown` completes. `ready` is told once everything listens.
pub async fn serve(
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
    ready: oneshot::Sender<Ready>,
) -> Result<(), ServeError> {
    let token = config.token_file.as_deref().map(secret).transpose()?.map(Arc::from);
    let store = Store::open(&config.data_dir)?;
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|source| ServeError::Listen { listen: config.listen, source })?;
    let http_address = listener.local_addr().map_err(ServeError::Http)?;

    let (stop, stopped) = watch::channel(false);
    let (incoming, from_broker) = mpsc::channel(INCOMING_MAX);
    let (outgoing, to_broker) = mpsc::channel(OUTGOING_MAX);
    let (asks, questions) = mpsc::channel(ASKS_MAX);
    let epoch = getrandom::u32().unwrap_or_default();
    let hub = Arc::new(Hub::new(format!("{epoch:08x}")));
    let turned_away = TurnedAway::default();
    let driver = Driver::new(config.settings.clone(), store, Arc::clone(&hub), outgoing, turned_away.clone())?;
    #[cfg(feature = "influxdb")]
    let driver = match &config.influxdb {
        Some(influx) => {
            let token = influx.token_file.as_deref().map(secret).transpose()?.unwrap_or_default();
            driver.with_influx(super::influx::start(influx, token).map_err(ServeError::Influx)?)
        }
        None => driver,
    };
    let driver = tokio::spawn(driver.run(from_broker, questions, stopped.clone()));

    let fleet = config.settings.fleet.clone();
    let (mut broker, mqtt_address) = match &config.mqtt {
        Mqtt::Embedded { listen, tls } => {
            let (bound, address) = oneshot::channel();
            let settings = broker::Config { listen: *listen, tls: tls.clone(), fleet, turned_away };
            // The broker ends when the driver has said its last word and dropped its sender.
            let task = tokio::spawn(broker::run(settings, incoming, to_broker, bound, std::future::pending()));
            match address.await {
                Ok(address) => (task, Some(address)),
                Err(_) => {
                    return Err(task
                        .await
                        .map_or_else(
                            |e| broker::BrokerError::Stopped(e.to_string()),
                            |r| r.err().unwrap_or_else(|| broker::BrokerError::Stopped("at once".into())),
                        )
                        .into());
                }
            }
        }
        Mqtt::External { host, port, username, password_file, tls } => {
            // A mistake in the files is told now; later they are read anew for every connection.
            tls.as_ref().map(mqtt::read_tls).transpose().map_err(ServeError::Tls)?;
            let password = password_file.as_deref().map(secret).transpose()?.map(mqtt::Secret);
            let settings = mqtt::Config {
                host: host.clone(),
                port: *port,
                client_id: format!("driftline-collector-{epoch:08x}"),
                username: username.clone(),
                password,
                tls: tls.clone(),
                fleet,
                will: farewell(),
            };
            let task = async move {
                mqtt::run(settings, incoming, to_broker, std::future::pending()).await;
                Ok(())
            };
            (tokio::spawn(task), None)
        }
    };

    let api = Api { asks, hub, listen: http_address, token, ui_dir: config.ui_dir.clone(), clock: Clock::start() };
    let mut over = stopped.clone();
    let http = axum::serve(listener, http::router(api)).with_graceful_shutdown(async move {
        let _ = over.wait_for(|stop| *stop).await;
    });
    let mut http = tokio::spawn(http.into_future());
    let _ = ready.send(Ready { http: http_address, mqtt: mqtt_address });
    tokio::pin!(shutdown);
    let outcome = tokio::select! {
        () = &mut shutdown => Ok(()),
        ended = &mut broker => Err(match ended {
            Ok(Err(error)) => error.into(),
            other => broker::BrokerError::Stopped(format!("{other:?}")).into(),
        }),
        ended = &mut http => Err(match ended {
            Ok(Err(error)) => ServeError::Http(error),
            other => ServeError::Http(std::io::Error::other(format!("{other:?}"))),
        }),
    };
    let _ = stop.send(true);
    let _ = driver.await;
    // The driver's goodbye is on its way; open sockets do not keep the program alive.
    let _ = tokio::time::timeout(GRACE, async {
        if !broker.is_finished() {
            let _ = (&mut broker).await;
        }
    })
    .await;
    http.abort();
    outcome
}

/// What the broker says for us when we vanish.
fn farewell() -> Vec<u8> {
    let mut frame = vec![0; 64];
    let host = Host { epoch: 0, online: false, slow_down_s: 0 };
    let len = wire::write(Kind::Host, &host, &mut frame).expect("a host message is a few bytes");
    frame.truncate(len);
    frame
}

/// The first line of a file.
fn secret(path: &Path) -> Result<String, ServeError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ServeError::Secret { path: path.display().to_string(), source })?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
