//! Servers of one database, in order of preference.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// Name or address of the host.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Servers of the same database, with one writable server at a time.
///
/// Clones share the current server, because the threads of a process must not write to two servers.
#[derive(Debug, Clone)]
pub struct Servers {
    /// Never empty.
    addresses: Arc<[ServerAddress]>,
    in_use: Arc<AtomicUsize>,
}

impl Servers {
    /// Creates a list with a single server.
    #[must_use]
    pub fn single(host: impl Into<String>, port: u16) -> Self {
        Self::from_addresses(vec![ServerAddress { host: host.into(), port }])
    }

    /// Creates a list in order of preference; none if it is empty.
    #[must_use]
    pub fn new(addresses: Vec<ServerAddress>) -> Option<Self> {
        (!addresses.is_empty()).then(|| Self::from_addresses(addresses))
    }

    fn from_addresses(addresses: Vec<ServerAddress>) -> Self {
        Self { addresses: addresses.into(), in_use: Arc::default() }
    }

    /// Returns all addresses in order of preference.
    #[must_use]
    pub fn addresses(&self) -> &[ServerAddress] {
        &self.addresses
    }

    /// Returns the address at `index`, or the last one beyond the end.
    #[must_use]
    pub fn address(&self, index: usize) -> &ServerAddress {
        &self.addresses[index.min(self.addresses.len() - 1)]
    }

    /// Returns whether the list has more than one server.
    #[must_use]
    pub fn are_several(&self) -> bool {
        self.addresses.len() > 1
    }

    /// Returns the index of the current server; the first one before any connection.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Switches to a server. Returns the former one if it differs.
    pub(crate) fn switch_to(&self, index: usize) -> Option<&ServerAddress> {
        let former = self.in_use.swap(index, Ordering::Relaxed);
        (former != index).then(|| self.address(former))
    }

    /// Returns the indices to try in order: the current server, then the others by preference.
    pub(crate) fn by_preference(&self) -> impl Iterator<Item = usize> + use<> {
        let in_use = self.in_use();
        std::iter::once(in_use).chain((0..self.addresses.len()).filter(move |index| *index != in_use))
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.addresses.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            address.fmt(f)?;
        }
        Ok(())
    }
}
