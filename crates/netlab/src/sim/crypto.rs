//! A cryptographic session that hides nothing.
//!
//! quinn-proto leaves the handshake and the packet protection to traits. These here carry the
//! transport parameters and put a tag of the usual size behind every packet, so that packets are
//! as long as under TLS; but no key is ever drawn and nothing is enciphered. That makes a run a
//! function of its seed alone, and leaves a simulated second several times cheaper.

use std::any::Any;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use quinn_proto::crypto::{
    self, AeadKey, CryptoError, ExportKeyingMaterialError, HandshakeTokenKey, HeaderKey, HmacKey,
    KeyPair, Keys, PacketKey, Session, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError};

use super::random::Digest;

/// Bytes of the tag behind every packet, as AES-GCM and ChaCha20-Poly1305 have it (RFC 9001
/// section 5.3).
const TAG_BYTES: usize = 16;

/// Bytes of a packet that TLS would take its header protection's mask from (RFC 9001 section
/// 5.4.2); packets are padded so that there are as many.
const SAMPLE_BYTES: usize = 16;

/// Bytes of a server's certificate chain and signature, and of a client's hello beside its
/// transport parameters: about what a chain of two ECDSA certificates takes.
const SERVER_FLIGHT_BYTES: usize = 2000;
const CLIENT_HELLO_BYTES: usize = 200;
const SHORT_MESSAGE_BYTES: usize = 50;

#[derive(Debug)]
pub(super) struct PlainClient;

impl crypto::ClientConfig for PlainClient {
    fn start_session(
        self: Arc<Self>,
        _version: u32,
        _server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        Ok(Box::new(PlainSession::new(Side::Client, params)))
    }
}

#[derive(Debug)]
pub(super) struct PlainServer;

impl crypto::ServerConfig for PlainServer {
    fn initial_keys(
        &self,
        _version: u32,
        _dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        Ok(keys())
    }

    fn retry_tag(&self, _version: u32, _orig_dst_cid: &ConnectionId, _packet: &[u8]) -> [u8; 16] {
        [0; 16]
    }

    fn start_session(
        self: Arc<Self>,
        _version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        Box::new(PlainSession::new(Side::Server, params))
    }
}

/// How far a side's handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The client has to say hello; the server waits for that.
    Hello,
    /// The server's answer has to be written, or to be waited for.
    Answer,
    /// The server's parameters have to be written, or to be waited for.
    Parameters,
    /// The client's last message has to be written, or to be waited for.
    Finish,
    Done,
}

#[derive(Debug)]
struct PlainSession {
    side: Side,
    step: Step,
    local: Vec<u8>,
    peer: Option<Vec<u8>>,
    /// The client got the handshake's keys.
    has_keys: bool,
    /// What was received of a message that is not complete.
    partial: Vec<u8>,
}

impl PlainSession {
    fn new(side: Side, params: &TransportParameters) -> Self {
        let mut local = Vec::new();
        params.write(&mut local);
        Self {
            side,
            step: Step::Hello,
            local,
            peer: None,
            has_keys: false,
            partial: Vec::new(),
        }
    }

    /// A whole message, if one has arrived.
    fn message(&mut self) -> Option<Vec<u8>> {
        let mut header = self.partial.get(..8)?;
        let total = usize::try_from(header.get_u32()).ok()?;
        let params = usize::try_from(header.get_u32()).ok()?;
        if self.partial.len() < total {
            return None;
        }
        let rest = self.partial.split_off(total);
        let message = std::mem::replace(&mut self.partial, rest);
        message.get(8..8 + params).map(<[u8]>::to_vec)
    }
}

/// A message of at least `size` bytes that carries `params`.
fn write_message(buf: &mut Vec<u8>, params: &[u8], size: usize) {
    let start = buf.len();
    let total = size.max(8 + params.len());
    for length in [total, params.len()] {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        buf.extend_from_slice(&length.to_be_bytes());
    }
    buf.extend_from_slice(params);
    buf.resize(start + total, 0);
}

