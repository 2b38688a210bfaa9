//! Tokens, good and bad, on real connections of both dialects: a table of cases, each tried wherever a token may stand.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use roomcast_tests::gateway_tests;
use roomcast_tests::real::client::unix_time;
use roomcast_tests::real::gateway::Gateway;
use roomcast_tests::real::raw::{FINAL, RawClient, TEXT, masked_frame};
use roomcast_tests::real::setup::{SECRET, Setup};
use serde_json::{Value, json};

gateway_tests!(every_token_is_judged_alike_in_both_dialects, credentials_that_stand_in_several_places_are_taken_in_order);

const RSA: &str = include_str!("../../core/src/token/tests/rsa.pem");
const RSA_PUBLIC: &str = include_str!("../../core/src/token/tests/rsa.pub.pem");
const EC: &str = include_str!("../../core/src/token/tests/ec.pem");
const EC_PUBLIC: &str = include_str!("../../core/src/token/tests/ec.pub.pem");
const ED: &str = include_str!("../../core/src/token/tests/ed.pem");
const ED_PUBLIC: &str = include_str!("../../core/src/token/tests/ed.pub.pem");

const OLD: &str = "the secret of last month, which is still good";
const NEW: &str = "the secret of this month, which is good as well";

/// What a token is expected to be: good, or refused with a code.
type Expected = Result<(), &'static str>;

const INVALID: Expected = Err("token_invalid");

struct Case {
    name: String,
    token: String,
    expected: Expected,
}

fn config() -> String {
    format!(
        r#"
[auth]
leeway = "30s"
audience = ["roomcast", "other"]
issuer = "https://login.example"
[[auth.keys]]
algorithm = "HS384"
secret = "{SECRET}"
[[auth.keys]]
algorithm = "HS512"
kid = "old"
secret = "{OLD}"
[[auth.keys]]
algorithm = "HS512"
kid = "new"
secret = "{NEW}"
[[auth.keys]]
algorithm = "RS256"
kid = "rsa"
public_key = """
{RSA_PUBLIC}"""
[[auth.keys]]
algorithm = "ES256"
kid = "ec"
public_key = """
{EC_PUBLIC}"""
[[auth.keys]]
algorithm = "EdDSA"
public_key = """
{ED_PUBLIC}"""
[[routes]]
path = "/ws"
dialect = "json"
[[routes]]
path = "/socket.io/"
dialect = "socketio"
"#
    )
}

fn secret(secret: &str) -> EncodingKey {
    EncodingKey::from_secret(secret.as_bytes())
}

fn usual() -> Value {
    json!({"sub": "alice", "aud": "roomcast", "iss": "https://login.example", "token_type": "access", "exp": unix_time() + 600})
}

/// The usual claims with others laid over them; null takes one away.
fn claims(more: &Value) -> Value {
    let mut claims = usual();
    for (name, value) in more.as_object().expect("claims are an object") {
        claims[name] = value.clone();
    }
    let all = claims.as_object().expect("it is one").iter().filter(|(_, value)| !value.is_null());
    all.map(|(name, value)| (name.clone(), value.clone())).collect::<serde_json::Map<_, _>>().into()
}

fn sign(algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
    encode(&Header { kid: kid.map(String::from), ..Header::new(algorithm) }, claims, key).expect("claims can be signed")
}

fn usual_token(more: &Value) -> String {
    sign(Algorithm::HS256, None, &secret(SECRET), &claims(more))
}

