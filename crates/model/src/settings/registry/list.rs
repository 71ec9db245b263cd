//! All settings.

use serde_json::Value;

use super::{Rule, Scope, Setter, Setting, SettingType};
use crate::handshake::{Handshake, VERIFY_TOKEN_MAX};
use crate::quota::{BYTES_MAX, REQUESTS_MAX};
use crate::settings::{CompressionType, OnRefused, SyncMode};
use crate::units::{ByteSize, Span};

/// What the API calls a value that is written so.
macro_rules! kind {
    (Int) => {
        SettingType::Int
    };
    (Bool) => {
        SettingType::Bool
    };
    (List) => {
        SettingType::StringList
    };
    ($text:ident) => {
        SettingType::String
    };
}

macro_rules! setting {
    (@$scope:ident, $key:expr, $rule:expr, $protected:literal, $setter:ident,
     |$s:ident| $field:expr, $get:expr, |$t:ident, $v:ident| $set:expr, $description:literal) => {
        Setting {
            key: $key,
            scope: Scope::$scope,
            kind: kind!($setter),
            rule: $rule,
            protected: $protected,
            description: $description,
            get: |$s| $get($field),
            set: Setter::$setter(|$t, $v| $set),
        }
    };
    ($key:literal, $($rest:tt)*) => {
        setting!(@Sink, concat!("storage.level.", $key), $($rest)*)
    };
}

fn int(n: u64) -> Value {
    Value::from(n)
}

fn shown(value: impl ToString) -> Value {
    Value::from(value.to_string())
}

fn compression_name(kind: CompressionType) -> &'static str {
    match kind {
        CompressionType::None => "none",
        CompressionType::Gzip => "gzip",
        CompressionType::Zstd => "zstd",
    }
}

fn compression_kind(name: &str) -> CompressionType {
    match name {
        "none" => CompressionType::None,
        "zstd" => CompressionType::Zstd,
        _ => CompressionType::Gzip,
    }
}

fn mode_name(mode: SyncMode) -> &'static str {
    match mode {
        SyncMode::Disk => "disk",
        SyncMode::Cache => "cache",
    }
}

fn refused_name(action: OnRefused) -> &'static str {
    match action {
        OnRefused::Reject => "reject",
        OnRefused::DeadLetter => "dead_letter",
    }
}

