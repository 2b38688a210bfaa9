use core::time::Duration;
use std::sync::Arc;

use jsonwebtoken::{Algorithm as Signature, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;
use crate::config::{AccessRule, Auth, Jwks, Key, Secret, Who};

const NOW: UnixMillis = UnixMillis(1_000_000_000);

// Made for these tests alone.
const RSA: &str = include_str!("tests/rsa.pem");
const RSA_PUBLIC: &str = include_str!("tests/rsa.pub.pem");
const RSA_SHORT_PUBLIC: &str = include_str!("tests/rsa-1024.pub.pem");
const EC: &str = include_str!("tests/ec.pem");
const EC_PUBLIC: &str = include_str!("tests/ec.pub.pem");
const EC_OTHER_PUBLIC: &str = include_str!("tests/ec-p384.pub.pem");
const ED: &str = include_str!("tests/ed.pem");
const ED_PUBLIC: &str = include_str!("tests/ed.pub.pem");
const SET: &str = include_str!("tests/jwks.json");

fn signing_key(algorithm: Algorithm) -> (Signature, EncodingKey) {
    let theirs = ALGORITHMS.iter().find(|(ours, _)| *ours == algorithm).unwrap().1;
    let key = match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap(),
        Algorithm::ES256 => EncodingKey::from_ec_pem(EC.as_bytes()).unwrap(),
        Algorithm::EdDsa => EncodingKey::from_ed_pem(ED.as_bytes()).unwrap(),
        _ => EncodingKey::from_secret(b"s"),
    };
    (theirs, key)
}

fn sign_as(algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
    let (theirs, key) = signing_key(algorithm);
    encode(&Header { kid: kid.map(String::from), ..Header::new(theirs) }, claims, &key).unwrap()
}

fn key(algorithm: Algorithm, kid: Option<&str>) -> Key {
    let public = match algorithm {
        Algorithm::RS256 => Some(RSA_PUBLIC),
        Algorithm::ES256 => Some(EC_PUBLIC),
        Algorithm::EdDsa => Some(ED_PUBLIC),
        _ => None,
    };
    let secret = algorithm.is_symmetric().then(|| Secret::new("s"));
    Key { algorithm, kid: kid.map(String::from), secret, public_key: public.map(String::from) }
}

fn verifier(auth: Auth) -> Verifier {
    let access = vec![AccessRule::new("*", Who::Claim("tenant".into(), "acme".into()), Who::Admin)];
    let config = Config { auth, access, ..Config::default() };
    config.validate().unwrap();
    Verifier::new(&config)
}

fn with_keys(keys: Vec<Key>) -> Verifier {
    verifier(Auth { keys, ..Auth::default() })
}

fn judge(verifier: &Verifier, token: &str) -> Result<(), &'static str> {
    verifier.verify(token, NOW).map(drop).map_err(|error| error.code)
}

fn verify(claims: Value) -> Result<Identity, &'static str> {
    let token = sign_as(Algorithm::HS256, None, &claims);
    verifier(Auth::secret("s")).verify(&token, NOW).map_err(|error| error.code)
}

const ALL: [Algorithm; 6] =
    [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDsa];

#[test]
fn claims_become_an_identity() {
    let claims = json!({"sub": "7", "role": "user", "roles": ["editor", 5], "scope": "a b", "scp": ["c"], "rooms": ["project:*"],
        "tenant": ["acme", 7], "other": "x", "exp": 1_000_010, "iat": 999_000.5, "jti": "t1"});
    let identity = verify(claims).unwrap();
    assert_eq!(&*identity.user, "7");
    assert_eq!(identity.expires, Some(UnixMillis(1_000_040_000)), "the leeway of 30 s is included");
    assert_eq!((identity.issued, identity.jti.as_deref()), (Some(UnixMillis(999_000_500)), Some("t1")));
    assert!(["user", "editor", "5"].iter().all(|role| identity.has_role(role)) && !identity.has_role("admin"));
    assert!(["a", "b", "c"].iter().all(|scope| identity.has_scope(scope)) && !identity.has_scope("a b"));
    let grants = identity.grants.as_ref().unwrap();
    let tenants = ["acme", "7"].map(|tenant| ("tenant".into(), tenant.into()));
    assert_eq!(*grants.claims, tenants, "only what rules name is kept");
    assert!(identity.is(&Who::Authenticated, "project:1"));
    assert!(!identity.is(&Who::Authenticated, "task:1"));
    assert_eq!(&*verify(json!({"user_id": 12})).unwrap().user, "12", "the claims of system A, as a number");
    assert_eq!(verify(json!({"sub": "u"})).unwrap(), Identity::of("u"), "a plain token takes no more than that");
}

