//! A governed server that answers each stream with what it was sent.

use std::error::Error;

use quinn::rustls::pki_types::PrivatePkcs8KeyDer;
use quinn::{Incoming, ServerConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
    std::fs::write("cert.der", certified.cert.der())?; // for the client
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = ServerConfig::with_single_cert(vec![certified.cert.into()], key.into())?;

    let governors = quinn_governor::Governors::auto();
    let endpoint = governors.server(config, "127.0.0.1:4433".parse()?)?;
    println!("listening at {}", endpoint.local_addr()?);
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            if let Err(error) = answer(incoming).await {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

async fn answer(incoming: Incoming) -> Result<(), Box<dyn Error + Send + Sync>> {
    let connection = incoming.await?;
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let bytes = receive.read_to_end(1 << 20).await?;
        send.write_all(&bytes).await?;
        send.finish()?;
    }
    Ok(())
}
