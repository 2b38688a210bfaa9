//! The certificate that clients are shown.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use roomcast_shell::tls::{Identity, TlsAcceptor, TlsVersion};

use crate::file::Server;

/// Options for HTTPS and WSS. Without a certificate, HTTP and WS are served.
#[derive(Debug, Args)]
pub(crate) struct TlsOptions {
    /// The certificate to serve HTTPS and WSS with, and those that lead from it to one that clients know (PEM).
    #[arg(long, env = "ROOMCAST_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM). Both files are read anew when they change, and at SIGHUP.
    #[arg(long, env = "ROOMCAST_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// The oldest version of TLS that is spoken, 1.2 or 1.3 [default: 1.2].
    #[arg(long, env = "ROOMCAST_TLS_MIN", value_name = "VERSION")]
    tls_min: Option<TlsVersion>,
}

impl TlsOptions {
    /// What the options, or else the configuration file, say of TLS.
    pub(crate) fn acceptor(self, file: &Server) -> Result<Option<TlsAcceptor>, Box<dyn Error>> {
        let oldest = match self.tls_min {
            Some(oldest) => oldest,
            None => file.tls_min.as_deref().map_or(Ok(TlsVersion::default()), str::parse)?,
        };
        let certificate = self.tls_cert.or_else(|| file.tls_cert.clone());
        let key = self.tls_key.or_else(|| file.tls_key.clone());
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(TlsAcceptor::new(Identity { certificate, key, oldest })?)),
            (None, None) => Ok(None),
            (Some(_), None) => Err("a certificate needs its key: --tls-key or ROOMCAST_TLS_KEY".into()),
            (None, Some(_)) => Err("a key needs its certificate: --tls-cert or ROOMCAST_TLS_CERT".into()),
        }
    }
}
