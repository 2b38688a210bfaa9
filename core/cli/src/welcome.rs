//! What `serve` says once it listens.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::Outcome;
use crate::token::Claims;

/// Says on standard output where the gateway is and what to open.
#[must_use = "nobody would know where the gateway listens"]
pub struct Welcome {
    pub(crate) binary: &'static str,
    pub(crate) scheme: &'static str,
    pub(crate) store: String,
    /// The secret, where it is made for this run.
    pub(crate) random_secret: Option<String>,
}

impl Welcome {
    /// To be called once, with the address that the gateway listens on.
    ///
    /// # Errors
    /// When standard output is closed, or no token can be made for the console.
    pub fn print(self, address: SocketAddr) -> Outcome {
        let Welcome { binary, scheme, store, random_secret } = self;
        let mut text = format!("roomcast listening on {scheme}://{address}\n  store    {store}\n");
        match random_secret {
            Some(secret) => {
                let claims = Claims { sub: "console", role: Some("admin"), ..Claims::default() };
                let token = claims.sign(&secret, Duration::from_secs(24 * 3600))?;
                writeln!(text, "  console  {scheme}://{address}/#token={token}")?;
                writeln!(text, "  secret   random for this run; set JWT_SECRET_KEY to choose one")?;
                writeln!(
                    text,
                    "  publish  {binary} publish --url {scheme}://{address} --room R --type T --data '{{}}' --token THE-ONE-ABOVE"
                )?;
            }
            None => writeln!(text, "  console  {scheme}://{address}/  (a token: {binary} token --user me --role admin)")?,
        }
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }
}
