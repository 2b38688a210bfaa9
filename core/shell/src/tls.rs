//! TLS, by rustls without I/O of its own: for clients, and for the connections to Redis.
//!
//! [`Tls`] is a [`Transport`](crate::transport::Transport) over another one, so that it is the same on every runtime.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};

mod acceptor;
mod connector;
mod session;
mod stream;
#[cfg(test)]
mod tests;
mod transport;

pub use acceptor::{Identity, TlsAcceptor, TlsVersion};
pub use connector::{TlsConnector, Trust};
pub use stream::Stream;
pub use transport::Tls;

/// Why TLS cannot be had: what is wrong, and with which file.
#[derive(Debug)]
pub struct TlsError {
    what: String,
    reason: String,
}

impl TlsError {
    fn new(what: impl fmt::Display, reason: impl fmt::Display) -> TlsError {
        TlsError { what: what.to_string(), reason: reason.to_string() }
    }

    fn of(file: &Path, reason: impl fmt::Display) -> TlsError {
        TlsError::new(file.display(), reason)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.reason)
    }
}

impl Error for TlsError {}

/// TLS 1.2 and 1.3, with what is secure in them.
const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// The cryptography that all TLS here is made with.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|error| TlsError::of(file, error))
}

/// The certificates of a file, of which there is one at least.
fn certificates(file: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match certificates.map_err(|error| TlsError::of(file, words(&error)))? {
        none if none.is_empty() => Err(TlsError::of(file, "there is no certificate in it (PEM)")),
        certificates => Ok(certificates),
    }
}

/// The first private key of a file.
fn private_key(file: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::of(file, "there is no private key in it (PEM: PKCS#8, PKCS#1 or SEC1)"),
        error => TlsError::of(file, words(&error)),
    })
}

/// What is wrong with a file, without what stands in it.
fn words(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end: the file is cut",
        pem::Error::IllegalSectionStart { .. } => "a section does not begin as it should",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it is not PEM",
    }
}

/// What went wrong in TLS, as an error of a connection.
fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
