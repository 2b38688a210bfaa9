//! The keys of tokens: those of the configuration, and the set that stands in a file or behind a URL and is read again and again.

use std::fs;
use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use roomcast_core::config::{Auth, ConfigError, Jwks};
use roomcast_core::token::{JwksError, Keys, MOST_JWKS_BYTES};
use tracing::{info, warn};

use crate::gateway::Gateway;
use crate::https;
use crate::log::AUDIT;
use crate::tls::Trust;
use crate::transport::Transport;
use crate::watch::Watch;

/// How often it is looked whether it is time to read, and how soon what could not be read is tried again.
const EVERY: Duration = Duration::from_secs(5);
/// Time between two readings, at the least: whoever shows a token that names an unknown key causes no more.
const PAUSE: Duration = Duration::from_secs(10);
/// How long a reading may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The keys of a gateway.
#[derive(Debug)]
pub(crate) struct Keyring {
    inner: Mutex<Inner>,
    /// One at a time gives keys to those who check tokens, so that the last ones are those that stay.
    turn: Mutex<()>,
    /// What reads the set, if there is one.
    watch: Mutex<Option<Watch>>,
}

#[derive(Debug)]
struct Inner {
    own: Keys,
    /// All of them, those of the set that was read last as well.
    keys: Keys,
    jwks: Option<Jwks>,
    /// What was read last.
    document: Option<String>,
    /// When it was read last, well or not, and when it was tried.
    read: Option<Instant>,
    tried: Option<Instant>,
    /// Somebody wants it to be read.
    wanted: bool,
    /// What was wrong the last time, which is told once.
    fault: Option<String>,
}

impl Keyring {
    pub(crate) fn new(auth: &Auth) -> Result<Keyring, ConfigError> {
        let own = Keys::of(auth)?;
        let inner = Inner {
            keys: own.clone(),
            own,
            jwks: auth.jwks.clone(),
            document: None,
            read: None,
            tried: None,
            wanted: false,
            fault: None,
        };
        Ok(Keyring { inner: Mutex::new(inner), turn: Mutex::new(()), watch: Mutex::new(None) })
    }

    /// Why no token can be checked yet that is signed by a key of the set.
    pub(crate) fn unready(&self) -> Option<String> {
        let inner = self.lock();
        let lacks = inner.jwks.is_some() && inner.document.is_none();
        lacks.then(|| "the keys of auth.jwks have not been read".to_owned())
    }

    /// Asks to read the set soon, because a token names a key that is not known, or because an operator says so.
    pub(crate) fn want(&self, at_once: bool) {
        let mut inner = self.lock();
        let is_early = inner.tried.is_some_and(|tried| tried.elapsed() < PAUSE);
        if inner.jwks.is_some() && (at_once || !is_early) && !std::mem::replace(&mut inner.wanted, true) {
            drop(inner);
            if let Some(watch) = &*self.watch.lock().unwrap_or_else(PoisonError::into_inner) {
                watch.poke();
            }
        }
    }

    /// Other keys stand in the configuration now.
    ///
    /// # Errors
    /// Together with the set they are too many; nothing changes then.
    pub(crate) fn set_own(&self, own: Keys) -> Result<(), JwksError> {
        let mut inner = self.lock();
        inner.keys = match (&inner.jwks, &inner.document) {
            (Some(jwks), Some(document)) => own.with_set(jwks, document)?,
            _ => own.clone(),
        };
        inner.own = own;
        Ok(())
    }

    /// Gives all keys, as they are now, to those who check tokens.
    pub(crate) fn hand_out(&self, give: impl FnOnce(Keys)) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.lock().keys.clone();
        give(keys);
    }

    /// Reads the set if it is time to. Whether the keys are others now.
    fn look(&self) -> bool {
        let mut inner = self.lock();
        let Some(jwks) = inner.jwks.clone() else { return false };
        let is_due = inner.read.is_none_or(|read| read.elapsed() >= jwks.refresh) || inner.fault.is_some();
        if !std::mem::take(&mut inner.wanted) && !is_due {
            return false;
        }
        inner.tried = Some(Instant::now());
        drop(inner);
        let document = read(&jwks);
        let mut inner = self.lock();
        let read = document.and_then(|document| match inner.own.with_set(&jwks, &document) {
            Ok(keys) => Ok((document, keys)),
            Err(error) => Err(error.to_string()),
        });
        match read {
            Ok((document, keys)) => {
                (inner.read, inner.fault) = (inner.tried, None);
                let is_new = inner.document.as_ref() != Some(&document);
                (inner.document, inner.keys) = (Some(document), keys);
                if is_new {
                    info!(target: AUDIT, keys = inner.keys.len(), "the keys of tokens are others now");
                }
                is_new
            }
            Err(fault) => {
                if inner.fault.as_ref() != Some(&fault) {
                    warn!(target: AUDIT, fault, "the keys of auth.jwks cannot be read, and stay as they are");
                    inner.fault = Some(fault);
                }
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the set of a gateway's keys now, if it stands in a file, and from now on, until the gateway is gone.
///
/// # Errors
/// The file cannot be read, or is no set; or there can be no more threads.
pub(crate) fn watch<T: Transport>(gateway: &Arc<Gateway<T>>) -> Result<(), String> {
    let keyring = gateway.keyring();
    let Some(jwks) = keyring.lock().jwks.clone() else { return Ok(()) };
    if jwks.file.is_some() {
        keyring.look();
        if let Some(fault) = keyring.lock().fault.clone() {
            return Err(fault);
        }
        gateway.hand_out();
    }
    let gateway: Weak<Gateway<T>> = Arc::downgrade(gateway);
    let look = move || {
        if let Some(gateway) = gateway.upgrade()
            && gateway.keyring().look()
        {
            gateway.hand_out();
        }
    };
    let watch = Watch::start("keys", EVERY.min(jwks.refresh), look).map_err(|error| error.to_string())?;
    watch.poke();
    *keyring.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
    Ok(())
}

fn read(jwks: &Jwks) -> Result<String, String> {
    let most = MOST_JWKS_BYTES as u64 + 1;
    if let Some(path) = &jwks.file {
        let mut text = String::new();
        let file = fs::File::open(path).map_err(|error| format!("{path}: {error}"))?;
        file.take(most).read_to_string(&mut text).map_err(|error| format!("{path}: {error}"))?;
        return Ok(text);
    }
    let url = jwks.url.as_deref().unwrap_or_default();
    let agent = https::agent(url, PATIENCE, &Trust::default()).map_err(|error| error.to_string())?;
    let mut response = agent.get(url).call().map_err(|error| error.to_string())?;
    match response.status().as_u16() {
        200 => response.body_mut().with_config().limit(most).read_to_string().map_err(|error| error.to_string()),
        status => Err(format!("the server of the keys answered {status}")),
    }
}
