//! The client's end: which servers are believed.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::session::Session;
use super::{Tls, TlsError, VERSIONS, broken, certificates, private_key, provider, read};
use crate::transport::Transport;

/// Whose certificates a client believes, and its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The authorities that are believed (PEM); those of the system without it.
    pub authorities: Option<PathBuf>,
    /// The client's own certificate and its private key (PEM), for servers that ask for one.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Makes TLS of connections to servers, which have to prove who they are.
#[derive(Clone)]
pub struct TlsConnector(Arc<ClientConfig>);

impl TlsConnector {
    /// Reads what is believed.
    ///
    /// # Errors
    /// A file cannot be read, or what stands in it is not what it should be; or the system knows no authority.
    pub fn new(trust: &Trust) -> Result<TlsConnector, TlsError> {
        let refused = |error: rustls::Error| TlsError::new("TLS to servers", error);
        let config = ClientConfig::builder_with_provider(provider()).with_protocol_versions(VERSIONS).map_err(refused)?;
        let config = config.with_root_certificates(trust.roots()?);
        let config = match &trust.certificate {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate, &read(certificate)?)?;
                let key = private_key(key, &read(key)?)?;
                config.with_client_auth_cert(chain, key).map_err(|error| TlsError::of(certificate, error))?
            }
        };
        Ok(TlsConnector(Arc::new(config)))
    }

    /// The TLS connection to a server of this name, or address, which its certificate has to have.
    ///
    /// # Errors
    /// Nothing can have this name.
    pub fn connect<T: Transport>(&self, io: T, host: &str) -> io::Result<Tls<T>> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{host}: {error}")))?;
        Tls::new(io, Session::Client(UnbufferedClientConnection::new(self.0.clone(), name).map_err(broken)?))
    }
}

impl Trust {
    /// The certificates of the authorities that are believed.
    ///
    /// # Errors
    /// The file cannot be read, or what stands in it is not what it should be; or the system knows no authority.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        match &self.authorities {
            Some(file) => certificates(file, &read(file)?),
            None => match rustls_native_certs::load_native_certs().certs {
                none if none.is_empty() => {
                    Err(TlsError::new("the authorities of the system", "none is known; name that of the server"))
                }
                known => Ok(known),
            },
        }
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        let certificates = self.certificates()?;
        match &self.authorities {
            Some(file) => {
                for authority in certificates {
                    roots.add(authority).map_err(|error| TlsError::of(file, error))?;
                }
            }
            // The system may know some that nobody understands any more.
            None => drop(roots.add_parsable_certificates(certificates)),
        }
        Ok(roots)
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector").finish_non_exhaustive()
    }
}
