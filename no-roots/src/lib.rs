//! An empty list of certificate authorities.
//!
//! The database driver adds the file of `DB_SSL_CA` to the list that the crate `webpki-roots` has compiled in, and
//! offers no way around it. With `verify-ca`, which compares no names, the certificate of any web site would then be
//! accepted as that of the database.

use rustls_pki_types::TrustAnchor;

/// The list of trusted authorities, which is empty.
pub const TLS_SERVER_ROOTS: &[TrustAnchor<'static>] = &[];
