//! TLS in front of our own broker, which thereby knows who a client is.
//!
//! mqtt5 speaks TLS but does not say whose certificate it was shown. So TLS ends here, and the broker listens on loopback alone: of a
//! connection that comes from here it is known, by the port it comes from, which devices its certificate names, and any other is turned
//! away. A certificate names its devices as DNS subject alternative names. Files that were written anew are read anew, so that renewed
//! certificates need no restart.

use super::turned_away::TurnedAway;
use crate::config::BrokerTls;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

/// A client gets so long for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, mostly for want of file handles.
const EXHAUSTED: Duration = Duration::from_millis(200);
/// Files that could not be read are tried again after so long.
const AGAIN: Duration = Duration::from_secs(60);
/// Most devices that one certificate may name.
const NAMES_MAX: usize = 64;

/// Who the clients behind the broker's connections are.
#[derive(Debug, Clone, Default)]
pub(super) struct Guests(Arc<Mutex<HashMap<SocketAddr, Guest>>>);

/// A client, as far as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Guest {
    /// No certificates are asked for.
    Anybody,
    /// It may go by these names.
    Named(Vec<String>),
}

impl Guests {
    fn map(&self) -> MutexGuard<'_, HashMap<SocketAddr, Guest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the client at the other end of this connection may use a name; otherwise why not.
    pub(super) fn allow(&self, from: SocketAddr, name: &str) -> Result<(), &'static str> {
        match self.map().get(&from) {
            Some(Guest::Anybody) => Ok(()),
            Some(Guest::Named(names)) if names.iter().any(|known| known == name) => Ok(()),
            Some(Guest::Named(_)) => Err("the certificate does not name this device"),
            None => Err("this broker is reached by TLS only"),
        }
    }
}

/// The door and its keys.
pub(super) struct Front {
    listener: TcpListener,
    files: BrokerTls,
    acceptor: TlsAcceptor,
    /// When the files were last written, as far as they have been read.
    written: Written,
    /// When files are tried again that could not be read.
    again: Option<Instant>,
    guests: Guests,
    turned_away: TurnedAway,
    /// The broker itself.
    inner: SocketAddr,
    room: Arc<Semaphore>,
}

/// When certificate, key and authority were written.
type Written = [Option<SystemTime>; 3];

impl Front {
    /// Stands before the broker at `inner`, for so many clients at a time.
    pub(super) fn new(
        listener: TcpListener,
        files: BrokerTls,
        inner: SocketAddr,
        guests: Guests,
        turned_away: TurnedAway,
        clients_max: usize,
    ) -> Result<Self, String> {
        let (written, acceptor) = (written(&files), acceptor(&files)?);
        let room = Arc::new(Semaphore::new(clients_max));
        Ok(Self { listener, files, acceptor, written, again: None, guests, turned_away, inner, room })
    }

    /// Lets clients in, for ever.
    pub(super) async fn run(mut self) {
        loop {
            let (client, from) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(e) => {
                    tracing::warn!("a device cannot be let in: {e}");
                    tokio::time::sleep(EXHAUSTED).await;
                    continue;
                }
            };
            // One too many is closed at once; devices come again.
            let Ok(place) = self.room.clone().try_acquire_owned() else {
                self.turned_away.add(&from, &"the broker has no room for more clients");
                continue;
            };
            self.renew();
            let (acceptor, guests, inner) = (self.acceptor.clone(), self.guests.clone(), self.inner);
            let turned_away = self.turned_away.clone();
            tokio::spawn(async move {
                if let Err(why) = serve(client, &acceptor, &guests, inner).await {
                    turned_away.add(&from, &why);
                }
                drop(place);
            });
        }
    }

    fn renew(&mut self) {
        let written = written(&self.files);
        if written == self.written && self.again.is_none_or(|at| Instant::now() < at) {
            return;
        }
        (self.written, self.again) = (written, None);
        match acceptor(&self.files) {
            Ok(acceptor) => {
                tracing::info!("the broker's certificates were renewed");
                self.acceptor = acceptor;
            }
            Err(why) => {
                self.again = Some(Instant::now() + AGAIN);
                tracing::warn!("the broker goes on with the certificates it had: {why}");
            }
        }
    }
}

