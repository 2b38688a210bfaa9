//! Certificates of a test's own, and clients that look at them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, process};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use roomcast_shell::tls::{Identity, TlsAcceptor, TlsConnector, TlsVersion, Trust};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use tungstenite::client::ClientRequestBuilder;
use tungstenite::{Message, WebSocket};

use super::PATIENCE;
use super::http::{Response, parse};
use super::raw::get_request;

/// A TCP connection that is encrypted.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// An authority that issues certificates, into a directory that is gone with it.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    directory: PathBuf,
}

impl Authority {
    /// An authority that nobody knows.
    ///
    /// # Panics
    ///
    /// When its directory cannot be made.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("roomcast-tls-{}-real-{number}", process::id()));
        fs::create_dir_all(&directory).expect("the directory can be made");
        let mut params = CertificateParams::new(Vec::new()).expect("no name is wrong");
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("there is chance");
        let certificate = params.self_signed(&key).expect("it can be signed").pem();
        let authority = Self { issuer: Issuer::new(params, key), certificate, directory };
        fs::write(authority.path("ca.pem"), &authority.certificate).expect("the file can be written");
        authority
    }

    /// Issues a certificate for 127.0.0.1 and localhost: it is in `cert.pem` and its key in `key.pem` from
    /// then on.
    ///
    /// # Panics
    ///
    /// When the files cannot be written.
    pub fn issue(&self) {
        let key = KeyPair::generate().expect("there is chance");
        let params = CertificateParams::new(["127.0.0.1", "localhost"].map(str::to_owned)).expect("the names are some");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed");
        fs::write(self.path("cert.pem"), certificate.pem()).expect("the file can be written");
        fs::write(self.path("key.pem"), key.serialize_pem()).expect("the file can be written");
    }

    /// Both ends of TLS, as the shell makes them, with a fresh certificate.
    ///
    /// # Panics
    ///
    /// When the files cannot be written, or read.
    #[must_use]
    pub fn both_ends(&self) -> (TlsAcceptor, TlsConnector) {
        self.issue();
        let (certificate, key) = (self.path("cert.pem").into(), self.path("key.pem").into());
        let acceptor = TlsAcceptor::new(Identity { certificate, key, oldest: TlsVersion::V1_2 }).expect("the files are good");
        let trust = Trust { authorities: Some(self.path("ca.pem").into()), certificate: None };
        (acceptor, TlsConnector::new(&trust).expect("the file is good"))
    }

    /// Where a file of its directory is.
    ///
    /// # Panics
    ///
    /// When the system's directory for temporary files has a name that is not UTF-8.
    #[must_use]
    pub fn path(&self, file: &str) -> String {
        self.directory.join(file).to_str().expect("the path is UTF-8").to_owned()
    }

    /// Connects to a server that shows a certificate of this authority, in these versions.
    ///
    /// # Errors
    ///
    /// The handshake has failed.
    ///
    /// # Panics
    ///
    /// When the server cannot be reached.
    pub fn connect(&self, addr: SocketAddr, versions: &[&'static SupportedProtocolVersion]) -> std::io::Result<TlsStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("it is one")).expect("it is an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_protocol_versions(versions).expect("the versions are known");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::from(addr.ip());
        let session = ClientConnection::new(Arc::new(config), name).expect("the name is one");
        let socket =
            TcpStream::connect_timeout(&addr, PATIENCE).unwrap_or_else(|error| panic!("no connection to {addr}: {error}"));
        socket.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
        socket.set_write_timeout(Some(PATIENCE)).expect("the limit is not zero");
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The certificate that the server has shown.
///
/// # Panics
///
/// When it has shown none.
#[must_use]
pub fn shown(stream: &TlsStream) -> Vec<u8> {
    stream.conn.peer_certificates().expect("the handshake is over")[0].to_vec()
}

/// Sends a GET request and reads the answer, after which the server is to say that it closes.
///
/// # Panics
///
/// When there is no whole answer, or the connection is cut.
pub fn get(mut stream: TlsStream, path: &str) -> Response {
    stream.write_all(&get_request(path, &[("connection", "close")])).expect("it can be sent");
    let mut answer = Vec::new();
    // An end without `close_notify` is an error here.
    stream.read_to_end(&mut answer).expect("the answer is whole");
    parse("GET", &answer, None).expect("it is an answer")
}

/// Opens a WebSocket on a connection.
///
/// # Panics
///
/// When the server refuses it.
#[must_use]
pub fn websocket(stream: TlsStream, path: &str, token: &str) -> WebSocket<TlsStream> {
    let request = ClientRequestBuilder::new(format!("ws://gateway.example{path}").parse().expect("the path is one"));
    let request = request.with_header("authorization", format!("Bearer {token}"));
    tungstenite::client(request, stream).expect("the server accepts it").0
}

/// The next text message.
///
/// # Panics
///
/// When there is none.
pub fn next_text(socket: &mut WebSocket<TlsStream>) -> String {
    loop {
        match socket.read().expect("the connection lives") {
            Message::Text(text) => return text.to_string(),
            Message::Close(close) => panic!("closed: {close:?}"),
            _ => {}
        }
    }
}
