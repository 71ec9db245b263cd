//! Conversations of a protocol, and the moments at which they are cut.

/// Point at which a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Some rows of a `COPY` were forwarded, its end was not.
    InCopy,
    /// All of a transaction but its `COMMIT` was forwarded.
    BeforeCommit,
    /// The server committed, its response is not forwarded.
    AfterCommit,
    /// Half of an object was forwarded.
    InPut,
    /// The server stored the object, its response is not forwarded.
    AfterPut,
    /// Part of an object that is read was forwarded.
    InGet,
    /// The server deleted an object, its response is not forwarded.
    AfterDelete,
}

impl Moment {
    /// All points of a protocol.
    pub fn of(protocol: Protocol) -> &'static [Self] {
        match protocol {
            Protocol::Postgres => &[Self::InCopy, Self::BeforeCommit, Self::AfterCommit],
            Protocol::Http => &[Self::InPut, Self::AfterPut, Self::InGet, Self::AfterDelete],
        }
    }
}

/// Tracks a connection. Both methods return how many of the bytes to forward; if not all, the
/// connection is cut after them.
pub(super) trait Conversation: Send {
    fn client_sent(&mut self, bytes: &[u8], take: &dyn Fn(Moment) -> bool) -> usize;
    fn server_sent(&mut self, bytes: &[u8], take: &dyn Fn(Moment) -> bool) -> usize;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// PostgreSQL version 3, without TLS.
    Postgres,
    /// HTTP/1.1 without TLS and chunked requests, as S3 clients use it.
    Http,
}
