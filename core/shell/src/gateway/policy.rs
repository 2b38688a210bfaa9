//! Who may do what: what can be changed while a gateway runs.

use std::sync::{Arc, PoisonError, RwLock};

use roomcast_core::config::{AccessRule, Config, ConfigError};
use roomcast_core::http::Api;
use roomcast_core::survey::{Question, Surveyed};
use roomcast_core::token::{JwksError, Keys, Revocation, Revoked, Subject};

use super::Gateway;
use crate::keyring::Keyring;
use crate::shard;
use crate::transport::Transport;

/// Keys, revocations and rules.
impl<T: Transport> Gateway<T> {
    /// Revokes tokens, on all nodes: how many connections were closed, and of how many nodes. Once all that were asked have answered,
    /// no connection with such a token is sent anything any more. Where the store is away, `asked` is nothing, and the other nodes
    /// learn of it when it is back.
    pub async fn revoke(&self, subject: Subject) -> Surveyed {
        let at = self.clock.unix();
        let until = at + self.config.auth.revoked_for;
        self.survey(Question::Revoke(Revocation { subject, at, until })).await
    }

    /// Checks tokens by these keys from now on, in place of those of the configuration, and by those of `auth.jwks` as before.
    /// Connections whose tokens were good stay until those expire.
    ///
    /// # Errors
    /// Together with those of `auth.jwks` they are too many; nothing changes then.
    pub fn set_keys(&self, keys: Keys) -> Result<(), JwksError> {
        self.keyring.set_own(keys)?;
        self.hand_out();
        Ok(())
    }

    /// Reads the keys of `auth.jwks` anew, on a thread of its own.
    pub fn read_keys(&self) {
        self.keyring.want(true);
    }

    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Gives all keys to those who check tokens.
    pub(crate) fn hand_out(&self) {
        self.keyring.hand_out(|keys| {
            let keys = Arc::new(keys);
            self.api.change(|api| api.set_keys(keys.clone()));
            self.shards.iter().for_each(|shard| shard.post(shard::Input::Keys(keys.clone())));
        });
    }

    /// Decides by these rules from now on, for what is wanted and for the rooms that connections are in already: what is not
    /// allowed any more is left.
    ///
    /// # Errors
    /// Rules that cannot work; nothing changes then.
    pub fn set_access(&self, rules: Vec<AccessRule>) -> Result<(), ConfigError> {
        Config { access: rules.clone(), ..(*self.config).clone() }.validate()?;
        let rules: Arc<[AccessRule]> = rules.into();
        self.shards.iter().for_each(|shard| shard.post(shard::Input::Access(rules.clone())));
        Ok(())
    }
}

/// What answers HTTP requests, of which parts change now and then.
#[derive(Debug)]
pub(crate) struct SharedApi(RwLock<Arc<Api>>);

impl SharedApi {
    pub(crate) fn new(config: Arc<Config>) -> SharedApi {
        SharedApi(RwLock::new(Arc::new(Api::new(config))))
    }

    pub(crate) fn get(&self) -> Arc<Api> {
        // What is there is whole whatever happened to another thread.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_revoked(&self, revoked: &Arc<Revoked>) {
        self.change(|api| api.set_revoked(revoked.clone()));
    }

    fn change(&self, change: impl FnOnce(&mut Api)) {
        let mut api = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut api));
    }
}
