//! Clients and servers that trust each other.

use std::sync::Arc;

use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{ClientConfig, ServerConfig};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// A client and a server that trust each other, with a new certificate for `localhost`.
pub fn quic_configs() -> (ClientConfig, ServerConfig) {
    let identity = Identity::new();
    (identity.client(), identity.server())
}

/// A certificate for `localhost`, and its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Identity {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".into()])
            .expect("a certificate can be made");
        Self {
            certificate: certified.cert.der().clone(),
            key: PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()),
        }
    }

    /// A server that shows it. Each knows its own tickets alone.
    pub fn server(&self) -> ServerConfig {
        ServerConfig::with_single_cert(vec![self.certificate.clone()], self.key.clone_key().into())
            .expect("key and certificate")
    }

    /// A client that trusts it, and sends early data to a server that it knows.
    pub fn client(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(self.certificate.clone())
            .expect("it is well formed");
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.enable_early_data = true;
        let client = QuicClientConfig::try_from(client).expect("TLS 1.3 is on");
        ClientConfig::new(Arc::new(client))
    }
}
