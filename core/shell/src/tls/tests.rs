use std::fs;
use std::mem::size_of;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::{env, io, process};

use proptest::collection::vec;
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::UnbufferedClientConnection;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::session::Session;
use super::*;
use crate::pipe::Pipe;
use crate::transport::Transport;

/// An authority, and files that are gone with it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    directory: PathBuf,
}

impl Authority {
    fn new() -> Authority {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("roomcast-tls-{}-{number}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (mut params, key) = (CertificateParams::new(Vec::new()).unwrap(), KeyPair::generate().unwrap());
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), certificate, directory }
    }

    /// A certificate for a name, and its key.
    fn issue(&self, name: &str) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        [certificate.pem(), key.serialize_pem()]
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn identity(&self, [certificate, key]: &[String; 2]) -> Identity {
        let (certificate, key) = (self.file("certificate.pem", certificate), self.file("key.pem", key));
        Identity { certificate, key, oldest: TlsVersion::V1_2 }
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::new(self.identity(&self.issue("a.example"))).unwrap()
    }

    fn connector(&self) -> TlsConnector {
        let authorities = Some(self.file("authorities.pem", &self.certificate));
        TlsConnector::new(&Trust { authorities, certificate: None }).unwrap()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Both ends of a connection, and the pipes below them.
struct Pair {
    server: Tls<Pipe>,
    client: Tls<Pipe>,
    at_server: Pipe,
    at_client: Pipe,
}

impl Pair {
    fn new(acceptor: &TlsAcceptor, connector: &TlsConnector) -> Pair {
        let (at_server, at_client) = (Pipe::default(), Pipe::default());
        let client = connector.connect(at_client.clone(), "a.example").unwrap();
        Pair { server: acceptor.accept(at_server.clone()).unwrap(), client, at_server, at_client }
    }

    /// One whose client speaks one version alone.
    fn of_version(authority: &Authority, acceptor: &TlsAcceptor, version: &'static SupportedProtocolVersion) -> Pair {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(Path::new(""), authority.certificate.as_bytes()).unwrap());
        let config = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let session = UnbufferedClientConnection::new(Arc::new(config), "a.example".try_into().unwrap()).unwrap();
        let (at_server, at_client) = (Pipe::default(), Pipe::default());
        let client = Tls::new(at_client.clone(), Session::Client(session)).unwrap();
        Pair { server: acceptor.accept(at_server.clone()).unwrap(), client, at_server, at_client }
    }

    /// Carries what each end has written to the other, in pieces of so many bytes: whether there was anything.
    fn carry(&self, piece: usize) -> bool {
        let carry = |from: &Pipe, to: &Pipe| {
            let bytes = std::mem::take(&mut from.ends().written);
            bytes.chunks(piece).for_each(|piece| to.feed(piece));
            !bytes.is_empty()
        };
        carry(&self.at_server, &self.at_client) | carry(&self.at_client, &self.at_server)
    }

    /// Goes on until both ends have nothing more to say.
    fn shake_hands(&mut self) -> io::Result<()> {
        loop {
            if let Poll::Ready(Err(error)) = self.client.poll_handshake(&mut nobody()) {
                return Err(error);
            }
            if let Poll::Ready(Err(error)) = self.server.poll_handshake(&mut nobody()) {
                // So that the client hears why.
                while self.carry(100) {}
                let told = self.client.poll_handshake(&mut nobody());
                return Err(io::Error::other(format!("{error}, and the client: {told:?}")));
            }
            if !self.carry(100) {
                return Ok(());
            }
        }
    }

    fn established() -> Pair {
        let authority = Authority::new();
        let mut pair = Pair::new(&authority.acceptor(), &authority.connector());
        pair.shake_hands().unwrap();
        pair
    }
}

fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn read(io: &mut Tls<Pipe>) -> Poll<io::Result<Vec<u8>>> {
    let (mut buffer, counter) = (vec![0; 70_000], Arc::new(Counter::default()));
    let waker = Waker::from(counter.clone());
    loop {
        let read = io.poll_read(&mut Context::from_waker(&waker), &mut buffer);
        // It may want others to have their turn.
        if read.is_ready() || counter.0.swap(0, Ordering::Relaxed) == 0 {
            return read.map_ok(|read| buffer[..read].to_vec());
        }
    }
}

/// What has arrived, and whether that is the end.
fn read_all(io: &mut Tls<Pipe>) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    loop {
        match read(io) {
            Poll::Ready(Ok(bytes)) if bytes.is_empty() => return (all, true),
            Poll::Ready(bytes) => all.extend(bytes.expect("it is read")),
            Poll::Pending => return (all, false),
        }
    }
}

