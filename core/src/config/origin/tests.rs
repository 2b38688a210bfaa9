use super::*;

/// What is allowed, the origin of a page, and whether that page may connect.
const TABLE: &[(&str, &str, bool)] = &[
    // The origin itself.
    ("https://example.com", "https://example.com", true),
    ("https://example.com", "http://example.com", false),
    ("http://example.com", "https://example.com", false),
    ("https://example.com", "https://example.org", false),
    ("https://example.com", "https://example.com.evil.example", false),
    ("https://example.com", "https://evil-example.com", false),
    ("https://example.com", "https://app.example.com", false),
    ("https://example.com", "https://example.co", false),
    ("https://localhost", "https://localhost", true),
    ("app+x://host", "app+x://host", true),
    // The case.
    ("https://example.com", "HTTPS://EXAMPLE.com", true),
    ("HTTPS://Example.COM", "https://example.com", true),
    ("https://*.Example.com", "https://A.eXAMPLE.com", true),
    // Ports.
    ("https://example.com", "https://example.com:443", true),
    ("https://example.com:443", "https://example.com", true),
    ("http://example.com", "http://example.com:80", true),
    ("http://example.com:80", "http://example.com", true),
    ("HTTP://example.com:80", "http://example.com", true),
    ("https://example.com", "https://example.com:80", false),
    ("http://example.com", "http://example.com:443", false),
    ("https://example.com", "https://example.com:8443", false),
    ("https://example.com:8443", "https://example.com:8443", true),
    ("https://example.com:8443", "https://example.com", false),
    ("https://example.com:8443", "https://example.com:84433", false),
    ("https://example.com:*", "https://example.com", true),
    ("https://example.com:*", "https://example.com:1", true),
    ("https://example.com:*", "http://example.com:1", false),
    ("https://example.com:*", "https://example.com.evil.example:1", false),
    ("https://example.com:*", "https://example.com:", false),
    ("https://example.com:*", "https://example.com:x", false),
    ("https://example.com:*", "https://example.com:+1", false),
    ("https://example.com:*", "https://example.com:65536", false),
    ("https://example.com:*", "https://example.com:1:2", false),
    ("app://host", "app://host:80", false),
    // Labels.
    ("https://*.example.com", "https://app.example.com", true),
    ("https://*.example.com", "https://a.b.c.example.com", true),
    ("https://*.example.com", "https://xn--bcher-kva.example.com", true),
    ("https://*.example.com", "https://example.com", false),
    ("https://*.example.com", "https://.example.com", false),
    ("https://*.example.com", "https://a..example.com", false),
    ("https://*.example.com", "https://evilexample.com", false),
    ("https://*.example.com", "https://evil.example", false),
    ("https://*.example.com", "https://app.example.com.evil.example", false),
    ("https://*.example.com", "https://evil.example#.example.com", false),
    ("https://*.example.com", "https://evil.example/.example.com", false),
    ("https://*.example.com", "https://evil.example?.example.com", false),
    ("https://*.example.com", "https://evil.example\\.example.com", false),
    ("https://*.example.com", "https://evil@app.example.com", false),
    ("https://*.example.com", "http://app.example.com", false),
    ("https://*.example.com", "https://app.example.com:8443", false),
    ("https://*.example.com:8443", "https://app.example.com:8443", true),
    ("https://*.example.com:*", "https://app.example.com:1", true),
    ("https://*.test", "https://a.test", true),
    ("https://*.test", "https://test", false),
    // Addresses.
    ("http://127.0.0.1", "http://127.0.0.1", true),
    ("http://127.0.0.1:*", "http://127.0.0.1:8098", true),
    ("http://127.0.0.1", "http://127.0.0.12", false),
    ("http://[::1]", "http://[::1]", true),
    ("http://[::1]", "http://[::1]:80", true),
    ("http://[::1]:8080", "http://[::1]:8080", true),
    ("http://[::1]:8080", "http://[::1]", false),
    ("http://[::1]:*", "http://[::1]:9", true),
    ("http://[0:0:0:0:0:0:0:1]", "http://[::1]", true),
    ("http://[2001:DB8::a]", "http://[2001:db8::A]", true),
    ("http://[::1]", "http://[::2]", false),
    ("http://[::1]", "http://::1", false),
    ("http://[::1]", "http://[::1]x", false),
    ("http://[::1]", "http://[::1", false),
    ("http://[::ffff:1.2.3.4]", "http://[::ffff:102:304]", true),
    // Pages without an origin of their own.
    ("null", "null", true),
    ("null", "NULL", false),
    ("null", "https://null", false),
    ("https://null", "null", false),
    ("https://*.example.com", "null", false),
    ("file://", "file://", true),
    ("file://", "file://host", false),
    // Any.
    ("*", "https://example.com", true),
    ("*", "http://[::1]:8080", true),
    ("*", "capacitor://localhost", true),
    ("*", "null", true),
    ("*", "", false),
    ("*", "*", false),
    ("*", "example.com", false),
    ("*", "https://", false),
    ("*", "https://example.com/", false),
    ("*", "https://example.com/path", false),
    ("*", "https://user@example.com", false),
    ("*", "https://exa mple.com", false),
    ("*", "https://a.example https://b.example", false),
    ("*", "https://*.example.com", false),
    ("*", "://example.com", false),
    ("*", "1http://example.com", false),
    ("*", "https://b\u{fc}cher.example", false),
];

