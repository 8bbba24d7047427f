//! A client that sends its server a word and prints the answer.

use std::error::Error;
use std::sync::Arc;

use quinn::ClientConfig;
use quinn::rustls::RootCertStore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(std::fs::read("cert.der")?.into())?;
    let config = ClientConfig::with_root_certificates(Arc::new(roots))?;

    let mut endpoint = quinn::Endpoint::client("[::]:0".parse()?)?;
    endpoint.set_default_client_config(config);
    let server = "127.0.0.1:4433".parse()?;
    let connection = endpoint.connect(server, "localhost")?.await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(b"hello").await?;
    send.finish()?;
    let answer = receive.read_to_end(1 << 20).await?;
    println!("{}", String::from_utf8_lossy(&answer));
    connection.close(0u32.into(), b"done");
    endpoint.wait_idle().await;
    Ok(())
}
