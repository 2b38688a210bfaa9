//! The server's end: whom clients find here, and how that changes while a gateway runs.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::server::UnbufferedServerConnection;
use tracing::{error, info};

use super::session::Session;
use super::{Tls, TlsError, VERSIONS, broken, certificates, private_key, provider, read};
use crate::transport::Transport;
use crate::watch::Watch;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);

/// A certificate and its key, in files, and what is demanded of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, followed by those that lead from it to one that clients know (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM: PKCS#8, PKCS#1 or SEC1), without a password.
    pub key: PathBuf,
    /// The oldest version that is spoken.
    pub oldest: TlsVersion,
}

/// A version of TLS. What is older is not spoken at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl FromStr for TlsVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<TlsVersion, String> {
        match text {
            "1.2" => Ok(TlsVersion::V1_2),
            "1.3" => Ok(TlsVersion::V1_3),
            _ => Err("a version of TLS is 1.2 or 1.3".to_owned()),
        }
    }
}

/// Makes TLS of sockets that were accepted, with the certificate that is the newest. Clones are the same acceptor.
#[derive(Clone)]
pub struct TlsAcceptor(Arc<Shared>);

struct Shared {
    identity: Identity,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    /// What the files held when they were looked at last, whether that could be used or not.
    seen: Option<Files>,
}

/// What stands in the files of an identity.
#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl TlsAcceptor {
    /// Reads the certificate and the key.
    ///
    /// # Errors
    /// A file cannot be read, or what stands in it is not what it should be, or does not belong to the other.
    pub fn new(identity: Identity) -> Result<TlsAcceptor, TlsError> {
        let files = Files::read(&identity)?;
        let config = files.config(&identity)?;
        Ok(TlsAcceptor(Arc::new(Shared { identity, current: Mutex::new(Current { config, seen: Some(files) }) })))
    }

    /// The TLS connection of a socket of which nothing has been read yet.
    ///
    /// # Errors
    /// TLS cannot be begun.
    pub fn accept<T: Transport>(&self, io: T) -> io::Result<Tls<T>> {
        let config = self.0.current().config.clone();
        Tls::new(io, Session::Server(UnbufferedServerConnection::new(config).map_err(broken)?))
    }

    /// Looks at the files, and takes what is new in them for all connections to come: whether anything is. Those that are there go on.
    ///
    /// # Errors
    /// As [`TlsAcceptor::new`]. The old certificate stays, and the same fault is told once.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Shared { identity, .. } = &*self.0;
        let read = Files::read(identity);
        let mut current = self.0.current();
        let had_files = current.seen.is_some();
        let files = match read {
            Ok(files) if current.seen.as_ref() == Some(&files) => return Ok(false),
            Ok(files) => files,
            Err(_) if !had_files => return Ok(false),
            Err(error) => {
                current.seen = None;
                return Err(error);
            }
        };
        let config = files.config(identity);
        current.seen = Some(files);
        current.config = config?;
        Ok(true)
    }

    /// Does that every few seconds, and whenever it is asked for, until what is returned is dropped. What comes of it is logged.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn watch(&self) -> io::Result<Watch> {
        let acceptor = self.clone();
        Watch::start("certificates", EVERY, move || match acceptor.reload() {
            Ok(false) => {}
            Ok(true) => info!("the certificate has been replaced"),
            Err(error) => error!(%error, "the new certificate cannot be used, the old one stays"),
        })
    }
}

impl Shared {
    fn current(&self) -> MutexGuard<'_, Current> {
        // It is replaced as a whole.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn read(identity: &Identity) -> Result<Files, TlsError> {
        Ok(Files { certificate: read(&identity.certificate)?, key: read(&identity.key)? })
    }

    fn config(&self, identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
        let Identity { certificate, key, oldest } = identity;
        let chain = certificates(certificate, &self.certificate)?;
        let versions = match oldest {
            TlsVersion::V1_2 => VERSIONS,
            TlsVersion::V1_3 => &VERSIONS[..1],
        };
        let key = private_key(key, &self.key)?;
        let refused = |error: rustls::Error| TlsError::of(certificate, error);
        let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).map_err(refused)?;
        let mut config = config.with_no_client_auth().with_single_cert(chain, key).map_err(refused)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Clients that come back are spared half of the handshake, and nothing is kept here for them.
        config.ticketer = Ticketer::new().map_err(refused)?;
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsAcceptor").field(&self.0.identity).finish()
    }
}
