//! The console: a page with its style and its script, under a policy that lets a browser apply and run these two and nothing else.

use core::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use http::{HeaderValue, Response, StatusCode};
use sha2::{Digest as _, Sha256};

use super::answer;

const PAGE: &str = include_str!("console/page.html");
const STYLE: &str = include_str!("console/style.css");
const SCRIPT: &str = include_str!("console/script.js");

/// The page, joined once for all who ask for it.
#[derive(Clone)]
pub(super) struct Console {
    page: Bytes,
    policy: HeaderValue,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Console(…)")
    }
}

impl Console {
    pub(super) fn new() -> Console {
        let page = PAGE.replacen("<style></style>", &format!("<style>{STYLE}</style>"), 1).replacen(
            "<script></script>",
            &format!("<script>{SCRIPT}</script>"),
            1,
        );
        // The page shows what anyone may have published. So the browser is told which code is ours, to load nothing else, to refuse
        // HTML made from strings, and to show the page in no frame.
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
            source(SCRIPT),
            source(STYLE),
        );
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Console { page: page.into(), policy }
    }

    pub(super) fn answer(&self) -> Response<Bytes> {
        let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", self.page.clone());
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}

/// How a policy names the one text that it allows.
fn source(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in the only element of this name.
    fn only<'a>(page: &'a str, name: &str) -> &'a str {
        let (open, close) = (format!("<{name}"), format!("</{name}>"));
        assert_eq!((page.matches(&open).count(), page.matches(&close).count()), (1, 1), "{name}");
        let (_, rest) = page.split_once(&open).unwrap();
        rest.split_once(&close).unwrap().0.strip_prefix('>').expect("it has no attributes")
    }

    #[test]
    fn the_policy_names_the_style_and_the_script_of_the_page_and_no_others() {
        let response = Console::new().answer();
        let page = std::str::from_utf8(response.body()).unwrap();
        let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        for name in ["style", "script"] {
            let text = only(page, name);
            assert!(text.len() > 1_000, "the {name} is there");
            assert!(policy.contains(&format!("{name}-src '{}';", source(text))), "{name}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }

    #[test]
    fn a_text_is_named_by_its_hash() {
        // The example of the specification of content security policies.
        assert_eq!(source("alert('Hello, world.');"), "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=");
    }

    #[test]
    fn the_page_has_no_style_and_no_code_in_attributes() {
        for tag in PAGE.split('<').filter_map(|rest| Some(rest.split_once('>')?.0)) {
            for attribute in tag.split_whitespace().skip(1) {
                let is_handler = attribute.starts_with("on") && attribute.contains('=');
                assert!(!is_handler && !attribute.starts_with("style="), "{tag}");
            }
        }
    }
}