fn write_all(io: &mut Tls<Pipe>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let Poll::Ready(Ok(written)) = io.poll_write(&mut nobody(), bytes) else { panic!("it cannot be written to") };
        bytes = &bytes[written..];
    }
}

fn message(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ at >> 8) as u8).collect()
}

#[test]
fn what_is_said_arrives_in_both_directions_and_versions_and_in_pieces_of_any_size() {
    let authority = Authority::new();
    let acceptor = authority.acceptor();
    for (version, piece) in [(&TLS12, 1), (&TLS13, 1), (&TLS12, 1_000), (&TLS13, 16_000)] {
        let mut pair = Pair::of_version(&authority, &acceptor, version);
        pair.shake_hands().unwrap();
        for length in [1, 100, 16_384, 100_000] {
            let message = message(length);
            write_all(&mut pair.client, &message);
            assert!(pair.carry(piece));
            assert!(read_all(&mut pair.server) == (message.clone(), false), "{version:?}: {length} bytes");
            write_all(&mut pair.server, &message);
            assert!(pair.carry(piece));
            assert!(read_all(&mut pair.client) == (message, false), "{version:?}: {length} bytes");
        }
    }
}

#[test]
fn a_small_buffer_gets_everything_as_well() {
    let mut pair = Pair::established();
    write_all(&mut pair.client, &message(20_000));
    assert!(pair.carry(16_000));
    let mut heard = Vec::new();
    let mut byte = [0];
    while let Poll::Ready(Ok(1)) = pair.server.poll_read(&mut nobody(), &mut byte) {
        heard.push(byte[0]);
        assert!(heard.len() == 20_000 || pair.server.poll_rearm(&mut nobody()).is_ready(), "there is more");
    }
    assert_eq!(heard, message(20_000));
}

#[test]
fn nothing_is_held_while_nothing_is_under_way() {
    let mut pair = Pair::established();
    write_all(&mut pair.server, &message(50_000));
    pair.carry(16_000);
    read_all(&mut pair.client);
    read_all(&mut pair.server);
    for end in [&pair.server, &pair.client] {
        assert_eq!(end.buffered(), 0);
    }
    println!("{} bytes of a session itself", size_of::<Tls<Pipe>>());
    assert_eq!(size_of::<Stream<Pipe>>(), 2 * size_of::<usize>(), "a plain stream is hardly larger than its socket");
}

#[test]
fn a_stream_below_that_is_full_holds_the_writer_back_and_one_record_is_kept() {
    let mut pair = Pair::established();
    pair.at_server.ends().is_full = true;
    let long = message(100_000);
    let Poll::Ready(Ok(taken)) = pair.server.poll_write(&mut nobody(), &long) else { panic!("nothing was held yet") };
    assert!(pair.server.poll_write(&mut nobody(), &long[taken..]).is_pending());
    assert!(pair.server.poll_flush(&mut nobody()).is_pending());
    assert!(pair.server.buffered() < 17_000, "{} bytes are held", pair.server.buffered());

    // A task that only reads passes it on, and wakes who could not write.
    pair.at_server.ends().is_full = false;
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(counter.clone());
    assert!(pair.server.poll_read(&mut Context::from_waker(&waker), &mut [0; 100]).is_pending());
    assert_eq!(counter.0.load(Ordering::Relaxed), 1);
    write_all(&mut pair.server, &long[taken..]);
    pair.carry(16_000);
    assert!(read_all(&mut pair.client).0 == long);
}

