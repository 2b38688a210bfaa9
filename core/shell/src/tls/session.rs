//! One end of a TLS connection, without I/O: bytes of the network in and out, bytes of the application out and in.

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus};
use rustls::{CommonState, Error};

/// What a record is longer than its content, at the most.
const OVERHEAD: usize = 64;

/// Either end. While nothing is under way it holds no buffer, as rustls's own buffered connections do.
pub(super) enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What is to be said, once it may be.
#[derive(Clone, Copy)]
pub(super) enum Say<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// That nothing more will be said.
    Close,
}

/// What has come of some work.
pub(super) enum Step {
    /// There is more to do.
    More,
    /// Nothing goes on before more has come.
    Wait,
    /// The peer will say nothing more.
    PeerClosed,
    /// What was to be said has been.
    Said,
}

impl Session {
    /// Whether the handshake is still under way.
    pub(super) fn is_handshaking(&self) -> bool {
        let state: &CommonState = match self {
            Session::Server(server) => server,
            Session::Client(client) => client,
        };
        state.is_handshaking()
    }

    /// Does one thing with what has come: how many bytes of it are done with, and what came of it. What the peer has said is
    /// passed to `hear`, and what is to be sent appended to `output`.
    pub(super) fn step(
        &mut self,
        input: &mut [u8],
        say: Say<'_>,
        hear: &mut dyn FnMut(&[u8]),
        output: &mut Vec<u8>,
    ) -> (usize, Result<Step, Error>) {
        match self {
            Session::Server(server) => step(server.process_tls_records(input), say, hear, output),
            Session::Client(client) => step(client.process_tls_records(input), say, hear, output),
        }
    }
}

fn step<Data>(
    UnbufferedStatus { mut discard, state }: UnbufferedStatus<'_, '_, Data>,
    say: Say<'_>,
    hear: &mut dyn FnMut(&[u8]),
    output: &mut Vec<u8>,
) -> (usize, Result<Step, Error>) {
    let outcome = state.and_then(|state| match state {
        ConnectionState::ReadTraffic(mut records) => {
            while let Some(record) = records.next_record() {
                let record = record?;
                discard += record.discard;
                hear(record.payload);
            }
            Ok(Step::More)
        }
        ConnectionState::EncodeTlsData(mut message) => put(output, 0, |room| message.encode(room)).map(|()| Step::More),
        // It leaves in its order with everything else.
        ConnectionState::TransmitTlsData(sent) => {
            sent.done();
            Ok(Step::More)
        }
        ConnectionState::WriteTraffic(mut writer) => match say {
            Say::Nothing => Ok(Step::Wait),
            Say::Bytes(bytes) => put(output, bytes.len() + OVERHEAD, |room| writer.encrypt(bytes, room)).map(|()| Step::Said),
            Say::Close => put(output, OVERHEAD, |room| writer.queue_close_notify(room)).map(|()| Step::Said),
        },
        ConnectionState::PeerClosed => Ok(Step::PeerClosed),
        ConnectionState::BlockedHandshake | ConnectionState::Closed => Ok(Step::Wait),
        // Nobody is allowed to say anything before the handshake is over.
        _ => Err(Error::HandshakeNotComplete),
    });
    (discard, outcome)
}

/// Why something could not be written.
enum Unwritten {
    /// It needs so many bytes.
    Room(usize),
    Never,
}

impl From<EncodeError> for Unwritten {
    fn from(error: EncodeError) -> Unwritten {
        match error {
            EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => Unwritten::Room(required_size),
            EncodeError::AlreadyEncoded => Unwritten::Never,
        }
    }
}

impl From<EncryptError> for Unwritten {
    fn from(error: EncryptError) -> Unwritten {
        match error {
            EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => Unwritten::Room(required_size),
            EncryptError::EncryptExhausted => Unwritten::Never,
        }
    }
}

/// Appends what is written, where `room` bytes are likely to be enough.
fn put<E: Into<Unwritten>>(
    output: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), Error> {
    let start = output.len();
    loop {
        output.resize(start + room, 0);
        let (end, outcome) = match write(&mut output[start..]).map_err(Into::into) {
            Ok(written) => (start + written, Ok(())),
            Err(Unwritten::Room(needed)) if needed > room => {
                room = needed;
                continue;
            }
            Err(_) => (start, Err(Error::EncryptError)),
        };
        output.truncate(end);
        return outcome;
    }
}
