//! Certificates: the server makes its own; clients trust that one only or, for a measurement, any.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use quinn::Connection;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

/// The name that certificates are made for.
pub const SERVER_NAME: &str = "localhost";

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// The client.
    Upload,
    /// The server.
    Download,
    /// First the server, then the client.
    DownloadThenUpload,
}

impl Transfer {
    const ALL: [Self; 3] = [Self::Upload, Self::Download, Self::DownloadThenUpload];

    /// Both ends must name the same protocol, so that nothing else is taken for it; and the server
    /// learns by it what the client wants.
    fn protocol(self) -> &'static [u8] {
        match self {
            Self::Upload => b"governed-upload/1",
            Self::Download => b"governed-download/1",
            Self::DownloadThenUpload => b"governed-download-upload/1",
        }
    }

    /// What the client of this connection wants.
    pub fn of(connection: &Connection) -> Self {
        let data = connection.handshake_data();
        let data = data.and_then(|data| data.downcast::<HandshakeData>().ok());
        let named = data.and_then(|data| data.protocol);
        let wanted = Self::ALL
            .into_iter()
            .find(|transfer| named.as_deref() == Some(transfer.protocol()));
        wanted.unwrap_or(Self::Upload)
    }
}

/// Which server a client talks to.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The one with this certificate.
    Only(CertificateDer<'static>),
    /// Any. The upload is nothing but zeros, so there is nothing to keep from an impostor. For a
    /// demonstration only: an application that does this has no security at all.
    Any,
}

impl Trust {
    /// Trusts the certificate in this file, as [`write()`] wrote it.
    pub fn from_file(file: &Path) -> anyhow::Result<Self> {
        let der = std::fs::read(file).with_context(|| {
            let file = file.display();
            format!("cannot read {file}: copy it from the server, which writes it with --cert")
        })?;
        Ok(Self::Only(der.into()))
    }

    /// The client's side of TLS.
    pub fn client(&self, transfer: Transfer) -> anyhow::Result<QuicClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut tls = match self {
            Self::Only(certificate) => {
                let mut roots = RootCertStore::empty();
                roots
                    .add(certificate.clone())
                    .context("the file given with --cert holds no certificate in DER")?;
                builder.with_root_certificates(roots)
            }
            Self::Any => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptAny(provider))),
        }
        .with_no_client_auth();
        tls.alpn_protocols = vec![transfer.protocol().to_vec()];
        Ok(QuicClientConfig::try_from(tls)?)
    }
}

/// A new certificate, and the server's side of TLS that proves it.
pub fn generate() -> anyhow::Result<(CertificateDer<'static>, QuicServerConfig)> {
    let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])
        .context("cannot make a certificate")?;
    let certificate: CertificateDer<'static> = made.cert.into();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())?;
    tls.alpn_protocols = Transfer::ALL
        .map(|transfer| transfer.protocol().to_vec())
        .into();
    Ok((certificate, QuicServerConfig::try_from(tls)?))
}

/// Writes the certificate for clients to trust; it is no secret.
pub fn write(certificate: &CertificateDer<'_>, file: &Path) -> anyhow::Result<()> {
    std::fs::write(file, certificate)
        .with_context(|| format!("cannot write the certificate to {}", file.display()))
}

/// Takes any certificate whose owner signed the handshake.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
