//! Certificates, and a client's side of TLS.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

/// An authority, and what it signed.
pub(crate) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        let key = KeyPair::generate().expect("a key");
        Self {
            certificate: params.self_signed(&key).expect("a certificate"),
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for `name`.
    pub(crate) fn sign(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer);
        Identity {
            certificate: certificate.expect("a certificate").pem(),
            key: key.serialize_pem(),
        }
    }

    /// How a client that trusts the authority, and shows `identity`, uses TLS of this version.
    pub(crate) fn client(
        &self,
        identity: Option<&Identity>,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.pem().as_bytes());
        roots.add(own.expect("a certificate")).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .expect("the version is supported")
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
                let chain = vec![certificate.expect("a certificate")];
                let built = builder.with_client_auth_cert(chain, key.expect("a key"));
                built.expect("they belong together")
            }
        })
    }
}

/// A stream in the clear whose other side goes on in TLS over `encrypted`. It ends when TLS fails, or either side ends.
pub(crate) fn wrap(encrypted: UnixStream, config: Arc<ClientConfig>) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(config, name).expect("a connection");
    encrypted.set_nonblocking(true).expect("it can be set");
    thread::spawn(move || pump(connection, encrypted, theirs));
    ours
}

/// Moves bytes until the server's side ends.
fn pump(mut tls: ClientConnection, mut encrypted: UnixStream, mut clear: UnixStream) {
    let mut wants_more = true;
    loop {
        let mut events = PollFlags::IN;
        events.set(PollFlags::OUT, tls.wants_write());
        let mut from_clear = PollFlags::empty();
        from_clear.set(PollFlags::IN, wants_more && !tls.wants_write());
        let mut fds = [
            PollFd::new(&encrypted, events),
            PollFd::new(&clear, from_clear),
        ];
        // The far end of `clear` may be gone; what the server still sends is read all the same.
        let count = if from_clear.is_empty() { 1 } else { 2 };
        poll(&mut fds[..count], None).expect("it can be waited");
        let is_clear_ready = count == 2 && !fds[1].revents().is_empty();
        if is_clear_ready {
            let mut bytes = [0; 16 * 1024];
            match clear.read(&mut bytes) {
                Ok(0) | Err(_) => {
                    wants_more = false;
                    tls.send_close_notify();
                }
                Ok(len) => tls
                    .writer()
                    .write_all(&bytes[..len])
                    .expect("there is room"),
            }
        }
        // An alert, too, is an end; the test sees that its stream has ended.
        if !matches!(exchange(&mut tls, &mut encrypted, &mut clear), Ok(true)) {
            break;
        }
        if !wants_more && !tls.wants_write() {
            // As a client that has said goodbye.
            let _ = encrypted.shutdown(Shutdown::Write);
        }
    }
    let _ = clear.shutdown(Shutdown::Both);
}

/// What can be exchanged with the server now; false at its end.
fn exchange(
    tls: &mut ClientConnection,
    encrypted: &mut UnixStream,
    clear: &mut UnixStream,
) -> std::io::Result<bool> {
    let is_later = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
    while tls.wants_write() {
        match tls.write_tls(encrypted) {
            Ok(_) => {}
            Err(error) if is_later(&error) => break,
            Err(error) => return Err(error),
        }
    }
    loop {
        match tls.read_tls(encrypted) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if is_later(&error) => return Ok(true),
            Err(error) => return Err(error),
        }
        let state = tls.process_new_packets();
        let state = state.map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))?;
        let mut bytes = vec![0; state.plaintext_bytes_to_read()];
        tls.reader().read_exact(&mut bytes)?;
        clear.write_all(&bytes)?;
        if state.peer_has_closed() {
            return Ok(false);
        }
    }
}