#[test]
fn pages_are_allowed_by_whole_origins() {
    for (allowed, page, expected) in TABLE {
        let origin: Origin = allowed.parse().unwrap_or_else(|why| panic!("{allowed}: {why}"));
        assert_eq!(origin.allows(page), *expected, "{page} by {allowed}");
    }
}

#[test]
fn what_would_match_otherwise_than_it_looks_is_an_error() {
    for (text, why) in [
        ("", SCHEME),
        ("example.com", SCHEME),
        ("*.example.com", STAR),
        ("//example.com", SCHEME),
        ("NULL", SCHEME),
        ("https:example.com", SCHEME),
        ("*://example.com", STAR),
        ("https://*", STAR),
        ("https://*:*", STAR),
        ("https://*.", NAME),
        ("https://*example.com", STAR),
        ("https://example.*", STAR),
        ("https://example.com*", STAR),
        ("https://a.*.example.com", STAR),
        ("https://*.*.example.com", STAR),
        ("https://*.0.0.1", STAR),
        ("https://*.[::1]", STAR),
        ("https://[::*]", STAR),
        ("https://example.com/", NAME),
        ("https://example.com/*", STAR),
        ("https://user@example.com", NAME),
        ("https://user:password@example.com", PORT),
        ("https://.example.com", NAME),
        ("https://example.com.", NAME),
        ("https://b\u{fc}cher.example", NAME),
        ("https://", NAME),
        ("https://:443", NAME),
        ("https://example.com:", PORT),
        ("https://example.com:https", PORT),
        ("https://example.com:65536", PORT),
        ("https://example.com:80:*", PORT),
        ("https://[::1", ADDRESS),
        ("https://[1.2.3.4]", ADDRESS),
        ("https://[::1]80", PORT),
        (" https://example.com", SCHEME),
        ("https://example.com ", NAME),
    ] {
        assert_eq!(text.parse::<Origin>(), Err(why), "{text}");
    }
}

#[test]
fn an_origin_is_shown_as_it_is_written() {
    for text in ["*", "null", "https://*.example.com:*", "http://[::1]:8080", "https://example.com:443", "app://host"] {
        assert_eq!(format!("{:?}", text.parse::<Origin>().unwrap()), text);
    }
    let error = serde_json::from_str::<Origin>(r#""https://example.com/""#).unwrap_err().to_string();
    assert!(error.contains("\"https://example.com/\" is no origin: it must have a host"), "{error}");
}
