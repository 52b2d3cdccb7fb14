//! The one TLS provider: ring.

/// Makes ring the provider of every TLS connection of this process; again does nothing.
pub fn install_crypto() {
    // An error means that somebody was first, and all of us install the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