/// One client from its handshake to its end.
async fn serve(client: TcpStream, acceptor: &TlsAcceptor, guests: &Guests, inner: SocketAddr) -> Result<(), String> {
    let text = |e: std::io::Error| e.to_string();
    let _ = client.set_nodelay(true);
    let shaken = timeout(HANDSHAKE, acceptor.accept(client)).await;
    let mut client = shaken.map_err(|_| "it does not speak TLS".to_owned())?.map_err(text)?;
    let guest = match client.get_ref().1.peer_certificates().and_then(<[_]>::first) {
        None => Guest::Anybody,
        Some(certificate) => Guest::Named(names(certificate)?),
    };
    // Known before it connects: the broker asks as soon as it does.
    let socket = TcpSocket::new_v4().map_err(text)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).map_err(text)?;
    let _known = Known::new(guests, socket.local_addr().map_err(text)?, guest);
    let mut broker = socket.connect(inner).await.map_err(text)?;
    let _ = broker.set_nodelay(true);
    relay(&mut client, &mut broker).await;
    Ok(())
}

/// Carries bytes both ways until the broker ends the connection. It does so when the client has, and when nothing is heard of the client,
/// which may have vanished without a word: its side is not waited for.
async fn relay<C, B>(client: C, broker: B)
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let ((mut from_client, mut to_client), (mut from_broker, mut to_broker)) = (split(client), split(broker));
    let up = async {
        let _ = copy(&mut from_client, &mut to_broker).await;
        let _ = to_broker.shutdown().await;
        std::future::pending::<()>().await;
    };
    let down = async {
        let _ = copy(&mut from_broker, &mut to_client).await;
        let _ = timeout(HANDSHAKE, to_client.shutdown()).await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// A guest for as long as it stays.
struct Known<'a> {
    guests: &'a Guests,
    at: SocketAddr,
}

impl<'a> Known<'a> {
    fn new(guests: &'a Guests, at: SocketAddr, guest: Guest) -> Self {
        guests.map().insert(at, guest);
        Self { guests, at }
    }
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        self.guests.map().remove(&self.at);
    }
}

fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|e| e.to_string())?;
    let names: Vec<String> = parsed.valid_dns_names().take(NAMES_MAX).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(
            "its certificate names no device; give it the device's name as a DNS subject alternative name".into()
        );
    }
    Ok(names)
}

fn written(files: &BrokerTls) -> Written {
    let of = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    [of(&files.cert_file), of(&files.key_file), files.ca_file.as_deref().and_then(of)]
}

fn acceptor(files: &BrokerTls) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    let builder = match &files.ca_file {
        None => builder.with_no_client_auth(),
        Some(ca_file) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(ca_file)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|e| unusable(ca_file, &e))?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key_file).map_err(|e| unusable(&files.key_file, &e))?;
    let config = builder.with_single_cert(certificates(&files.cert_file)?, key);
    Ok(TlsAcceptor::from(Arc::new(config.map_err(|e| unusable(&files.cert_file, &e))?)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).and_then(|all| all.collect::<Result<Vec<_>, _>>());
    let all = all.map_err(|e| unusable(path, &e))?;
    if all.is_empty() { Err(unusable(path, &"it holds no certificate")) } else { Ok(all) }
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> String {
    format!(
        "{} cannot be used ({reason}): give a PEM file that belongs there and that this user may read",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, duplex};

    #[tokio::test]
    async fn a_client_that_says_no_more_does_not_keep_a_connection_that_the_broker_ends() {
        let ((_silent, client), (mut broker, inner)) = (duplex(64), duplex(64));
        broker.write_all(b"bye").await.expect("room");
        drop(broker);
        timeout(Duration::from_secs(5), relay(client, inner)).await.expect("an end");
    }

    #[tokio::test]
    async fn what_a_client_says_last_arrives() {
        let ((mut outer, client), (mut broker, inner)) = (duplex(64), duplex(64));
        let relayed = tokio::spawn(relay(client, inner));
        outer.write_all(b"disconnect").await.expect("room");
        drop(outer);
        let mut heard = Vec::new();
        broker.read_to_end(&mut heard).await.expect("an end");
        assert_eq!(heard, b"disconnect");
        drop(broker);
        timeout(Duration::from_secs(5), relayed).await.expect("an end").expect("no panic");
    }
}
