//! The servers of one database, in the order in which they are tried.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where a server listens.
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

/// One server or more that hold the same database, of which one takes writes at a time.
///
/// Clones share the choice: the threads of a process must not write to two servers.
#[derive(Debug, Clone)]
pub struct Servers {
    /// At least one.
    addresses: Arc<[ServerAddress]>,
    in_use: Arc<AtomicUsize>,
}

impl Servers {
    /// A single server.
    #[must_use]
    pub fn single(host: impl Into<String>, port: u16) -> Self {
        Self::from_addresses(vec![ServerAddress { host: host.into(), port }])
    }

    /// Several servers, the preferred one first; none for an empty list.
    #[must_use]
    pub fn new(addresses: Vec<ServerAddress>) -> Option<Self> {
        (!addresses.is_empty()).then(|| Self::from_addresses(addresses))
    }

    fn from_addresses(addresses: Vec<ServerAddress>) -> Self {
        Self { addresses: addresses.into(), in_use: Arc::default() }
    }

    /// All addresses, in the order of the list.
    #[must_use]
    pub fn addresses(&self) -> &[ServerAddress] {
        &self.addresses
    }

    /// The address at `index`; beyond the end the last one.
    #[must_use]
    pub fn address(&self, index: usize) -> &ServerAddress {
        &self.addresses[index.min(self.addresses.len() - 1)]
    }

    /// Whether another server can stand in.
    #[must_use]
    pub fn are_several(&self) -> bool {
        self.addresses.len() > 1
    }

    /// Index of the server in use; before any connection the first.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Uses another server from now on; returns the former one if it was another.
    pub(crate) fn switch_to(&self, index: usize) -> Option<&ServerAddress> {
        let former = self.in_use.swap(index, Ordering::Relaxed);
        (former != index).then(|| self.address(former))
    }

    /// Indices in the order to try: the server in use, then the others by the list.
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