impl Session for PlainSession {
    fn initial_keys(&self, _dst_cid: &ConnectionId, _side: Side) -> Keys {
        keys()
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.step != Step::Done
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.partial.extend_from_slice(buf);
        while let Some(params) = self.message() {
            self.step = match (self.side, self.step) {
                (Side::Server, Step::Hello) => {
                    self.peer = Some(params);
                    Step::Answer
                }
                (Side::Client, Step::Answer) => Step::Parameters,
                (Side::Client, Step::Parameters) => {
                    self.peer = Some(params);
                    Step::Finish
                }
                (Side::Server, Step::Finish) => Step::Done,
                (_, step) => step,
            };
        }
        Ok(false)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        match &self.peer {
            None => Ok(None),
            Some(params) => Ok(Some(TransportParameters::read(
                self.side,
                &mut params.as_slice(),
            )?)),
        }
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        match (self.side, self.step) {
            (Side::Client, Step::Hello) => {
                write_message(buf, &self.local, CLIENT_HELLO_BYTES + self.local.len());
                self.step = Step::Answer;
                None
            }
            (Side::Server, Step::Answer) => {
                write_message(buf, &[], SHORT_MESSAGE_BYTES);
                self.step = Step::Parameters;
                Some(keys())
            }
            (Side::Client, Step::Parameters) if !self.has_keys => {
                self.has_keys = true;
                Some(keys())
            }
            (Side::Server, Step::Parameters) => {
                write_message(buf, &self.local, SERVER_FLIGHT_BYTES);
                self.step = Step::Finish;
                Some(keys())
            }
            (Side::Client, Step::Finish) => {
                write_message(buf, &[], SHORT_MESSAGE_BYTES);
                self.step = Step::Done;
                Some(keys())
            }
            _ => None,
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        Some(packet_keys())
    }

    fn is_valid_retry(
        &self,
        _orig_dst_cid: &ConnectionId,
        _header: &[u8],
        _payload: &[u8],
    ) -> bool {
        false
    }

    fn export_keying_material(
        &self,
        _output: &mut [u8],
        _label: &[u8],
        _context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        Err(ExportKeyingMaterialError)
    }
}

fn keys() -> Keys {
    Keys {
        header: KeyPair {
            local: Box::new(PlainKey),
            remote: Box::new(PlainKey),
        },
        packet: packet_keys(),
    }
}

fn packet_keys() -> KeyPair<Box<dyn PacketKey>> {
    KeyPair {
        local: Box::new(PlainKey),
        remote: Box::new(PlainKey),
    }
}

/// Every kind of key that quinn-proto asks for.
#[derive(Debug)]
pub(super) struct PlainKey;

impl HeaderKey for PlainKey {
    fn decrypt(&self, _pn_offset: usize, _packet: &mut [u8]) {}

    fn encrypt(&self, _pn_offset: usize, _packet: &mut [u8]) {}

    fn sample_size(&self) -> usize {
        SAMPLE_BYTES
    }
}

impl PacketKey for PlainKey {
    fn encrypt(&self, _packet: u64, buf: &mut [u8], _header_len: usize) {
        let end = buf.len();
        buf[end - TAG_BYTES..].fill(0);
    }

    fn decrypt(
        &self,
        _packet: u64,
        _header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        let end = payload.len().checked_sub(TAG_BYTES).ok_or(CryptoError)?;
        payload.truncate(end);
        Ok(())
    }

    fn tag_len(&self) -> usize {
        TAG_BYTES
    }

    fn confidentiality_limit(&self) -> u64 {
        u64::MAX
    }

    fn integrity_limit(&self) -> u64 {
        u64::MAX
    }
}

impl HmacKey for PlainKey {
    /// A digest of the data: reset tokens only have to differ.
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let mut digest = Digest::default();
        for byte in data {
            digest.add(u64::from(*byte));
        }
        for chunk in signature_out.chunks_mut(8) {
            digest.add(1);
            let bytes = digest.value().to_be_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let mut expected = vec![0; self.signature_len()];
        self.sign(data, &mut expected);
        (expected == signature).then_some(()).ok_or(CryptoError)
    }
}

impl HandshakeTokenKey for PlainKey {
    fn aead_from_hkdf(&self, _random_bytes: &[u8]) -> Box<dyn AeadKey> {
        Box::new(Self)
    }
}

impl AeadKey for PlainKey {
    fn seal(&self, data: &mut Vec<u8>, _additional_data: &[u8]) -> Result<(), CryptoError> {
        data.extend_from_slice(&[0; TAG_BYTES]);
        Ok(())
    }

    fn open<'a>(
        &self,
        data: &'a mut [u8],
        _additional_data: &[u8],
    ) -> Result<&'a mut [u8], CryptoError> {
        let end = data.len().checked_sub(TAG_BYTES).ok_or(CryptoError)?;
        Ok(&mut data[..end])
    }
}
