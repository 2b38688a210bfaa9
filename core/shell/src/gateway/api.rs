//! The HTTP API, as all threads of a gateway share it.

use std::sync::{Arc, PoisonError, RwLock};

use roomcast_core::config::Config;
use roomcast_core::http::Api;
use roomcast_core::token::Revoked;

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

    pub(super) fn change(&self, change: impl FnOnce(&mut Api)) {
        let mut api = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut api));
    }
}