#[test]
fn whoever_could_not_write_for_the_handshake_is_woken_when_a_read_has_ended_it() {
    let authority = Authority::new();
    let mut pair = Pair::new(&authority.acceptor(), &authority.connector());
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(counter.clone());
    let cx = &mut Context::from_waker(&waker);
    while pair.client.poll_write(cx, b"hello").is_pending() {
        assert_eq!(counter.0.swap(0, Ordering::Relaxed), 0, "nothing has changed");
        let _ = read(&mut pair.server);
        pair.carry(100);
        let _ = pair.client.poll_read(cx, &mut [0; 100]);
        if counter.0.load(Ordering::Relaxed) == 0 {
            pair.carry(100);
        } else {
            break;
        }
    }
    assert!(pair.client.poll_write(cx, b"hello").is_ready());
    pair.carry(100);
    assert_eq!(read_all(&mut pair.server).0, b"hello");
}

#[test]
fn each_end_says_when_it_says_nothing_more_and_goes_on_listening() {
    let mut pair = Pair::established();
    write_all(&mut pair.client, b"the last");
    assert!(pair.client.poll_close(&mut nobody()).is_ready());
    pair.carry(100);
    assert_eq!(read_all(&mut pair.server), (b"the last".to_vec(), true));
    write_all(&mut pair.server, b"an answer");
    pair.carry(100);
    assert_eq!(read_all(&mut pair.client), (b"an answer".to_vec(), false));
    let Pair { server, mut client, at_server, at_client } = pair;
    drop(server);
    at_client.feed(&at_server.ends().written);
    assert_eq!(read_all(&mut client), (Vec::new(), true), "one that is dropped has said so");
}

#[test]
fn an_end_without_a_word_is_an_end() {
    let mut pair = Pair::established();
    pair.at_server.ends().ended = true;
    assert_eq!(read_all(&mut pair.server), (Vec::new(), true));
    let authority = Authority::new();
    let mut pair = Pair::new(&authority.acceptor(), &authority.connector());
    pair.at_server.ends().ended = true;
    assert!(matches!(read(&mut pair.server), Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof));
}

#[test]
fn a_handshake_can_be_given_up() {
    let authority = Authority::new();
    let mut pair = Pair::new(&authority.acceptor(), &authority.connector());
    let _ = pair.client.poll_handshake(&mut nobody());
    let hello = pair.at_client.ends().written[..50].to_vec();
    pair.at_server.feed(&hello);
    assert!(read(&mut pair.server).is_pending());
    assert!(pair.server.poll_close(&mut nobody()).is_ready());
    assert_eq!(read_all(&mut pair.server), (Vec::new(), true));
    assert!(pair.at_server.ends().written.is_empty(), "there is nobody yet to be told");
}

#[test]
fn plain_http_is_told_so() {
    let mut server = Authority::new().acceptor().accept(Pipe::default()).unwrap();
    let pipe = server.io().clone();
    pipe.feed(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n");
    assert!(matches!(read(&mut server), Poll::Ready(Err(_))));
    assert!(pipe.written().starts_with("HTTP/1.1 400 ") && pipe.written().contains("HTTPS"), "{}", pipe.written());
}

#[test]
fn a_version_that_is_too_old_is_refused_and_the_client_told() {
    let authority = Authority::new();
    let identity = Identity { oldest: TlsVersion::V1_3, ..authority.identity(&authority.issue("a.example")) };
    let acceptor = TlsAcceptor::new(identity).unwrap();
    let error = Pair::of_version(&authority, &acceptor, &TLS12).shake_hands().unwrap_err().to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
    Pair::of_version(&authority, &acceptor, &TLS13).shake_hands().unwrap();
}

#[test]
fn a_server_that_cannot_prove_who_it_is_is_left() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let error = Pair::new(&stranger.acceptor(), &authority.connector()).shake_hands().unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let other = TlsAcceptor::new(authority.identity(&authority.issue("b.example"))).unwrap();
    let error = Pair::new(&other, &authority.connector()).shake_hands().unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
    assert!(authority.connector().connect(Pipe::default(), "no host").is_err());
}

