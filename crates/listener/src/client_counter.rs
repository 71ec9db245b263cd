//! Number of connections per client.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

/// Addresses without a connection limit: those of proxies.
pub type ExemptClients = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Connections per client.
pub(super) struct ClientCounter {
    /// Zero is no limit.
    max: usize,
    exempt: Option<ExemptClients>,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl fmt::Debug for ClientCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCounter")
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

/// A counted connection, until dropped.
#[derive(Debug)]
pub(super) struct ClientPermit {
    clients: Arc<ClientCounter>,
    client: Option<IpAddr>,
}

impl ClientCounter {
    pub(super) fn new(max: usize, exempt: Option<ExemptClients>) -> Arc<Self> {
        Arc::new(Self {
            max,
            exempt,
            open: Mutex::default(),
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock()
    }

    /// Counts one more connection of a client; `None` at its limit.
    pub(super) fn try_acquire(self: &Arc<Self>, address: IpAddr) -> Option<ClientPermit> {
        let address = address.to_canonical();
        let is_unlimited = self.max == 0 || self.exempt.as_ref().is_some_and(|is| is(address));
        let client = (!is_unlimited).then(|| network(address));
        if let Some(client) = client {
            let mut open = self.open();
            let count = open.entry(client).or_default();
            if *count >= self.max {
                return None;
            }
            *count += 1;
        }
        Some(ClientPermit {
            clients: Arc::clone(self),
            client,
        })
    }
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        let Some(client) = self.client else {
            return;
        };
        let mut open = self.clients.open();
        if let Some(count) = open.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                open.remove(&client);
            }
        }
    }
}

/// The unit of counting: an IPv6 client may use any address of its network.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_is_limited_and_proxies_are_not() {
        let is_proxy = |a: IpAddr| matches!(a, IpAddr::V4(v4) if v4.octets()[0] == 10);
        let clients = ClientCounter::new(2, Some(Arc::new(is_proxy)));
        let count = |text: &str| clients.try_acquire(text.parse().unwrap());
        let (a, _b) = (count("1.2.3.4").unwrap(), count("::ffff:1.2.3.4").unwrap());
        assert!(count("1.2.3.4").is_none());
        let _other = count("1.2.3.5").unwrap();
        let _proxies: Vec<_> = (0..9).map(|_| count("10.1.1.1").unwrap()).collect();
        let _six = (count("2001:db8::1").unwrap(), count("2001:db8::2").unwrap());
        assert!(count("2001:db8::3").is_none());
        assert!(count("2001:db8:0:1::3").is_some());
        drop(a);
        let again = count("1.2.3.4").unwrap();
        assert!(count("1.2.3.4").is_none());
        drop(again);
        assert_eq!(clients.open().len(), 3);
    }
}
