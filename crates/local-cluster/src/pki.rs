//! Keys, certificates and the token: made once, kept 0600, handed out as a kubeconfig.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("cannot keep keys in {0}")]
    Io(PathBuf, #[source] io::Error),
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[source] rcgen::Error),
    /// A kept certificate or key does not parse.
    #[error("a kept certificate or key is damaged")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// A kept certificate and key do not fit.
    #[error("a kept certificate cannot be served")]
    Tls(#[source] rustls::Error),
}

/// What the server shows and what its clients must show.
#[derive(Debug)]
pub(crate) struct Pki {
    pub(crate) tls: Arc<rustls::ServerConfig>,
    ca: String,
    token: String,
}

/// The SHA-256 of the `Authorization` header that is let in.
#[derive(Clone)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    /// Whether a header is the right one. Hashes are compared, so time tells nothing.
    pub(crate) fn accepts(&self, header: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(header.as_bytes()).into();
        given == self.0
    }
}

const CA: &str = "ca.pem";
const CERT: &str = "server.pem";
const KEY: &str = "server.key";
const TOKEN: &str = "token";

impl Pki {
    /// Opens or makes what is kept in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self, PkiError> {
        private_dir(dir).map_err(|e| PkiError::Io(dir.into(), e))?;
        // The token is written last: with it, everything is there.
        if !dir.join(TOKEN).exists() {
            make(dir)?;
        }
        let token = read(dir, TOKEN)?.trim().to_owned();
        Ok(Self { tls: server_config(dir)?, ca: read(dir, CA)?, token })
    }

    /// Returns what requests are checked against.
    pub(crate) fn token_hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(format!("Bearer {}", self.token)).into())
    }

    /// Writes the kubeconfig of the one user.
    pub(crate) fn write_kubeconfig(&self, path: &Path, at: SocketAddr) -> Result<(), PkiError> {
        let ca = crate::api::base64_text(self.ca.as_bytes());
        let cluster = json!({"server": format!("https://{at}"), "certificate-authority-data": ca});
        // JSON is YAML.
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "preferences": {},
            "clusters": [{"name": "loom-local", "cluster": cluster}],
            "users": [{"name": "loom-local", "user": {"token": self.token}}],
            "contexts": [{"name": "loom-local",
                          "context": {"cluster": "loom-local", "user": "loom-local"}}],
            "current-context": "loom-local",
        });
        let text = format!("{config:#}\n");
        write_private(path, text.as_bytes()).map_err(|e| PkiError::Io(path.into(), e))
    }
}

fn make(dir: &Path) -> Result<(), PkiError> {
    let (ca, cert, key) = certificates().map_err(PkiError::Certificate)?;
    let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    for (name, text) in [(CA, ca), (CERT, cert), (KEY, key), (TOKEN, token)] {
        let path = dir.join(name);
        write_private(&path, text.as_bytes()).map_err(|e| PkiError::Io(path, e))?;
    }
    Ok(())
}

/// Returns a CA's certificate and a server's certificate and key; the CA's key is forgotten.
fn certificates() -> Result<(String, String, String), rcgen::Error> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, "Loom local cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_key = KeyPair::generate()?;
    let ca = params.self_signed(&ca_key)?;
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, "loom-local");
    let key = KeyPair::generate()?;
    let cert = server.signed_by(&key, &Issuer::new(params, ca_key))?;
    Ok((ca.pem(), cert.pem(), key.serialize_pem()))
}

fn server_config(dir: &Path) -> Result<Arc<rustls::ServerConfig>, PkiError> {
    let cert = CertificateDer::from_pem_file(dir.join(CERT)).map_err(PkiError::Pem)?;
    let key = PrivateKeyDer::from_pem_file(dir.join(KEY)).map_err(PkiError::Pem)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(PkiError::Tls)?
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .map_err(PkiError::Tls)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read(dir: &Path, name: &str) -> Result<String, PkiError> {
    let path = dir.join(name);
    fs::read_to_string(&path).map_err(|e| PkiError::Io(path, e))
}

/// Makes a folder that only its owner enters.
pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Writes a file that only its owner reads, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&fresh)?.write_all(bytes)?;
    fs::rename(&fresh, path)
}
