//! TLS to a broker: the certificate authority that it must be signed by, and one's own certificate.

use crate::config::TlsConfig;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that is not there or holds something else.
    #[error("{path} cannot be used ({reason}): give a PEM file with {wanted} that this user may read")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: String,
        /// What belongs there.
        wanted: &'static str,
    },
    /// The files do not fit.
    #[error("the certificate {path} and its key do not fit ({reason}): use the key it was made with")]
    Pair {
        /// The certificate.
        path: String,
        /// Why.
        reason: String,
    },
}

/// Reads the files; done anew for every connection, so that renewed certificates need no restart.
pub(crate) fn client(config: &TlsConfig) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = rustls::RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(&config.ca_file, "the authority's certificates")?);
    if added == 0 {
        return Err(wrong(&config.ca_file, "no certificate of an authority is in it", "the authority's certificates"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(&config.ca_file, &e.to_string(), "the authority's certificates"))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &config.own else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain = certificates(certificate, "the certificate")?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, &e.to_string(), "the private key"))?;
    let config = builder.with_client_auth_cert(chain, private);
    config.map(Arc::new).map_err(|e| TlsError::Pair { path: certificate.display().to_string(), reason: e.to_string() })
}

fn certificates(path: &Path, wanted: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|e| wrong(path, &e.to_string(), wanted))?;
    let all = read.collect::<Result<Vec<_>, _>>().map_err(|e| wrong(path, &e.to_string(), wanted))?;
    if all.is_empty() { Err(wrong(path, "it holds no certificate", wanted)) } else { Ok(all) }
}

fn wrong(path: &Path, reason: &str, wanted: &'static str) -> TlsError {
    TlsError::File { path: path.display().to_string(), reason: reason.into(), wanted }
}
