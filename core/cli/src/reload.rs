//! What is read anew at SIGHUP: certificates, keys of tokens, and the rules of access.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use roomcast_core::config::Config;
use roomcast_core::token::Keys;
use roomcast_shell::gateway::Gateway;
use roomcast_shell::log::AUDIT;
use roomcast_shell::transport::Transport;
use roomcast_shell::watch::Watch;
use tracing::{error, info};

use crate::file::File;
use crate::hangup;

/// What a gateway reads anew at each SIGHUP, while it runs.
#[must_use = "nothing would be read anew, and SIGHUP would end the process"]
pub struct Reload {
    pub(crate) file: Option<PathBuf>,
    pub(crate) overrides: Box<dyn Fn(&mut Config) + Send>,
    pub(crate) certificates: Option<Watch>,
}

impl Reload {
    /// Begins, for this gateway.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn watch<T: Transport>(self, gateway: &Arc<Gateway<T>>) -> io::Result<()> {
        let gateway = Arc::downgrade(gateway);
        hangup::at_each(move || {
            if let Some(certificates) = &self.certificates {
                certificates.poke();
            }
            let Some(gateway) = gateway.upgrade() else { return };
            gateway.read_keys();
            match self.read(&gateway) {
                Ok(()) => info!(target: AUDIT, "the configuration was read anew"),
                Err(fault) => error!(target: AUDIT, fault, "the configuration cannot be read, and stays as it was"),
            }
        })
    }

    /// Takes the keys and the rules of access from the file, if there is one.
    fn read<T: Transport>(&self, gateway: &Gateway<T>) -> Result<(), String> {
        let Some(path) = &self.file else { return Ok(()) };
        let mut config = File::read(path)?.config;
        (self.overrides)(&mut config);
        config.validate().map_err(|error| error.to_string())?;
        if !config.auth.has_keys() {
            return Err("it has no key of tokens: it may be cut off".into());
        }
        let keys = Keys::of(&config.auth).map_err(|error| error.to_string())?;
        gateway.set_keys(keys).map_err(|error| error.to_string())?;
        gateway.set_access(config.access);
        Ok(())
    }
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reload").field("file", &self.file).finish_non_exhaustive()
    }
}
