//! Requests to other servers, now and then, on a thread that may wait.

use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::tls::{TlsError, Trust, provider};

/// What sends requests to a URL, each of which may take so long. The status of an answer is the caller's to judge.
///
/// # Errors
/// It begins with `https://`, and those who are to be believed cannot be read.
pub fn agent(url: &str, patience: Duration, trust: &Trust) -> Result<Agent, TlsError> {
    let mut config = Agent::config_builder().timeout_global(Some(patience)).http_status_as_error(false);
    // Whoever answers must not send us elsewhere, or into the clear.
    config = config.max_redirects(0).https_only(url.starts_with("https://"));
    if url.starts_with("https://") {
        let authorities = trust.certificates()?;
        let roots: RootCerts = authorities.iter().map(|authority| Certificate::from_der(authority).to_owned()).into();
        config = config.tls_config(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider()).build());
    }
    Ok(config.build().into())
}
