//! All settings.

use serde_json::Value;

use crate::handshake::{HandshakeKind, VERIFY_TOKEN_MAX};
use crate::quota::{BYTES_MAX, REQUESTS_MAX};
use crate::settings::spec::{
    SettingRule, SettingScope, SettingSetter, SettingSpec, SettingValueType,
};
use crate::settings::values::{CompressionType, RejectionAction, SinkSyncMode};
use crate::units::{ByteSize, HumanDuration};

/// Maps a Rust type to its name in the API.
macro_rules! kind {
    (Int) => {
        SettingValueType::Int
    };
    (Bool) => {
        SettingValueType::Bool
    };
    (List) => {
        SettingValueType::StringList
    };
    ($text:ident) => {
        SettingValueType::String
    };
}

macro_rules! setting {
    (@$scope:ident, $key:expr, $rule:expr, $protected:literal, $setter:ident,
     |$s:ident| $field:expr, $get:expr, |$t:ident, $v:ident| $set:expr, $description:literal) => {
        SettingSpec {
            key: $key,
            scope: SettingScope::$scope,
            kind: kind!($setter),
            rule: $rule,
            protected: $protected,
            description: $description,
            get: |$s| $get($field),
            set: SettingSetter::$setter(|$t, $v| $set),
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

fn mode_name(mode: SinkSyncMode) -> &'static str {
    match mode {
        SinkSyncMode::Disk => "disk",
        SinkSyncMode::Cache => "cache",
    }
}

fn rejection_action_name(action: RejectionAction) -> &'static str {
    match action {
        RejectionAction::Reject => "reject",
        RejectionAction::DeadLetter => "dead_letter",
    }
}

/// Sorted by key, which [`super::SettingRegistry::get`] relies on and a test checks.
pub(super) static SETTINGS: &[SettingSpec] = &[
    setting!(
        @Source,
        "source.handshake.kinds",
        SettingRule::ListOf(&HandshakeKind::NAMES),
        false,
        List,
        |s| s.handshakes.names(),
        Value::from,
        |s, v| s.handshakes.set_names(&v),
        "Webhook handshakes that the source answers, see docs/reference/records.md; put: PUT is accepted as POST."
    ),
    setting!(
        @Source,
        "source.handshake.verifyToken",
        SettingRule::Chars(VERIFY_TOKEN_MAX),
        false,
        Text,
        |s| &s.handshakes.verify_token,
        shown,
        |s, v| v.clone_into(&mut s.handshakes.verify_token),
        "Required hub.verify_token of a handshake of kind hub; empty: any."
    ),
    setting!(
        @Source,
        "source.quota.bytesPerSecond",
        SettingRule::Size(ByteSize(0), BYTES_MAX),
        true,
        Size,
        |s| s.quota.bytes_per_second,
        shown,
        |s, v| s.quota.bytes_per_second = v,
        "Request body bytes, as sent, that the source accepts per second; 0B is no limit."
    ),
    setting!(
        @Source,
        "source.quota.requestsPerSecond",
        SettingRule::Int(0, REQUESTS_MAX),
        true,
        Int,
        |s| s.quota.requests_per_second,
        int,
        |s, v| s.quota.requests_per_second = v,
        "Requests that the source accepts per second; 0 is no limit."
    ),
    setting!(
        "local.encoding.compression.gzip.blockSize",
        SettingRule::Size(ByteSize::kb(16), ByteSize::mb(16)),
        true,
        Size,
        |s| s.block_size,
        shown,
        |s, v| s.block_size = v,
        "Raw bytes at which a block is closed and compressed."
    ),
    setting!(
        "local.encoding.compression.gzip.concurrency",
        SettingRule::Any,
        true,
        Int,
        |s| s.inert.gzip_concurrency,
        int,
        |s, v| s.inert.gzip_concurrency = v,
        "Without effect, kept for compatible clients: blocks are compressed on the node's own threads."
    ),
    setting!(
        "local.encoding.compression.gzip.implementation",
        SettingRule::OneOf(&["standard", "fast", "parallel"]),
        true,
        Text,
        |s| &s.inert.gzip_implementation,
        shown,
        |s, v| s.inert.gzip_implementation = v.to_owned(),
        "Without effect, kept for compatible clients: there is one implementation."
    ),
    setting!(
        "local.encoding.compression.gzip.level",
        SettingRule::Int(1, 9),
        true,
        Int,
        |s| u64::from(s.compression_level),
        int,
        |s, v| s.compression_level = u8::try_from(v).unwrap_or(9),
        "Compression level of gzip and zstd: 1 is the fastest, 9 the smallest."
    ),
    setting!(
        "local.encoding.compression.type",
        SettingRule::OneOf(&["none", "gzip", "zstd"]),
        true,
        Text,
        |s| compression_name(s.compression),
        shown,
        |s, v| s.compression = compression_kind(v),
        "Compression of blocks, in the log and in staging."
    ),
    setting!(
        "local.encoding.encoder.concurrency",
        SettingRule::Int(0, 256),
        true,
        Int,
        |s| s.inert.encoder_concurrency,
        int,
        |s, v| s.inert.encoder_concurrency = v,
        "Without effect, kept for compatible clients: each request encodes its own rows."
    ),
    setting!(
        "local.encoding.encoder.type",
        SettingRule::OneOf(&["csv"]),
        true,
        Text,
        |s| &s.inert.encoder_type,
        shown,
        |s, v| s.inert.encoder_type = v.to_owned(),
        "Format of the rows."
    ),
    setting!(
        "local.encoding.failedChunksThreshold",
        SettingRule::Int(1, 100),
        true,
        Int,
        |s| s.inert.failed_chunks_threshold,
        int,
        |s, v| s.inert.failed_chunks_threshold = v,
        "Without effect, kept for compatible clients: there are no chunks to fail."
    ),
    setting!(
        "local.encoding.inputBuffer",
        SettingRule::Size(ByteSize(0), ByteSize::mb(16)),
        true,
        Size,
        |s| s.inert.input_buffer,
        shown,
        |s, v| s.inert.input_buffer = v,
        "Without effect, kept for compatible clients: the node's limit on bytes in flight bounds buffering."
    ),
    setting!(
        "local.encoding.maxChunkSize",
        SettingRule::Size(ByteSize::kb(64), ByteSize::mb(1)),
        true,
        Size,
        |s| s.inert.max_chunk_size,
        shown,
        |s, v| s.inert.max_chunk_size = v,
        "Without effect, kept for compatible clients: blocks are written whole."
    ),
    setting!(
        "local.encoding.sync.checkInterval",
        SettingRule::Duration(HumanDuration::millis(1), HumanDuration::secs(30)),
        true,
        Duration,
        |s| s.sync.check_interval,
        shown,
        |s, v| s.sync.check_interval = v,
        "Interval of checking the sync triggers while the disk is busy."
    ),
    setting!(
        "local.encoding.sync.compressedBytesTrigger",
        SettingRule::Size(ByteSize(100), ByteSize::mb(100)),
        true,
        Size,
        |s| s.sync.compressed,
        shown,
        |s, v| s.sync.compressed = v,
        "Compressed bytes at which waiting rows are written even while the disk is busy."
    ),
    setting!(
        "local.encoding.sync.countTrigger",
        SettingRule::Int(1, 1_000_000),
        true,
        Int,
        |s| s.sync.count,
        int,
        |s, v| s.sync.count = v,
        "Records at which waiting rows are written even while the disk is busy."
    ),
    setting!(
        "local.encoding.sync.intervalTrigger",
        SettingRule::Duration(HumanDuration::millis(10), HumanDuration::secs(30)),
        true,
        Duration,
        |s| s.sync.interval,
        shown,
        |s, v| s.sync.interval = v,
        "Age at which waiting rows are written even while the disk is busy."
    ),
    setting!(
        "local.encoding.sync.mode",
        SettingRule::OneOf(&["disk", "cache"]),
        true,
        Text,
        |s| mode_name(s.sync.mode),
        shown,
        |s, v| s.sync.mode = if v == "cache" {
            SinkSyncMode::Cache
        } else {
            SinkSyncMode::Disk
        },
        "Minimum durability of an acknowledged record: fsync (disk), or the operating system's cache (cache). A volume whose log syncs (log.sync) always acknowledges after fsync."
    ),
    setting!(
        "local.encoding.sync.uncompressedBytesTrigger",
        SettingRule::Size(ByteSize(100), ByteSize::mb(500)),
        true,
        Size,
        |s| s.sync.uncompressed,
        shown,
        |s, v| s.sync.uncompressed = v,
        "Raw bytes at which waiting rows are written even while the disk is busy."
    ),
    setting!(
        "local.encoding.sync.wait",
        SettingRule::Any,
        false,
        Bool,
        |s| s.sync.wait,
        Value::from,
        |s, v| s.sync.wait = v,
        "Whether the response waits until the record is durable; otherwise it is 202, and a crash can lose the record."
    ),
    setting!(
        "local.mapping.rejected.action",
        SettingRule::OneOf(&["reject", "dead_letter"]),
        false,
        Text,
        |s| rejection_action_name(s.rejection.action),
        shown,
        |s, v| s.rejection.action = if v == "dead_letter" {
            RejectionAction::DeadLetter
        } else {
            RejectionAction::Reject
        },
        "Handling of a record that the mapping rejects: reject the request (reject), or accept the record as a dead letter with its error (dead_letter)."
    ),
    setting!(
        "local.mapping.rejected.deadLettersMax",
        SettingRule::Size(ByteSize::kb(1), ByteSize::mb(10 * 1024)),
        false,
        Size,
        |s| s.rejection.dead_letters_max,
        shown,
        |s, v| s.rejection.dead_letters_max = v,
        "Compressed bytes of dead letters on a volume; beyond it further ones are rejected until some are replayed or dropped."
    ),
    setting!(
        "local.volume.assignment.count",
        SettingRule::Int(1, 100),
        true,
        Int,
        |s| s.inert.assignment_count,
        int,
        |s, v| s.inert.assignment_count = v,
        "Volumes that a file is spread over; one node has one volume."
    ),
    setting!(
        "local.volume.assignment.preferredTypes",
        SettingRule::NonEmptyList,
        true,
        List,
        |s| s.inert.preferred_types.clone(),
        Value::from,
        |s, v| s.inert.preferred_types = v,
        "Preferred types of volumes; one node has one volume."
    ),
    setting!(
        "staging.upload.trigger.count",
        SettingRule::Int(1, 10_000_000),
        false,
        Int,
        |s| s.upload.count,
        int,
        |s, v| s.upload.count = v,
        "Records at which a slice is uploaded to staging."
    ),
    setting!(
        "staging.upload.trigger.interval",
        SettingRule::Duration(HumanDuration::secs(1), HumanDuration::mins(30)),
        false,
        Duration,
        |s| s.upload.interval,
        shown,
        |s, v| s.upload.interval = v,
        "Age at which a slice is uploaded to staging."
    ),
    setting!(
        "staging.upload.trigger.size",
        SettingRule::Size(ByteSize(100), ByteSize::mb(50)),
        false,
        Size,
        |s| s.upload.size,
        shown,
        |s, v| s.upload.size = v,
        "Compressed bytes at which a slice is uploaded to staging."
    ),
    setting!(
        "target.import.parked.holdBack",
        SettingRule::Duration(HumanDuration::secs(0), HumanDuration::hours(24)),
        false,
        Duration,
        |s| s.import.hold_back,
        shown,
        |s, v| s.import.hold_back = v,
        "How long a file that its table can't import delays later files of its sink, if the table has a primary key; without one it delays none."
    ),
    setting!(
        "target.import.trigger.count",
        SettingRule::Int(1, 10_000_000),
        false,
        Int,
        |s| s.import.count,
        int,
        |s, v| s.import.count = v,
        "Records at which a file is imported into its table."
    ),
    setting!(
        "target.import.trigger.expiration",
        SettingRule::Duration(HumanDuration::mins(5), HumanDuration::mins(45)),
        true,
        Duration,
        |s| s.import.expiration,
        shown,
        |s, v| s.import.expiration = v,
        "Age at which a file is imported into its table even if imports are throttled."
    ),
    setting!(
        "target.import.trigger.interval",
        SettingRule::Duration(HumanDuration::secs(1), HumanDuration::hours(24)),
        false,
        Duration,
        |s| s.import.interval,
        shown,
        |s, v| s.import.interval = v,
        "Age at which a file is imported into its table."
    ),
    setting!(
        "target.import.trigger.size",
        SettingRule::Size(ByteSize(100), ByteSize::mb(500)),
        false,
        Size,
        |s| s.import.size,
        shown,
        |s, v| s.import.size = v,
        "Compressed bytes at which a file is imported into its table."
    ),
    setting!(
        "target.import.trigger.slicesCount",
        SettingRule::Int(1, 200),
        true,
        Int,
        |s| s.import.slices,
        int,
        |s, v| s.import.slices = v,
        "Slices at which a file is imported into its table."
    ),
];
