//! Stream state on disk: the catalog at the start of a segment, and the control blocks after it.

use std::sync::Arc;

use crate::bytefields::{ByteReader, to_u32};

/// The longest name of a stream, in bytes.
pub const MAX_NAME: usize = 512;

/// A range of sequences of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SequenceRange {
    pub(crate) first: u64,
    pub(crate) end: u64,
}

impl SequenceRange {
    pub(crate) fn len(&self) -> u64 {
        self.end.saturating_sub(self.first)
    }
}

/// A change of the state, written as a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ControlBlock {
    Declare {
        stream: u64,
        name: Arc<str>,
    },
    /// Records below `up_to` are freed. `lost_before` counts the lost ones among them: no other
    /// record of them remains once their segments are removed.
    Trim {
        stream: u64,
        up_to: u64,
        lost_before: u64,
    },
    Close {
        stream: u64,
    },
    Delete {
        stream: u64,
    },
    /// Records that were found damaged when they were read.
    Lost {
        stream: u64,
        range: SequenceRange,
    },
    /// A segment is about to be removed. One that is missing without this record was lost.
    Drop {
        segment: u64,
    },
}

impl ControlBlock {
    pub(crate) fn stream(&self) -> u64 {
        match self {
            Self::Declare { stream, .. }
            | Self::Trim { stream, .. }
            | Self::Close { stream }
            | Self::Delete { stream }
            | Self::Lost { stream, .. } => *stream,
            Self::Drop { .. } => 0,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        let put = |out: &mut Vec<u8>, n: u64| out.extend_from_slice(&n.to_le_bytes());
        match self {
            Self::Declare { stream, name } => {
                out.push(1);
                put(&mut out, *stream);
                out.extend_from_slice(name.as_bytes());
            }
            Self::Trim {
                stream,
                up_to,
                lost_before,
            } => {
                out.push(2);
                put(&mut out, *stream);
                put(&mut out, *up_to);
                put(&mut out, *lost_before);
            }
            Self::Close { stream } => {
                out.push(3);
                put(&mut out, *stream);
            }
            Self::Delete { stream } => {
                out.push(4);
                put(&mut out, *stream);
            }
            Self::Lost { stream, range } => {
                out.push(5);
                put(&mut out, *stream);
                put(&mut out, range.first);
                put(&mut out, range.end);
            }
            Self::Drop { segment } => {
                out.push(6);
                put(&mut out, *segment);
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut f = ByteReader::new(bytes);
        let tag = f.u8()?;
        let stream = f.u64()?;
        Some(match tag {
            1 => Self::Declare {
                stream,
                name: name(bytes.get(9..)?)?,
            },
            2 => Self::Trim {
                stream,
                up_to: f.u64()?,
                lost_before: f.u64()?,
            },
            3 => Self::Close { stream },
            4 => Self::Delete { stream },
            5 => Self::Lost {
                stream,
                range: SequenceRange {
                    first: f.u64()?,
                    end: f.u64()?,
                },
            },
            6 => Self::Drop { segment: stream },
            _ => return None,
        })
    }
}

fn name(bytes: &[u8]) -> Option<Arc<str>> {
    let text = std::str::from_utf8(bytes).ok()?;
    (text.len() <= MAX_NAME).then(|| Arc::from(text))
}

/// State of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamState {
    pub(crate) stream: u64,
    pub(crate) name: Arc<str>,
    pub(crate) next_seq: u64,
    pub(crate) trimmed_to: u64,
    pub(crate) closed: bool,
    /// Lost records below `trimmed_to`.
    pub(crate) lost_before: u64,
    /// Blocks ever appended, and their bytes.
    pub(crate) total_blocks: u64,
    pub(crate) total_raw_bytes: u64,
    pub(crate) total_stored_bytes: u64,
    /// Lost ranges from `trimmed_to` on.
    pub(crate) lost: Vec<SequenceRange>,
}

/// The state that must outlive the previous segments: all live streams and segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Catalog {
    pub(crate) next_stream: u64,
    pub(crate) segments: Vec<u64>,
    pub(crate) streams: Vec<StreamState>,
}

impl Catalog {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.streams.len() * 128);
        let put = |out: &mut Vec<u8>, n: u64| out.extend_from_slice(&n.to_le_bytes());
        put(&mut out, self.next_stream);
        out.extend_from_slice(&to_u32(self.segments.len()).to_le_bytes());
        for &segment in &self.segments {
            put(&mut out, segment);
        }
        for state in &self.streams {
            put(&mut out, state.stream);
            put(&mut out, state.next_seq);
            put(&mut out, state.trimmed_to);
            put(&mut out, state.lost_before);
            put(&mut out, state.total_blocks);
            put(&mut out, state.total_raw_bytes);
            put(&mut out, state.total_stored_bytes);
            out.push(u8::from(state.closed));
            out.extend_from_slice(&to_u32(state.lost.len()).to_le_bytes());
            for range in &state.lost {
                put(&mut out, range.first);
                put(&mut out, range.end);
            }
            out.extend_from_slice(&to_u32(state.name.len()).to_le_bytes());
            out.extend_from_slice(state.name.as_bytes());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut f = ByteReader::new(bytes);
        let mut catalog = Self {
            next_stream: f.u64()?,
            ..Self::default()
        };
        for _ in 0..f.u32()? {
            catalog.segments.push(f.u64()?);
        }
        while !f.is_empty() {
            catalog.streams.push(decode_stream_state(&mut f)?);
        }
        Some(catalog)
    }
}

fn decode_stream_state(f: &mut ByteReader<'_>) -> Option<StreamState> {
    let mut state = StreamState {
        stream: f.u64()?,
        next_seq: f.u64()?,
        trimmed_to: f.u64()?,
        lost_before: f.u64()?,
        total_blocks: f.u64()?,
        total_raw_bytes: f.u64()?,
        total_stored_bytes: f.u64()?,
        closed: f.u8()? != 0,
        lost: Vec::new(),
        name: Arc::from(""),
    };
    for _ in 0..f.u32()? {
        state.lost.push(SequenceRange {
            first: f.u64()?,
            end: f.u64()?,
        });
    }
    let len = f.u32()? as usize;
    state.name = name(f.bytes(len)?)?;
    Some(state)
}
