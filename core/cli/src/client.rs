//! A gateway that runs, as the commands that speak to one reach it: by its HTTP API, with a key or a token.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use roomcast_shell::https;
use roomcast_shell::tls::{TlsError, Trust};
use ureq::RequestBuilder;
use ureq::http::StatusCode;
use ureq::typestate::WithBody;

use crate::token::Claims;

/// Which gateway, and what opens it.
#[derive(Debug, Args)]
pub(crate) struct Client {
    #[command(flatten)]
    gateway: GatewayUrl,
    /// A key of its HTTP API. Wins over a token.
    #[arg(long, env = "ROOMCAST_API_KEY", hide_env_values = true)]
    key: Option<String>,
    /// A token with the role admin, or with the scope that it takes.
    #[arg(long, env = "ROOMCAST_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Instead of a token, the gateway's secret: a token is made with it.
    #[arg(long, env = "JWT_SECRET_KEY", hide_env_values = true, value_name = "SECRET")]
    jwt_secret: Option<String>,
}

/// Where the gateway is.
#[derive(Debug, Args)]
pub(crate) struct GatewayUrl {
    /// The gateway.
    #[arg(long, env = "ROOMCAST_URL", default_value = "http://127.0.0.1:8098")]
    pub(crate) url: String,
    /// The authorities by which a gateway at https:// proves who it is (PEM); those of the system without it.
    #[arg(long, env = "ROOMCAST_CA_CERT", value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// A request of the API, with the JSON of its body.
pub(crate) enum Request {
    Get,
    Post(String),
    Delete(String),
}

/// How long an answer may take. Whatever the gateway asks the store for has a shorter deadline of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Text as part of a path.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Asks a gateway whether it is ready.
///
/// # Errors
/// It cannot be reached, or says why it is not ready.
pub(crate) fn ready(gateway: &GatewayUrl) -> Result<(), Box<dyn Error>> {
    let mut response = gateway.agent(PATIENCE)?.get(gateway.path("/readyz")).call()?;
    let answer = response.body_mut().read_to_string()?;
    match response.status() {
        StatusCode::OK => Ok(()),
        status => Err(format!("the gateway answered {status}: {answer}").into()),
    }
}

impl GatewayUrl {
    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.url.trim_end_matches('/'))
    }

    fn agent(&self, patience: Duration) -> Result<ureq::Agent, TlsError> {
        https::agent(&self.url, patience, &Trust { authorities: self.ca.clone(), certificate: None })
    }
}

impl Client {
    /// Sends a request, and gives the body of the answer if the gateway has done what was asked.
    pub(crate) fn call(&self, request: Request, path: &str, patience: Duration) -> Result<String, Box<dyn Error>> {
        let (agent, url) = (self.gateway.agent(patience)?, self.gateway.path(path));
        let bearer = format!("Bearer {}", self.bearer()?);
        let send = |request: RequestBuilder<WithBody>, body: String| {
            request.header("authorization", &bearer).header("content-type", "application/json").send(body)
        };
        let mut response = match request {
            Request::Get => agent.get(url).header("authorization", &bearer).call()?,
            Request::Post(body) => send(agent.post(url), body)?,
            Request::Delete(body) => send(agent.delete(url).force_send_body(), body)?,
        };
        let status = response.status();
        // A dead letter may be as long as an entry can be.
        let answer = response.body_mut().with_config().limit(u64::MAX).read_to_string()?;
        match status {
            StatusCode::OK => Ok(answer),
            _ => Err(format!("the gateway answered {status}: {answer}").into()),
        }
    }

    fn bearer(&self) -> Result<String, Box<dyn Error>> {
        match (self.key.as_ref().or(self.token.as_ref()), &self.jwt_secret) {
            (Some(given), _) => Ok(given.clone()),
            (None, Some(secret)) => {
                let claims = Claims { sub: "roomcast-cli", role: Some("admin"), ..Claims::default() };
                Ok(claims.sign(secret, Duration::from_secs(60))?)
            }
            (None, None) => {
                Err("give --key, --token or --jwt-secret (or ROOMCAST_API_KEY, ROOMCAST_TOKEN or JWT_SECRET_KEY)".into())
            }
        }
    }
}
