//! What Roomcast is built from: licences, origins, and versions that are known to be bad.
//!
//! It knows what is written here, and no more: the database of advisories is no part of the package registry. Whoever can reach it runs
//! `cargo audit` as well.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    /// Nothing for those of this workspace.
    source: Option<String>,
    license: Option<String>,
}

/// Every package of the lock file.
static PACKAGES: LazyLock<Vec<Package>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the workspace");
    let arguments = ["metadata", "--locked", "--offline", "--all-features", "--format-version", "1"];
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let Metadata { packages } = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    assert!(packages.len() > 100, "the packages are found");
    packages
});

/// Licences that ask for nothing but their notice.
const LICENCES: [&str; 11] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "NCSA",
    "Unicode-3.0",
    "Zlib",
];

/// What must be there once: two of one would be two places to mend, and types that look the same and are not.
const ONCE: [&str; 14] = [
    "curve25519-dalek",
    "ed25519-dalek",
    "hmac",
    "http",
    "httparse",
    "jsonwebtoken",
    "p256",
    "redis",
    "ring",
    "rsa",
    "rustls",
    "sha2",
    "subtle",
    "tungstenite",
];

/// What is not to be there at all, and why.
const BANNED: [(&str, &str); 4] = [
    ("aws-lc-rs", "one library of cryptography for TLS is enough"),
    ("native-tls", "TLS is rustls's"),
    ("openssl", "TLS is rustls's"),
    ("openssl-sys", "TLS is rustls's"),
];

/// Packages of which older versions have an advisory that would concern us, and the first version that is good.
const GOOD_SINCE: [(&str, [u64; 3], &str); 13] = [
    ("bytes", [1, 11, 1], "RUSTSEC-2026-0007"),
    ("curve25519-dalek", [4, 1, 3], "RUSTSEC-2024-0344"),
    ("ed25519-dalek", [2, 0, 0], "RUSTSEC-2022-0093"),
    ("hashbrown", [0, 15, 1], "RUSTSEC-2024-0402"),
    ("idna", [1, 0, 0], "RUSTSEC-2024-0421"),
    ("ring", [0, 17, 12], "RUSTSEC-2025-0009"),
    ("rustls", [0, 23, 18], "RUSTSEC-2024-0399"),
    ("slab", [0, 4, 11], "RUSTSEC-2025-0047"),
    ("smallvec", [1, 6, 1], "RUSTSEC-2021-0003"),
    ("time", [0, 3, 47], "RUSTSEC-2026-0009"),
    ("tokio", [1, 44, 2], "RUSTSEC-2025-0023"),
    ("tracing-subscriber", [0, 3, 20], "RUSTSEC-2025-0055"),
    ("tungstenite", [0, 20, 1], "RUSTSEC-2023-0065"),
];

// RUSTSEC-2023-0071 stands against every version of `rsa`: the time that a decryption or a signature takes says something of the private
// key ("Marvin"). Roomcast has no private RSA key: it comes with the library of tokens, which verifies signatures with public ones.

#[test]
fn every_licence_is_one_that_we_have_agreed_to() {
    for Package { name, version, license, source } in PACKAGES.iter() {
        let licence = license.as_deref().unwrap_or_default();
        assert!(is_agreed(licence), "{name} {version} has the licence {licence:?}");
        assert!(source.is_some() || licence == "MIT OR Apache-2.0", "{name} is ours, and has another licence");
    }
    for (licence, agreed) in [
        ("MIT", true),
        ("", false),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Zlib", true),
        ("(MIT OR Zlib) AND GPL-3.0", false),
        ("GPL-3.0 OR (MIT AND GPL-2.0)", false),
        ("MIT WITH Classpath-exception-2.0", false),
    ] {
        assert_eq!(is_agreed(licence), agreed, "{licence}");
    }
}

#[test]
fn every_package_comes_from_the_public_registry() {
    for Package { name, source, .. } in PACKAGES.iter() {
        match source.as_deref() {
            None => assert!(name.starts_with("roomcast-"), "{name} is neither ours nor from the registry"),
            Some(source) => assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{name}"),
        }
    }
}

#[test]
fn what_security_depends_on_is_there_once() {
    let mut versions = BTreeMap::<&str, Vec<&str>>::new();
    for Package { name, version, .. } in PACKAGES.iter() {
        versions.entry(name).or_default().push(version);
    }
    for name in ONCE {
        let found = versions.get(name).map_or(&[][..], Vec::as_slice);
        assert!(found.len() <= 1, "{name} is there as {found:?}");
    }
    for (name, why) in BANNED {
        assert!(!versions.contains_key(name), "{name} is there, but {why}");
    }
    assert!(versions.contains_key("jsonwebtoken") && versions.contains_key("subtle"), "the names are right");
}

#[test]
fn no_version_is_known_to_be_bad() {
    for Package { name, version, .. } in PACKAGES.iter() {
        let known = GOOD_SINCE.iter().find(|(known, ..)| known == name);
        let Some((_, good, advisory)) = known else { continue };
        let numbers: Vec<u64> = version.split(['.', '-', '+']).take(3).map_while(|number| number.parse().ok()).collect();
        assert_eq!(numbers.len(), 3, "{name} {version}");
        assert!(numbers.as_slice() >= good.as_slice(), "{name} {version} has {advisory}");
    }
    assert!(PACKAGES.iter().any(|package| package.name == "tungstenite"), "the names are right");
}

/// Whether a licence expression (SPDX) can be met with licences that we have agreed to: one side of an OR, both of an AND, which binds
/// more tightly. Older ones write a slash for OR.
fn is_agreed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut words = words.as_slice();
    any(&mut words) && words.is_empty()
}

fn any(words: &mut &[&str]) -> bool {
    let mut agreed = all(words);
    while let ["OR", rest @ ..] = words {
        *words = rest;
        agreed |= all(words);
    }
    agreed
}

fn all(words: &mut &[&str]) -> bool {
    let mut agreed = one(words);
    while let ["AND", rest @ ..] = words {
        *words = rest;
        agreed &= one(words);
    }
    agreed
}

fn one(words: &mut &[&str]) -> bool {
    let (agreed, rest) = match words {
        ["(", rest @ ..] => {
            let mut inner = rest;
            let agreed = any(&mut inner);
            let closed = inner.first() == Some(&")");
            (agreed && closed, inner.get(1..).unwrap_or_default())
        }
        [licence, "WITH", exception, rest @ ..] => (LICENCES.contains(&&*format!("{licence} WITH {exception}")), rest),
        [licence, rest @ ..] => (LICENCES.contains(licence), rest),
        [] => (false, &[][..]),
    };
    *words = rest;
    agreed
}