#[test]
fn times_are_judged_by_the_time_given() {
    for (claims, expected) in [
        (json!({"sub": "u", "exp": 999_970}), Err("token_expired")),
        (json!({"sub": "u", "exp": 999_971}), Ok(())),
        (json!({"sub": "u", "exp": 999_971.5}), Ok(())),
        (json!({"sub": "u", "exp": "soon"}), Err("token_invalid")),
        (json!({"sub": "u", "exp": -1}), Err("token_invalid")),
        (json!({"sub": "u", "exp": null}), Err("token_invalid")),
        (json!({"sub": "u", "exp": 1e300}), Ok(())),
        (json!({"sub": "u", "nbf": 1_000_030}), Ok(())),
        (json!({"sub": "u", "nbf": 1_000_031}), Err("token_not_yet_valid")),
        (json!({"sub": "u", "iat": "yesterday"}), Err("token_invalid")),
    ] {
        assert_eq!(verify(claims.clone()).map(drop), expected, "{claims}");
    }
}

#[test]
fn what_is_not_an_access_token_for_a_user_is_refused() {
    assert_eq!(verify(json!({"sub": "u", "token_type": "refresh"})), Err("token_type"));
    assert_eq!(verify(json!({"sub": "u", "type": "refresh"})), Err("token_type"));
    assert_eq!(verify(json!({"exp": 2_000_000})), Err("token_claims"));
    for (length, good) in [(MOST_USER_BYTES, true), (MOST_USER_BYTES + 1, false)] {
        assert_eq!(verify(json!({"sub": "u".repeat(length)})).is_ok(), good, "{length}");
    }
    for rooms in [json!("project:*"), json!([1]), json!(null), json!({})] {
        assert_eq!(verify(json!({"sub": "u", "rooms": rooms})), Err("token_invalid"), "{rooms}");
    }
}

#[test]
fn audience_and_issuer_are_those_of_the_configuration() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let verifier = verifier(Auth { audience: names(&["a", "b"]), issuer: names(&["i", "j"]), ..Auth::secret("s") });
    for (aud, iss, good) in [
        (json!("a"), json!("i"), true),
        (json!(["x", "b"]), json!("j"), true),
        (json!("x"), json!("i"), false),
        (json!([]), json!("i"), false),
        (json!("a"), json!("x"), false),
        (json!(null), json!("i"), false),
        (json!("a"), json!(null), false),
    ] {
        let token = sign_as(Algorithm::HS256, None, &json!({"sub": "u", "aud": aud, "iss": iss}));
        assert_eq!(judge(&verifier, &token).is_ok(), good, "{aud} {iss}");
    }
    let without = sign_as(Algorithm::HS256, None, &json!({"sub": "u"}));
    assert_eq!(judge(&verifier, &without), Err("token_invalid"));
}

#[test]
fn every_algorithm_is_checked_by_its_own_key_alone() {
    for algorithm in ALL {
        let verifier = with_keys(vec![key(algorithm, None)]);
        for other in ALL {
            let token = sign_as(other, None, &json!({"sub": "u"}));
            let expected = if other == algorithm { Ok(()) } else { Err("token_invalid") };
            assert_eq!(judge(&verifier, &token), expected, "{other:?} by {algorithm:?}");
        }
    }
}

