//! Encoding and decoding of little-endian integers. Never panics on short input.

/// Reads fields one after another; `None` at the end of the bytes.
pub(crate) struct ByteReader<'a> {
    rest: &'a [u8],
}

impl<'a> ByteReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(n)?;
        self.rest = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.rest.split_first_chunk::<N>()?;
        self.rest = tail;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|a| a[0])
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Converts a length that the format bounds below 4 GiB.
pub(crate) fn to_u32(n: usize) -> u32 {
    u32::try_from(n).expect("lengths are checked against the limits of the format, all below 4 GiB")
}

/// Converts a length or offset within a file to an index into memory.
pub(crate) fn to_usize(n: u64) -> usize {
    usize::try_from(n).expect("positions within a segment are below 4 GiB")
}

/// Block offsets are multiples of eight, so that a search after damage has few candidates.
pub(crate) const ALIGN: u64 = 8;

pub(crate) fn aligned(n: u64) -> u64 {
    n.next_multiple_of(ALIGN)
}