/// Sorted by key, which [`super::SettingRegistry::get`] relies on and a test checks.
pub(super) static SETTINGS: &[Setting] = &[
    setting!(
        @Source,
        "source.handshake.kinds",
        Rule::ListOf(&Handshake::NAMES),
        false,
        List,
        |s| s.handshakes.names(),
        Value::from,
        |s, v| s.handshakes.set_names(&v),
        "Requests of webhook senders that check the address before they send, and that are answered: docs/reference/records.md; put: PUT is taken as POST."
    ),
    setting!(
        @Source,
        "source.handshake.verifyToken",
        Rule::Chars(VERIFY_TOKEN_MAX),
        false,
        Text,
        |s| &s.handshakes.verify_token,
        shown,
        |s, v| v.clone_into(&mut s.handshakes.verify_token),
        "What hub.verify_token of a handshake of the kind hub must be; empty: anything."
    ),
    setting!(
        @Source,
        "source.quota.bytesPerSecond",
        Rule::Size(ByteSize(0), BYTES_MAX),
        true,
        Size,
        |s| s.quota.bytes_per_second,
        shown,
        |s, v| s.quota.bytes_per_second = v,
        "Bytes of bodies, as sent, that the source takes in a second; 0B is no limit."
    ),
    setting!(
        @Source,
        "source.quota.requestsPerSecond",
        Rule::Int(0, REQUESTS_MAX),
        true,
        Int,
        |s| s.quota.requests_per_second,
        int,
        |s, v| s.quota.requests_per_second = v,
        "Requests that the source takes in a second; 0 is no limit."
    ),
    setting!(
        "local.encoding.compression.gzip.blockSize",
        Rule::Size(ByteSize::kb(16), ByteSize::mb(16)),
        true,
        Size,
        |s| s.block_size,
        shown,
        |s, v| s.block_size = v,
        "Raw bytes at which a block is closed and compressed."
    ),
    setting!(
        "local.encoding.compression.gzip.concurrency",
        Rule::Any,
        true,
        Int,
        |s| s.inert.gzip_concurrency,
        int,
        |s, v| s.inert.gzip_concurrency = v,
        "Without effect, kept for compatible clients: blocks are compressed on the node's own threads."
    ),
    setting!(
        "local.encoding.compression.gzip.implementation",
        Rule::OneOf(&["standard", "fast", "parallel"]),
        true,
        Text,
        |s| &s.inert.gzip_implementation,
        shown,
        |s, v| s.inert.gzip_implementation = v.to_owned(),
        "Without effect, kept for compatible clients: there is one implementation."
    ),
    setting!(
        "local.encoding.compression.gzip.level",
        Rule::OptionalInt(1, 9),
        true,
        Int,
        |s| u64::from(s.compression_level),
        int,
        |s, v| s.compression_level = u8::try_from(v).unwrap_or(9),
        "Compression level of gzip and zstd: 1 is the fastest, 9 the smallest."
    ),
    setting!(
        "local.encoding.compression.type",
        Rule::OneOf(&["none", "gzip", "zstd"]),
        true,
        Text,
        |s| compression_name(s.compression),
        shown,
        |s, v| s.compression = compression_kind(v),
        "Compression of blocks, in the log and in staging."
    ),
    setting!(
        "local.encoding.encoder.concurrency",
        Rule::Int(0, 256),
        true,
        Int,
        |s| s.inert.encoder_concurrency,
        int,
        |s, v| s.inert.encoder_concurrency = v,
        "Without effect, kept for compatible clients: each request encodes its own rows."
    ),
    setting!(
        "local.encoding.encoder.type",
        Rule::OneOf(&["csv"]),
        true,
        Text,
        |s| &s.inert.encoder_type,
        shown,
        |s, v| s.inert.encoder_type = v.to_owned(),
        "Format of the rows."
    ),
    setting!(
        "local.encoding.failedChunksThreshold",
        Rule::Int(1, 100),
        true,
        Int,
        |s| s.inert.failed_chunks_threshold,
        int,
        |s, v| s.inert.failed_chunks_threshold = v,
        "Without effect, kept for compatible clients: there are no chunks to fail."
    ),
    setting!(
        "local.encoding.inputBuffer",
        Rule::Size(ByteSize(0), ByteSize::mb(16)),
        true,
        Size,
        |s| s.inert.input_buffer,
        shown,
        |s, v| s.inert.input_buffer = v,
        "Without effect, kept for compatible clients: the node's limit on bytes in flight bounds what is buffered."
    ),
    setting!(
        "local.encoding.maxChunkSize",
        Rule::Size(ByteSize::kb(64), ByteSize::mb(1)),
        true,
        Size,
        |s| s.inert.max_chunk_size,
        shown,
        |s, v| s.inert.max_chunk_size = v,
        "Without effect, kept for compatible clients: blocks are written whole."
    ),
    setting!(
        "local.encoding.sync.checkInterval",
        Rule::Span(Span::millis(1), Span::secs(30)),
        true,
        Span,
        |s| s.sync.check_interval,
        shown,
        |s, v| s.sync.check_interval = v,
        "How often the sync triggers are looked at while the disk is busy."
    ),
    setting!(
        "local.encoding.sync.compressedBytesTrigger",
        Rule::Size(ByteSize(100), ByteSize::mb(100)),
        true,
        Size,
        |s| s.sync.compressed,
        shown,
        |s, v| s.sync.compressed = v,
        "Compressed bytes at which waiting rows are handed to the disk even while it is busy."
    ),
    setting!(
        "local.encoding.sync.countTrigger",
        Rule::Int(1, 1_000_000),
        true,
        Int,
        |s| s.sync.count,
        int,
        |s, v| s.sync.count = v,
        "Records at which waiting rows are handed to the disk even while it is busy."
    ),
    setting!(
        "local.encoding.sync.intervalTrigger",
        Rule::Span(Span::millis(10), Span::secs(30)),
        true,
        Span,
        |s| s.sync.interval,
        shown,
        |s, v| s.sync.interval = v,
        "Age at which waiting rows are handed to the disk even while it is busy."
    ),
    setting!(
        "local.encoding.sync.mode",
        Rule::OneOf(&["disk", "cache"]),
        true,
        Text,
        |s| mode_name(s.sync.mode),
        shown,
        |s, v| s.sync.mode = if v == "cache" {
            SyncMode::Cache
        } else {
            SyncMode::Disk
        },
        "What an acknowledgement means at least: the record survived fsync (disk), or is in the operating system's cache (cache). A volume whose log syncs (log.sync) always answers after fsync."
    ),
    setting!(
        "local.encoding.sync.uncompressedBytesTrigger",
        Rule::Size(ByteSize(100), ByteSize::mb(500)),
        true,
        Size,
        |s| s.sync.uncompressed,
        shown,
        |s, v| s.sync.uncompressed = v,
        "Raw bytes at which waiting rows are handed to the disk even while it is busy."
    ),
    setting!(
        "local.encoding.sync.wait",
        Rule::Any,
        false,
        Bool,
        |s| s.sync.wait,
        Value::from,
        |s, v| s.sync.wait = v,
        "Whether the answer waits until the record is safe; without it the answer is 202 and a crash can lose the record."
    ),
    setting!(
        "local.mapping.refused.action",
        Rule::OneOf(&["reject", "dead_letter"]),
        false,
        Text,
        |s| refused_name(s.refused.action),
        shown,
        |s, v| s.refused.action = if v == "dead_letter" {
            OnRefused::DeadLetter
        } else {
            OnRefused::Reject
        },
        "What becomes of a record that the mapping refuses: its sender is told so (reject), or it is accepted and kept with its error (dead_letter)."
    ),
    setting!(
        "local.mapping.refused.deadLettersMax",
        Rule::Size(ByteSize::kb(1), ByteSize::mb(10 * 1024)),
        false,
        Size,
        |s| s.refused.dead_letters_max,
        shown,
        |s, v| s.refused.dead_letters_max = v,
        "Compressed bytes of dead letters on a volume; from there on refused records are rejected until some are replayed or dropped."
    ),
    setting!(
        "local.volume.assignment.count",
        Rule::Int(1, 100),
        true,
        Int,
        |s| s.inert.assignment_count,
        int,
        |s, v| s.inert.assignment_count = v,
        "Volumes that a file is spread over; one node has one volume."
    ),
    setting!(
        "local.volume.assignment.preferredTypes",
        Rule::NonEmptyList,
        true,
        List,
        |s| s.inert.preferred_types.clone(),
        Value::from,
        |s, v| s.inert.preferred_types = v,
        "Types of volumes to take first; one node has one volume."
    ),
    setting!(
        "staging.upload.trigger.count",
        Rule::Int(1, 10_000_000),
        false,
        Int,
        |s| s.upload.count,
        int,
        |s, v| s.upload.count = v,
        "Records at which a slice goes to staging."
    ),
    setting!(
        "staging.upload.trigger.interval",
        Rule::Span(Span::secs(1), Span::mins(30)),
        false,
        Span,
        |s| s.upload.interval,
        shown,
        |s, v| s.upload.interval = v,
        "Age at which a slice goes to staging."
    ),
    setting!(
        "staging.upload.trigger.size",
        Rule::Size(ByteSize(100), ByteSize::mb(50)),
        false,
        Size,
        |s| s.upload.size,
        shown,
        |s, v| s.upload.size = v,
        "Compressed bytes at which a slice goes to staging."
    ),
    setting!(
        "target.import.parked.holdBack",
        Rule::Span(Span::secs(0), Span::hours(24)),
        false,
        Span,
        |s| s.import.hold_back,
        shown,
        |s, v| s.import.hold_back = v,
        "How long a file that its table can't take holds back later files of its sink, if the table has a primary key; without one it holds back none."
    ),
    setting!(
        "target.import.trigger.count",
        Rule::Int(1, 10_000_000),
        false,
        Int,
        |s| s.import.count,
        int,
        |s, v| s.import.count = v,
        "Records at which a file goes into its table."
    ),
    setting!(
        "target.import.trigger.expiration",
        Rule::Span(Span::mins(5), Span::mins(45)),
        true,
        Span,
        |s| s.import.expiration,
        shown,
        |s, v| s.import.expiration = v,
        "Age at which a file goes into its table even if imports are throttled."
    ),
    setting!(
        "target.import.trigger.interval",
        Rule::Span(Span::secs(1), Span::hours(24)),
        false,
        Span,
        |s| s.import.interval,
        shown,
        |s, v| s.import.interval = v,
        "Age at which a file goes into its table."
    ),
    setting!(
        "target.import.trigger.size",
        Rule::Size(ByteSize(100), ByteSize::mb(500)),
        false,
        Size,
        |s| s.import.size,
        shown,
        |s, v| s.import.size = v,
        "Compressed bytes at which a file goes into its table."
    ),
    setting!(
        "target.import.trigger.slicesCount",
        Rule::Int(1, 200),
        true,
        Int,
        |s| s.import.slices,
        int,
        |s, v| s.import.slices = v,
        "Slices at which a file goes into its table."
    ),
];