#[test]
fn the_token_cannot_choose_its_algorithm() {
    let public = with_keys(vec![key(Algorithm::RS256, None), key(Algorithm::ES256, None)]);
    // The classic confusion: what everybody may know as the secret of an HMAC.
    for known in [RSA_PUBLIC, EC_PUBLIC, RSA_PUBLIC.trim()] {
        let key = EncodingKey::from_secret(known.as_bytes());
        let token = encode(&Header::new(Signature::HS256), &json!({"sub": "u"}), &key).unwrap();
        assert_eq!(judge(&public, &token), Err("token_invalid"));
    }
    let secret = verifier(Auth::secret("s"));
    let good = sign_as(Algorithm::HS256, None, &json!({"sub": "u"}));
    let (header, rest) = good.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    let head = |json: &str| base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, json);
    for forged in [
        String::new(),
        "..".into(),
        "a.b.c".into(),
        format!("{}.{payload}.", head(r#"{"alg":"none"}"#)),
        format!("{}.{payload}.{signature}", head(r#"{"alg":"None","typ":"JWT"}"#)),
        format!("{}.{payload}.{signature}", head(r#"{"typ":"JWT"}"#)),
        format!("{header}.{payload}."),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}.{payload}.{}", &signature[..signature.len() - 2]),
        format!("{header}.{}.{signature}", head(r#"{"sub":"admin"}"#)),
        format!("{good} "),
        format!("{good}="),
        format!("{good}\n"),
    ] {
        assert_eq!(judge(&secret, &forged), Err("token_invalid"), "{forged}");
    }
}

#[test]
fn headers_that_must_be_understood_are_not() {
    let key = EncodingKey::from_secret(b"s");
    let header = Header::new(Signature::HS256);
    let critical = Header { crit: Some(vec!["b64".into()]), ..header.clone() };
    let token = encode(&critical, &json!({"sub": "u"}), &key).unwrap();
    assert_eq!(judge(&verifier(Auth::secret("s")), &token), Err("token_invalid"));
    // What may be ignored is: a key that the token brings with it proves nothing.
    let (_, own) = signing_key(Algorithm::ES256);
    let bringing = Header { jku: Some("https://evil.example/keys".into()), alg: Signature::ES256, ..header };
    let token = encode(&bringing, &json!({"sub": "u"}), &own).unwrap();
    assert_eq!(judge(&verifier(Auth::secret("s")), &token), Err("token_invalid"));
}

#[test]
fn a_token_of_any_length_costs_little() {
    let token = |length: usize| sign_as(Algorithm::HS256, None, &json!({"sub": "u", "more": "x".repeat(length)}));
    let verifier = verifier(Auth::secret("s"));
    assert_eq!(judge(&verifier, &token(10_000)), Ok(()));
    assert_eq!(judge(&verifier, &token(20_000)), Err("token_invalid"));
}

#[test]
fn keys_are_found_by_their_names_and_tried_where_there_is_none() {
    let (old, new) = (Secret::new("old"), Secret::new("new"));
    let named = |kid: Option<&str>, secret: &Secret| Key { secret: Some(secret.clone()), ..key(Algorithm::HS256, kid) };
    let sign = |secret: &Secret, kid: Option<&str>| {
        let header = Header { kid: kid.map(String::from), ..Header::default() };
        encode(&header, &json!({"sub": "u"}), &EncodingKey::from_secret(secret.expose())).unwrap()
    };
    let both = with_keys(vec![named(Some("1"), &old), named(Some("2"), &new)]);
    let unnamed = with_keys(vec![named(None, &old), named(None, &new)]);
    for (verifier, secret, kid, good) in [
        (&both, &old, Some("1"), true),
        (&both, &new, Some("2"), true),
        (&both, &old, Some("2"), false),
        (&both, &old, Some("3"), false),
        (&both, &old, None, true),
        (&both, &new, None, true),
        (&unnamed, &old, Some("1"), true),
        (&unnamed, &new, None, true),
    ] {
        assert_eq!(judge(verifier, &sign(secret, kid)).is_ok(), good, "{kid:?}");
    }
    assert!(both.lacks_key(&sign(&old, Some("3"))) && !both.lacks_key(&sign(&new, Some("1"))) && !both.lacks_key("nonsense"));
}

#[test]
fn a_set_adds_its_keys() {
    let jwks = |algorithms: &[Algorithm]| Jwks {
        file: Some("keys.json".into()),
        url: None,
        algorithms: algorithms.into(),
        refresh: Duration::from_secs(60),
    };
    let usual = jwks(&[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDsa]);
    let own = Keys::of(&Auth::secret("s")).unwrap();
    let keys = own.with_set(&usual, SET).unwrap();
    assert_eq!(keys.len(), 4, "the secret of the set is none of a public algorithm, nor is what is for encryption");
    let mut verifier = verifier(Auth::secret("s"));
    let token = |algorithm, kid: &str| sign_as(algorithm, Some(kid), &json!({"sub": "u"}));
    let signed = [
        token(Algorithm::RS256, "rsa"),
        token(Algorithm::ES256, "ec"),
        token(Algorithm::EdDsa, "ed"),
        token(Algorithm::HS256, "x"),
    ];
    assert_eq!(signed.each_ref().map(|token| judge(&verifier, token).is_ok()), [false, false, false, true]);
    verifier.set_keys(Arc::new(keys));
    assert_eq!(signed.each_ref().map(|token| judge(&verifier, token).is_ok()), [true; 4]);
    assert_eq!(judge(&verifier, &token(Algorithm::ES256, "rsa")), Err("token_invalid"), "a name is one of an algorithm");

    assert_eq!(own.with_set(&jwks(&[Algorithm::ES256]), SET).unwrap().len(), 2);
    assert_eq!(own.with_set(&jwks(&[Algorithm::HS256]), SET).unwrap().len(), 2);
    assert_eq!(own.with_set(&usual, r#"{"keys":[]}"#).unwrap().len(), 1);
    let broken = [
        "",
        "[]",
        r#"{"keys":{}}"#,
        r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#,
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AQAB"}]}"#,
        r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AQAB","y":"AQAB"}]}"#,
    ];
    for document in broken {
        assert!(own.with_set(&usual, document).is_err(), "{document}");
    }
    let many = format!(r#"{{"keys":[{}]}}"#, vec![r#"{"kty":"oct","alg":"HS256","k":"c2VjcmV0"}"#; MOST_KEYS].join(","));
    assert!(own.with_set(&jwks(&[Algorithm::HS256]), &many).is_err());
    assert!(own.with_set(&usual, &" ".repeat(MOST_JWKS_BYTES + 1)).is_err());
}

#[test]
fn a_key_that_cannot_work_is_an_error_of_the_configuration() {
    let public = |algorithm, pem: &str| Key { public_key: Some(pem.into()), ..key(algorithm, None) };
    for (wrong, told) in [
        (public(Algorithm::RS256, "nonsense"), "RSA"),
        (public(Algorithm::RS256, EC_PUBLIC), "RSA"),
        (public(Algorithm::RS256, RSA), "RSA"),
        (public(Algorithm::RS256, RSA_SHORT_PUBLIC), "2048"),
        (public(Algorithm::ES256, RSA_PUBLIC), "P-256"),
        (public(Algorithm::ES256, EC_OTHER_PUBLIC), "P-256"),
        (public(Algorithm::ES256, EC), "P-256"),
        (public(Algorithm::EdDsa, EC_PUBLIC), "Ed25519"),
        (public(Algorithm::HS256, RSA_PUBLIC), "secret"),
        (Key { secret: Some(Secret::new("hunter2")), ..key(Algorithm::RS256, None) }, "no secret"),
        (Key { secret: None, ..key(Algorithm::HS512, None) }, "secret"),
        (Key { secret: Some(Secret::new("")), ..key(Algorithm::HS512, None) }, "empty"),
    ] {
        let error = Keys::of(&Auth { keys: vec![wrong], ..Auth::default() }).unwrap_err();
        assert_eq!(error.path, "auth.keys[0]");
        assert!(error.reason.contains(told) && !error.reason.contains("hunter2"), "{error}");
    }
}

#[test]
fn nothing_shows_a_key() {
    let keys =
        vec![key(Algorithm::RS256, Some("a")), Key { secret: Some(Secret::new("hunter2")), ..key(Algorithm::HS256, None) }];
    let auth = Auth { keys, ..Auth::secret("hunter2") };
    let shown = format!("{auth:?} {:?} {:?}", verifier(auth.clone()), Keys::of(&auth).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn what_is_revoked_is_refused() {
    let mut verifier = verifier(Auth::secret("s"));
    let token = |jti: &str, iat: u64| sign_as(Algorithm::HS256, None, &json!({"sub": "7", "jti": jti, "iat": iat}));
    let mut revoked = Revoked::default();
    let revocation = |subject| Revocation { subject, at: UnixMillis(500_500), until: UnixMillis(u64::MAX) };
    revoked.add(revocation(Subject::Token("a".into())));
    verifier.set_revoked(Arc::new(revoked.clone()));
    assert_eq!(judge(&verifier, &token("a", 900)), Err("token_revoked"));
    assert_eq!(judge(&verifier, &token("b", 400)), Ok(()));
    revoked.add(revocation(Subject::User("7".into())));
    verifier.set_revoked(Arc::new(revoked));
    let judged = [("b", 400), ("b", 500), ("b", 501)].map(|(jti, iat)| judge(&verifier, &token(jti, iat)).is_ok());
    assert_eq!(judged, [false, false, true], "what was issued later is another matter");
    let endless = sign_as(Algorithm::HS256, None, &json!({"sub": "7"}));
    assert_eq!(judge(&verifier, &endless), Err("token_revoked"), "nobody knows when it was issued");
}

#[test]
fn revocations_are_bounded_and_add_up() {
    let mut revoked = Revoked::default();
    let of = |user: u64, at: u64| Revocation {
        subject: Subject::User(user.to_string().into()),
        at: UnixMillis(at),
        until: UnixMillis(at),
    };
    for user in 0..MOST_REVOCATIONS as u64 + 3 {
        assert!(revoked.add(of(user, 1_000 + user)));
    }
    assert_eq!(revoked.len(), MOST_REVOCATIONS);
    assert!(!revoked.has(&Identity::of("0")) && revoked.has(&Identity::of("3")));
    assert!(!revoked.add(of(5, 900)) && !revoked.add(of(5, 1_005)) && revoked.add(of(5, 1_006)));
    assert!(revoked.forget(UnixMillis(u64::MAX)) && revoked.is_empty() && !revoked.forget(UnixMillis(u64::MAX)));
}