#[test]
fn a_certificate_is_replaced_for_those_who_come_later() {
    let authority = Authority::new();
    let acceptor = authority.acceptor();
    let connector = authority.connector();
    let mut before = Pair::new(&acceptor, &connector);
    before.shake_hands().unwrap();
    assert!(!acceptor.reload().unwrap(), "nothing is new");

    // The certificate has been written already, and its key not yet.
    let [certificate, key] = authority.issue("b.example");
    authority.file("certificate.pem", &certificate);
    let error = acceptor.reload().unwrap_err().to_string();
    assert!(error.contains("certificate.pem") && error.contains("KeyMismatch"), "{error}");
    assert!(!acceptor.reload().unwrap(), "the same fault is told once");
    Pair::new(&acceptor, &connector).shake_hands().unwrap();

    fs::remove_file(authority.directory.join("key.pem")).unwrap();
    assert!(acceptor.reload().unwrap_err().to_string().contains("key.pem"));
    assert!(!acceptor.reload().unwrap(), "here as well");

    authority.file("key.pem", &key);
    assert!(acceptor.reload().unwrap());
    let error = Pair::new(&acceptor, &connector).shake_hands().unwrap_err().to_string();
    assert!(error.contains("b.example"), "{error}");
    write_all(&mut before.client, b"still here");
    before.carry(100);
    assert_eq!(read_all(&mut before.server).0, b"still here");
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_name() {
    let authority = Authority::new();
    let [certificate, key] = authority.issue("a.example");
    for (certificate, key, told) in [
        (certificate.as_str(), certificate.as_str(), ["key.pem", "no private key"]),
        (&key, &key, ["certificate.pem", "no certificate"]),
        (&certificate[..300], &key, ["certificate.pem", "cut"]),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key, ["certificate.pem", "BadEncoding"]),
        (&certificate, &authority.issue("a.example")[1], ["certificate.pem", "KeyMismatch"]),
    ] {
        let error = TlsAcceptor::new(authority.identity(&[certificate.into(), key.into()])).unwrap_err().to_string();
        assert!(told.iter().all(|told| error.contains(told)) && !error.contains("MII"), "{error}");
    }
    let absent = Trust { authorities: Some("/nowhere/ca.pem".into()), certificate: None };
    assert!(TlsConnector::new(&absent).unwrap_err().to_string().starts_with("/nowhere/ca.pem: "));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_are_survived_and_little_is_held(
        pieces in vec(vec(any::<u8>(), 1..2_000), 1..40),
        types in vec((prop_oneof![Just(20), Just(21), Just(22), Just(23)], 0..2_000_u16), 1..40),
    ) {
        thread_local!(static ACCEPTOR: TlsAcceptor = Authority::new().acceptor());
        let accept = || ACCEPTOR.with(|acceptor| acceptor.accept(Pipe::default()).unwrap());
        let (mut nonsense, mut records) = (accept(), accept());
        for (piece, (kind, length)) in pieces.iter().zip(&types) {
            nonsense.io().feed(piece);
            // Records that look like some, so that more than their headers is looked at.
            let [high, low] = length.to_be_bytes();
            records.io().feed(&[&[*kind, 3, 3, high, low], &piece[..piece.len().min(usize::from(*length))]].concat());
        }
        for server in [&mut nonsense, &mut records] {
            for _ in 0..50 {
                let _ = read(server);
                let _ = server.poll_write(&mut nobody(), b"hello");
                prop_assert!(server.buffered() < 200_000);
            }
        }
    }
}
