//! A local port whose connections go on over TLS, so that clients that know nothing of TLS can be used.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// How the client speaks TLS.
#[derive(Clone)]
pub struct ClientTls {
    /// The authority that it trusts.
    pub authority: PathBuf,
    /// The name that it asks for and expects.
    pub server_name: String,
    /// Certificate and key that it shows.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// What handshakes came to: the server's certificate, or why there is no connection.
type Handshakes = Arc<Mutex<Vec<Result<Vec<u8>, String>>>>;

/// The port. It ends with the test's process.
pub struct Tunnel {
    /// Where clients connect.
    pub address: SocketAddr,
    seen: Handshakes,
}

impl Tunnel {
    /// A port whose connections go to `target` over TLS.
    pub fn to(target: SocketAddr, tls: ClientTls) -> Tunnel {
        let seen = Handshakes::default();
        let (tell, told) = std::sync::mpsc::channel();
        let seen_by_thread = seen.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let connector = TlsConnector::from(Arc::new(config(&tls)));
                let name = ServerName::try_from(tls.server_name).unwrap();
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(carry(
                        socket,
                        target,
                        connector.clone(),
                        name.clone(),
                        seen_by_thread.clone(),
                    ));
                }
            });
        });
        let address = told.recv().unwrap();
        Tunnel { address, seen }
    }

    /// The server's certificate of the last handshake.
    pub fn last_certificate(&self) -> Vec<u8> {
        let seen = self.seen.lock().unwrap();
        seen.last().expect("a handshake").clone().expect("a connection")
    }

    /// How the last connection failed.
    pub fn last_error(&self) -> Option<String> {
        self.seen.lock().unwrap().last()?.clone().err()
    }
}

/// The bytes of the first certificate in a file.
pub fn certificate_in(path: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}

fn config(tls: &ClientTls) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&tls.authority).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match &tls.certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap())
                .unwrap()
        }
    }
}

async fn carry(
    mut socket: TcpStream,
    target: SocketAddr,
    connector: TlsConnector,
    name: ServerName<'static>,
    seen: Handshakes,
) {
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    match connector.connect(name, far).await {
        Err(error) => seen.lock().unwrap().push(Err(error.to_string())),
        Ok(mut far) => {
            let certificate = far.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            seen.lock().unwrap().push(Ok(certificate));
            if let Err(error) = tokio::io::copy_bidirectional(&mut socket, &mut far).await {
                // In TLS 1.3 the client hears only now that its certificate is refused.
                seen.lock().unwrap().push(Err(error.to_string()));
            }
        }
    }
}
