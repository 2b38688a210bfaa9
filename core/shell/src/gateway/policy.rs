//! Who may do what: what can be changed while a gateway runs.

use std::sync::Arc;

use roomcast_core::config::AccessRule;
use roomcast_core::survey::{Question, Surveyed};
use roomcast_core::token::{JwksError, Keys, Revocation, Subject};

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
        let revocation = Revocation::new(subject, self.clock.unix(), self.config.auth.revoked_for);
        self.survey(Question::Revoke(revocation)).await
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
    pub fn set_access(&self, rules: Vec<AccessRule>) {
        let rules: Arc<[AccessRule]> = rules.into();
        self.shards.iter().for_each(|shard| shard.post(shard::Input::Access(rules.clone())));
    }
}