/// A token whose parts are written by hand, signed as HS256 where there is a key.
fn by_hand(header: &str, payload: &str, key: Option<&str>) -> String {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part(header), part(payload));
    let signature = key.map(|key| jsonwebtoken::crypto::sign(message.as_bytes(), &secret(key), Algorithm::HS256));
    let signature = signature.map(|signature| signature.expect("it can be signed")).unwrap_or_default();
    format!("{message}.{signature}")
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |name: &str, token: String, expected: Expected| {
        cases.push(Case { name: name.into(), token, expected });
    };
    let (now, good) = (unix_time(), usual_token(&json!({})));
    let rsa = EncodingKey::from_rsa_pem(RSA.as_bytes()).expect("a key");
    let ec = EncodingKey::from_ec_pem(EC.as_bytes()).expect("a key");
    let ed = EncodingKey::from_ed_pem(ED.as_bytes()).expect("a key");
    let all = claims(&json!({}));

    // Every algorithm, with and without the name of its key.
    case("HS256 by the secret", good.clone(), Ok(()));
    case("HS384", sign(Algorithm::HS384, None, &secret(SECRET), &all), Ok(()));
    case("HS512 by the old key", sign(Algorithm::HS512, Some("old"), &secret(OLD), &all), Ok(()));
    case("HS512 by the new key", sign(Algorithm::HS512, Some("new"), &secret(NEW), &all), Ok(()));
    case("HS512 by trial", sign(Algorithm::HS512, None, &secret(NEW), &all), Ok(()));
    case("RS256", sign(Algorithm::RS256, Some("rsa"), &rsa, &all), Ok(()));
    case("RS256 by trial", sign(Algorithm::RS256, None, &rsa, &all), Ok(()));
    case("ES256", sign(Algorithm::ES256, Some("ec"), &ec, &all), Ok(()));
    case("EdDSA", sign(Algorithm::EdDSA, None, &ed, &all), Ok(()));
    case("EdDSA under a name that no key has", sign(Algorithm::EdDSA, Some("any"), &ed, &all), Ok(()));

    // Keys that did not sign it.
    case("another secret", sign(Algorithm::HS256, None, &secret("another"), &all), INVALID);
    case("an empty secret", sign(Algorithm::HS256, None, &secret(""), &all), INVALID);
    case("the secret with a line break", sign(Algorithm::HS256, None, &secret(&format!("{SECRET}\n")), &all), INVALID);
    case("the old key under the new name", sign(Algorithm::HS512, Some("new"), &secret(OLD), &all), INVALID);
    case("an unknown name", sign(Algorithm::HS512, Some("next"), &secret(NEW), &all), INVALID);
    case("a name with another case", sign(Algorithm::HS512, Some("NEW"), &secret(NEW), &all), INVALID);
    case("a path as a name", sign(Algorithm::HS512, Some("../../dev/null"), &secret(""), &all), INVALID);
    case("SQL as a name", sign(Algorithm::HS512, Some("' or 1=1 --"), &secret(NEW), &all), INVALID);
    case("the name of an RSA key", sign(Algorithm::ES256, Some("rsa"), &ec, &all), INVALID);

    // Algorithms that are not those of the keys.
    case("HS256 by an HS512 key", sign(Algorithm::HS256, Some("old"), &secret(OLD), &all), INVALID);
    case("HS512 by the HS256 secret", sign(Algorithm::HS512, None, &secret(SECRET), &all), INVALID);
    case("HS256 by the RSA key's PEM", sign(Algorithm::HS256, None, &secret(RSA_PUBLIC), &all), INVALID);
    case("HS256 by the RSA key's PEM, named", sign(Algorithm::HS256, Some("rsa"), &secret(RSA_PUBLIC), &all), INVALID);
    case("HS256 by the trimmed PEM", sign(Algorithm::HS256, None, &secret(RSA_PUBLIC.trim()), &all), INVALID);
    case("HS384 by the EC key's PEM", sign(Algorithm::HS384, Some("ec"), &secret(EC_PUBLIC), &all), INVALID);
    case("HS512 by the Ed25519 key's PEM", sign(Algorithm::HS512, None, &secret(ED_PUBLIC), &all), INVALID);
    case("RS384", sign(Algorithm::RS384, Some("rsa"), &rsa, &all), INVALID);
    case("RS512", sign(Algorithm::RS512, Some("rsa"), &rsa, &all), INVALID);
    case("PS256", sign(Algorithm::PS256, Some("rsa"), &rsa, &all), INVALID);
    for alg in ["none", "None", "NONE", "nOnE", "", "HS1", "hs256", "RS256 ", "dir", "A256GCM"] {
        let header = json!({"alg": alg, "typ": "JWT"}).to_string();
        case(&format!("the algorithm {alg:?}, unsigned"), by_hand(&header, &all.to_string(), None), INVALID);
        case(&format!("the algorithm {alg:?}, signed"), by_hand(&header, &all.to_string(), Some(SECRET)), INVALID);
    }
    case("no algorithm", by_hand(r#"{"typ":"JWT"}"#, &all.to_string(), Some(SECRET)), INVALID);
    case("several algorithms", by_hand(r#"{"alg":["HS256","none"]}"#, &all.to_string(), Some(SECRET)), INVALID);
    case("the algorithm twice", by_hand(r#"{"alg":"none","alg":"HS256"}"#, &all.to_string(), Some(SECRET)), INVALID);

    // Headers.
    case("a header of its own", by_hand(r#"{"alg":"HS256","x":1}"#, &all.to_string(), Some(SECRET)), Ok(()));
    case("no type", by_hand(r#"{"alg":"HS256"}"#, &all.to_string(), Some(SECRET)), Ok(()));
    case("something critical", by_hand(r#"{"alg":"HS256","crit":["x"],"x":1}"#, &all.to_string(), Some(SECRET)), INVALID);
    case("compressed", by_hand(r#"{"alg":"HS256","zip":"DEF"}"#, &all.to_string(), Some(SECRET)), INVALID);
    case("a number as the key's name", by_hand(r#"{"alg":"HS256","kid":1}"#, &all.to_string(), Some(SECRET)), INVALID);
    case("a URL for keys", by_hand(r#"{"alg":"HS256","jku":"http://127.0.0.1:1/"}"#, &all.to_string(), Some("x")), INVALID);
    case(
        "a key that it brings",
        {
            let jwk = json!({"kty": "oct", "k": BASE64_URL_SAFE_NO_PAD.encode("x")});
            by_hand(&json!({"alg": "HS256", "jwk": jwk}).to_string(), &all.to_string(), Some("x"))
        },
        INVALID,
    );
    case("a list as header", by_hand(r#"["HS256"]"#, &all.to_string(), Some(SECRET)), INVALID);
    case("an empty header", by_hand("", &all.to_string(), Some(SECRET)), INVALID);

    // Forms.
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    case("nothing but dots", "..".into(), INVALID);
    case("one part", "nonsense".into(), INVALID);
    case("two parts", head.into(), INVALID);
    case("no signature", format!("{head}."), INVALID);
    case("half a signature", format!("{head}.{}", &signature[..20]), INVALID);
    case("a longer signature", format!("{good}AAAA"), INVALID);
    case("a signature of its own", format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode([0; 32])), INVALID);
    case("four parts", format!("{good}.{signature}"), INVALID);
    case("five parts", "a.b.c.d.e".into(), INVALID);
    case("padded", format!("{good}="), INVALID);
    case("with a plus in the signature", format!("{head}.+{}", &signature[1..]), INVALID);
    case(
        "the claims of somebody else",
        {
            let (header, _) = head.split_once('.').expect("two parts");
            let forged = BASE64_URL_SAFE_NO_PAD.encode(claims(&json!({"sub": "root", "role": "admin"})).to_string());
            format!("{header}.{forged}.{signature}")
        },
        INVALID,
    );
    case("claims that are a list", by_hand(r#"{"alg":"HS256"}"#, "[]", Some(SECRET)), INVALID);
    case("claims that are no JSON", by_hand(r#"{"alg":"HS256"}"#, "sub=alice", Some(SECRET)), INVALID);
    case("deep claims", by_hand(r#"{"alg":"HS256"}"#, &format!("{}{}", "[".repeat(500), "]".repeat(500)), Some(SECRET)), INVALID);
    case("long", usual_token(&json!({"more": "x".repeat(3_000)})), Ok(()));

    // Times, with a leeway of 30 seconds.
    case("expired within the leeway", usual_token(&json!({"exp": now - 10})), Ok(()));
    case("expired a second beyond the leeway", usual_token(&json!({"exp": now - 31})), Err("token_expired"));
    case("expired at the end of the leeway", usual_token(&json!({"exp": now - 30})), Err("token_expired"));
    case("expired long ago", usual_token(&json!({"exp": 1})), Err("token_expired"));
    case("expired at the beginning of time", usual_token(&json!({"exp": 0})), Err("token_expired"));
    case("never", usual_token(&json!({"exp": null})), Ok(()));
    case("a fraction of a second", usual_token(&json!({"exp": now as f64 + 100.5})), Ok(()));
    case("as far as can be", usual_token(&json!({"exp": u64::MAX})), Ok(()));
    case("an end before all time", usual_token(&json!({"exp": -1})), INVALID);
    case("an end in words", usual_token(&json!({"exp": (now + 600).to_string()})), INVALID);
    case("a list of ends", usual_token(&json!({"exp": [now + 600]})), INVALID);
    case("true as an end", usual_token(&json!({"exp": true})), INVALID);
    case("from a moment ago", usual_token(&json!({"nbf": now - 1})), Ok(()));
    case("from soon, within the leeway", usual_token(&json!({"nbf": now + 20})), Ok(()));
    case("from later", usual_token(&json!({"nbf": now + 60})), Err("token_not_yet_valid"));
    case("from a word on", usual_token(&json!({"nbf": "now"})), INVALID);
    case("issued in the future", usual_token(&json!({"iat": now + 1_000})), Ok(()));

    // Claims.
    case("a refresh token", usual_token(&json!({"token_type": "refresh"})), Err("token_type"));
    case("a refresh token by another name", usual_token(&json!({"token_type": null, "type": "refresh"})), Err("token_type"));
    case("a type that is a list", usual_token(&json!({"token_type": ["access"]})), Err("token_type"));
    case("no type at all", usual_token(&json!({"token_type": null})), Ok(()));
    case("nobody's", usual_token(&json!({"sub": null})), Err("token_claims"));
    case("an empty user", usual_token(&json!({"sub": ""})), Err("token_claims"));
    case("a user that is an object", usual_token(&json!({"sub": {"id": 1}})), INVALID);
    case("a user that is a number", usual_token(&json!({"sub": 7})), Ok(()));
    case("a user of another script", usual_token(&json!({"sub": "\u{7528}\u{6237} \u{1f600} \u{202e}x"})), Ok(()));
    case("a user with quotes", usual_token(&json!({"sub": "a\"b\\c"})), Ok(()));
    case("a user named by another claim", usual_token(&json!({"sub": null, "user_id": "alice"})), Ok(()));
    case("rooms that are a text", usual_token(&json!({"rooms": "*"})), INVALID);
    case("rooms that are numbers", usual_token(&json!({"rooms": [1]})), INVALID);
    case("no rooms", usual_token(&json!({"rooms": []})), Ok(()));
    case("another audience", usual_token(&json!({"aud": "else"})), INVALID);
    case("several audiences, one of them right", usual_token(&json!({"aud": ["else", "other"]})), Ok(()));
    case("an audience that only begins like it", usual_token(&json!({"aud": "roomcast2"})), INVALID);
    case("no audience", usual_token(&json!({"aud": null})), INVALID);
    case("an empty list of audiences", usual_token(&json!({"aud": []})), INVALID);
    case("another issuer", usual_token(&json!({"iss": "https://evil.example"})), INVALID);
    case("an issuer with a slash more", usual_token(&json!({"iss": "https://login.example/"})), INVALID);
    case("no issuer", usual_token(&json!({"iss": null})), INVALID);
    cases
}

fn every_token_is_judged_alike_in_both_dialects(binary: &Path) {
    let gateway = Setup::new(binary).config(&config()).start();
    let cases = cases();
    assert!(cases.len() >= 80, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for Case { name, token, expected } in &cases {
        let judged = [json_in_handshake(&gateway, token), json_in_frame(&gateway, token), socketio(&gateway, token)];
        if judged.iter().any(|judged| judged.as_ref().map(drop).map_err(String::as_str) != *expected) {
            wrong.push(format!("{name}: {judged:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A token that is far too long is refused by what bounds heads and frames, or like any other.
    let huge = usual_token(&json!({"more": "x".repeat(100_000)}));
    let mut client = RawClient::connect(gateway.addr());
    client.send(&roomcast_tests::real::raw::upgrade_request("/ws", &[("authorization", &format!("Bearer {huge}"))]));
    assert_eq!(client.response().status, 431);
    assert_eq!(socketio(&gateway, &huge), Err("token_invalid".to_owned()));
    json_in_handshake(&gateway, &usual_token(&json!({}))).expect("the gateway goes on");
}

/// What the JSON dialect says of a token in the handshake: nothing, or the code of the refusal.
fn json_in_handshake(gateway: &Gateway, token: &str) -> Result<(), String> {
    let mut client = RawClient::upgraded(gateway.addr(), "/ws", &[("authorization", &format!("Bearer {token}"))]);
    verdict(&client.text())
}

fn json_in_frame(gateway: &Gateway, token: &str) -> Result<(), String> {
    let mut client = RawClient::upgraded(gateway.addr(), "/ws", &[]);
    assert!(client.text().contains("auth_required"));
    client.send(&masked_frame(FINAL | TEXT, json!({"type": "auth", "data": {"token": token}}).to_string().as_bytes()));
    verdict(&client.text())
}

fn verdict(text: &str) -> Result<(), String> {
    let frame: Value = serde_json::from_str(text).expect("frames are JSON");
    match frame["type"].as_str() {
        Some("auth_success") => Ok(()),
        Some("auth_failed") => Err(frame["data"]["code"].as_str().expect("a code").to_owned()),
        _ => Err(text.to_owned()),
    }
}

/// What Socket.IO says: the words of a refusal stand for the codes of the other dialect.
fn socketio(gateway: &Gateway, token: &str) -> Result<(), String> {
    let mut client = RawClient::upgraded(gateway.addr(), "/socket.io/?EIO=4&transport=websocket", &[]);
    assert!(client.text().starts_with('0'));
    client.send(&masked_frame(FINAL | TEXT, format!("40{}", json!({ "token": token })).as_bytes()));
    let answer = client.text();
    let Some(error) = answer.strip_prefix("44") else {
        return if answer.starts_with("40{\"sid\"") { Ok(()) } else { Err(answer) };
    };
    let error: Value = serde_json::from_str(error).expect("errors are JSON");
    assert_eq!(error["data"]["code"], "AUTH_FAILED");
    let message = error["message"].as_str().expect("a message");
    let codes = [
        ("token_invalid", "The token is not valid"),
        ("token_expired", "The token has expired"),
        ("token_not_yet_valid", "The token is not valid yet"),
        ("token_type", "The token is not an access token"),
        ("token_claims", "The token names no user"),
    ];
    Err(codes.iter().find(|(_, text)| *text == message).map_or(message, |(code, _)| code).to_owned())
}

fn credentials_that_stand_in_several_places_are_taken_in_order(binary: &Path) {
    let gateway = Setup::new(binary).config(&config()).start();
    let (good, bad) = (&usual_token(&json!({})), "nonsense");
    let bearer = |token: &str| ("authorization".to_owned(), format!("Bearer {token}"));
    let protocol = |token: &str| ("sec-websocket-protocol".to_owned(), format!("auth-{token}"));
    let query = |token: &str| format!("token={token}");
    for (headers, queries, expected) in [
        (vec![bearer(good)], query(bad), Ok(())),
        (vec![bearer(bad)], query(good), INVALID),
        (vec![bearer(good), protocol(bad)], query(bad), Ok(())),
        (vec![protocol(bad)], query(good), Ok(())),
        (vec![protocol(good)], query(bad), INVALID),
        (vec![protocol(good)], "x=1".into(), Ok(())),
        (vec![bearer(good), bearer(good)], String::new(), INVALID),
        (vec![bearer(good), bearer(bad)], String::new(), INVALID),
        (vec![bearer(good), ("authorization".into(), "Basic eDp5".into())], String::new(), INVALID),
        (vec![("authorization".into(), "Basic eDp5".into())], query(good), Ok(())),
        (vec![("authorization".into(), "Bearer".into())], query(good), INVALID),
        (vec![("authorization".into(), format!("bEARER   {good}"))], String::new(), Ok(())),
        (vec![("authorization".into(), format!("Bearer {good} {good}"))], String::new(), INVALID),
        (vec![("authorization".into(), format!("Bearer {good},"))], String::new(), INVALID),
        (vec![], format!("{}&{}", query(good), query(good)), INVALID),
        (vec![], format!("{}&Token={bad}", query(good)), Ok(())),
        (vec![], query(""), INVALID),
        (vec![protocol("")], String::new(), INVALID),
        (vec![("cookie".into(), format!("token={good}"))], String::new(), Err("auth_required")),
        (vec![("x-token".into(), good.clone())], String::new(), Err("auth_required")),
    ] {
        let borrowed: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut client = RawClient::upgraded(gateway.addr(), &format!("/ws?{queries}"), &borrowed);
        let text = client.text();
        let judged = if text.contains("\"auth_required\"") { Err("auth_required".to_owned()) } else { verdict(&text) };
        assert_eq!(judged.as_ref().map(drop).map_err(String::as_str), expected, "{headers:?} {queries}");
    }
}
