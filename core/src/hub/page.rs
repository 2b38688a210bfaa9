//! The pages that requests come from.

use http::header::ORIGIN;
use http::{HeaderValue, Request, StatusCode};

use super::{Hub, Refused};
use crate::config::Origin;

/// A page that may speak to the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) origin: HeaderValue,
    /// Whether the configuration means this page, rather than all there are. What a browser knows of its user by itself, as
    /// cookies of a balancer, is for such pages only.
    pub(super) is_trusted: bool,
}

impl Hub {
    /// The page that a request comes from; nothing where it comes from none.
    ///
    /// # Errors
    /// A page that may not speak to this hub, or several, or what is no origin.
    pub(super) fn page_of<B>(&self, request: &Request<B>) -> Result<Option<Page>, Refused> {
        let mut given = request.headers().get_all(ORIGIN).into_iter();
        let Some(origin) = given.next() else { return Ok(None) };
        let refused = Refused { status: StatusCode::FORBIDDEN, message: "The origin is not allowed", retry_after: None };
        let text = origin.to_str().ok().filter(|_| given.next().is_none()).ok_or(refused)?;
        let fits = |allowed: &&Origin| allowed.allows(text);
        let mut allowed = self.config.origins.iter().filter(fits).peekable();
        allowed.peek().ok_or(refused)?;
        Ok(Some(Page { origin: origin.clone(), is_trusted: allowed.any(|origin| !origin.is_any()) }))
    }
}
