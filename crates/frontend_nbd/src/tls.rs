//! Certificates, and whether clients must use them.

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Who a server is, by certificates in PEM files, and how it wants its clients: TLS 1.2 and 1.3, begun with `STARTTLS`.
///
/// Clients must use TLS unless [`optional`](Self::optional) says otherwise. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    server: Arc<ServerConfig>,
    is_required: bool,
    verifies_clients: bool,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTls {
    /// A file cannot be read.
    #[error("cannot read the {what} from {path}: {source}")]
    Unreadable {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What should be PEM holds nothing of the kind, or is damaged.
    #[error(
        "there is no {what} that can be read in {origin}: it must be PEM, and begin with `-----BEGIN`"
    )]
    NotPem {
        /// What it should hold.
        what: &'static str,
        /// The file, or where else it comes from.
        origin: String,
    },
    /// The key is another certificate's.
    #[error(
        "the private key in {key} is not that of the certificate in {certificate}: both must be from the same request"
    )]
    OtherKey {
        /// The file of the certificate, or where else it comes from.
        certificate: String,
        /// That of the key.
        key: String,
    },
    /// The certificate or the key is of a kind that is not supported.
    #[error("the server's certificate and key cannot be used: {0}")]
    Certificate(#[source] rustls::Error),
    /// The authority that clients are to be checked against cannot be used.
    #[error("the certificate authority for clients cannot be used: {0}")]
    ClientAuthority(String),
}

/// The names of the files in a folder, as QEMU, libvirt and nbdkit have them.
const CA_FILE: &str = "ca-cert.pem";
const CERTIFICATE_FILE: &str = "server-cert.pem";
const KEY_FILE: &str = "server-key.pem";

const CA: &str = "certificate of the authority for clients";
const CERTIFICATE: &str = "server's certificate";
const KEY: &str = "server's private key";

/// Some PEM, and where it comes from.
struct Pem {
    what: &'static str,
    origin: String,
    bytes: Vec<u8>,
}

impl TlsConfig {
    /// The certificates in a folder, under the names that QEMU, libvirt and nbdkit use: `server-cert.pem` (with what is between
    /// it and its authority behind it), `server-key.pem`. With `verify_clients` only clients are let in whose certificate the
    /// authority in `ca-cert.pem` has signed; without, that file is not looked at.
    ///
    /// # Errors
    /// [`InvalidTls`].
    pub fn from_folder(folder: &Path, verify_clients: bool) -> Result<Self, InvalidTls> {
        let ca = folder.join(CA_FILE);
        let ca = verify_clients.then_some(ca.as_path());
        Self::from_files(&folder.join(CERTIFICATE_FILE), &folder.join(KEY_FILE), ca)
    }

    /// The certificates in these files: the server's, with what is between it and its authority behind it; its private key; and, if
    /// clients are to be checked, that of the authority which signed theirs.
    ///
    /// # Errors
    /// [`InvalidTls`].
    pub fn from_files(
        certificate: &Path,
        key: &Path,
        client_ca: Option<&Path>,
    ) -> Result<Self, InvalidTls> {
        let client_ca = client_ca.map(|path| Pem::read(CA, path)).transpose()?;
        Self::new(
            &Pem::read(CERTIFICATE, certificate)?,
            &Pem::read(KEY, key)?,
            client_ca.as_ref(),
        )
    }

    /// The same from memory.
    ///
    /// # Errors
    /// [`InvalidTls`].
    pub fn from_pem(
        certificate: &[u8],
        key: &[u8],
        client_ca: Option<&[u8]>,
    ) -> Result<Self, InvalidTls> {
        let client_ca = client_ca.map(|bytes| Pem::given(CA, bytes));
        Self::new(
            &Pem::given(CERTIFICATE, certificate),
            &Pem::given(KEY, key),
            client_ca.as_ref(),
        )
    }

    fn new(certificate: &Pem, key: &Pem, client_ca: Option<&Pem>) -> Result<Self, InvalidTls> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(InvalidTls::Certificate)?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(ca.roots()?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                let verifier =
                    verifier.map_err(|error| InvalidTls::ClientAuthority(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut server = builder
            .with_single_cert(certificate.certificates()?, key.private_key()?)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    InvalidTls::OtherKey {
                        certificate: certificate.origin.clone(),
                        key: key.origin.clone(),
                    }
                }
                error => InvalidTls::Certificate(error),
            })?;
        // A session is long, and begins once: nothing is kept to resume it.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self {
            server: Arc::new(server),
            is_required: true,
            verifies_clients: client_ca.is_some(),
        })
    }

    /// Lets clients in without TLS, too. They are then neither known nor protected.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.is_required = false;
        self
    }

    /// Whether clients without TLS are refused.
    pub fn is_required(&self) -> bool {
        self.is_required
    }

    /// Whether clients that use TLS must show a certificate.
    pub fn verifies_clients(&self) -> bool {
        self.verifies_clients
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }
}

impl inspect::Inspect for TlsConfig {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field("is_required", &self.is_required)
            .field("verifies_clients", &self.verifies_clients);
    }
}

impl Pem {
    fn read(what: &'static str, path: &Path) -> Result<Self, InvalidTls> {
        let bytes = fs::read(path).map_err(|source| InvalidTls::Unreadable {
            what,
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            what,
            origin: path.display().to_string(),
            bytes,
        })
    }

    fn given(what: &'static str, bytes: &[u8]) -> Self {
        Self {
            what,
            origin: "what was given".to_owned(),
            bytes: bytes.to_owned(),
        }
    }

    fn not_pem(&self) -> InvalidTls {
        InvalidTls::NotPem {
            what: self.what,
            origin: self.origin.clone(),
        }
    }

    /// At least one.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
        let found = CertificateDer::pem_slice_iter(&self.bytes).collect::<Result<Vec<_>, _>>();
        let found = found.map_err(|_| self.not_pem())?;
        match found.is_empty() {
            true => Err(self.not_pem()),
            false => Ok(found),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, InvalidTls> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|_| self.not_pem())
    }

    fn roots(&self) -> Result<RootCertStore, InvalidTls> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            let added = roots.add(certificate);
            added.map_err(|error| InvalidTls::ClientAuthority(error.to_string()))?;
        }
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate and its key.
    fn self_signed() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn certificates_of_a_folder_are_found_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = self_signed();
        let load = |verify_clients| TlsConfig::from_folder(folder.path(), verify_clients);
        let missing = load(false).unwrap_err();
        assert!(matches!(missing, InvalidTls::Unreadable { .. }));
        assert!(missing.to_string().contains("server-cert.pem"), "{missing}");
        fs::write(folder.path().join("server-cert.pem"), &certificate).unwrap();
        fs::write(folder.path().join("server-key.pem"), &key).unwrap();
        let config = load(false).unwrap();
        assert!(config.is_required() && !config.verifies_clients());
        assert!(!config.optional().is_required());
        let missing = load(true).unwrap_err();
        assert!(missing.to_string().contains("ca-cert.pem"), "{missing}");
        fs::write(folder.path().join("ca-cert.pem"), &certificate).unwrap();
        assert!(load(true).unwrap().verifies_clients());
    }

    #[test]
    fn what_is_not_a_certificate_or_a_key_is_named() {
        let (certificate, key) = self_signed();
        let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
        assert!(TlsConfig::from_pem(certificate, key, None).is_ok());
        for (bad_certificate, bad_key, bad_ca, what) in [
            (&b""[..], key, None, CERTIFICATE),
            (key, key, None, CERTIFICATE),
            (certificate, &b"noise"[..], None, KEY),
            (certificate, certificate, None, KEY),
            (certificate, key, Some(&b""[..]), CA),
        ] {
            let error = TlsConfig::from_pem(bad_certificate, bad_key, bad_ca).unwrap_err();
            assert!(matches!(error, InvalidTls::NotPem { .. }), "{error}");
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (certificate, _) = self_signed();
        let (_, key) = self_signed();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CERTIFICATE_FILE), certificate).unwrap();
        fs::write(folder.path().join(KEY_FILE), key).unwrap();
        let error = TlsConfig::from_folder(folder.path(), false).unwrap_err();
        assert!(matches!(error, InvalidTls::OtherKey { .. }), "{error}");
        for file in [CERTIFICATE_FILE, KEY_FILE] {
            assert!(error.to_string().contains(file), "{error}");
        }
    }
}
