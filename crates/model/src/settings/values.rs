//! All settings of a sink, as types with their defaults.

use serde::{Deserialize, Serialize};

use super::inert::InertSettings;
use crate::handshake::HandshakeSettings;
use crate::quota::SourceQuota;
use crate::units::{ByteSize, HumanDuration};

/// Compression of a slice's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum BlockCompression {
    /// No compression.
    None,
    /// One complete gzip member per block, so that joined blocks are a valid `.gz`.
    Gzip {
        /// 1 (fastest) to 9 (smallest).
        level: u8,
    },
    /// One Zstandard frame per block.
    Zstd {
        /// 1 (fastest) to 9 (smallest).
        level: u8,
    },
}

/// Durability of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkSyncMode {
    /// The bytes survived fsync.
    Disk,
    /// The bytes are in the operating system's cache: they survive the process, not the machine.
    Cache,
}

/// All settings of a sink, typed.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkSettings {
    /// Name of the compression: `gzip`, `zstd` or `none`.
    pub compression: CompressionType,
    /// Level of gzip and zstd, 1 to 9.
    pub compression_level: u8,
    /// Raw bytes at which a block is closed.
    pub block_size: ByteSize,
    /// Acknowledgements and block triggers.
    pub sync: SyncSettings,
    /// When a slice is uploaded to staging.
    pub upload: UploadTrigger,
    /// When a file is imported into the table.
    pub import: ImportTrigger,
    /// Handling of records that the mapping rejects.
    pub rejection: RejectionSettings,
    /// Quota of the source. Not fixed into files.
    pub quota: SourceQuota,
    /// Handshakes that the source answers. Not fixed into files.
    pub handshakes: HandshakeSettings,
    /// Settings without effect.
    pub inert: InertSettings,
}

/// Name of a compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// No compression.
    None,
    /// Supported by every reader.
    Gzip,
    /// Faster and smaller; not supported by every reader.
    Zstd,
}

/// Handling of a record that a sink's mapping rejects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionAction {
    /// The request is rejected; the sender keeps the record.
    Reject,
    /// The record is accepted and stored with its error until it is replayed or dropped.
    DeadLetter,
}

/// Handling of records that a sink's mapping rejects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectionSettings {
    /// The action.
    pub action: RejectionAction,
    /// Compressed bytes of dead letters on a volume at which records are rejected all the same.
    pub dead_letters_max: ByteSize,
}

/// When a request is acknowledged, and how long a block gathers rows while the disk is busy.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncSettings {
    /// Durability of an acknowledgement.
    pub mode: SinkSyncMode,
    /// `false`: the client gets `202` before the record is on disk.
    pub wait: bool,
    /// Interval of checking the triggers.
    pub check_interval: HumanDuration,
    /// Records at which a block is closed.
    pub count: u64,
    /// Raw bytes at which a block is closed.
    pub uncompressed: ByteSize,
    /// Compressed bytes (estimated from the blocks before) at which a block is closed.
    pub compressed: ByteSize,
    /// Age at which a block is closed.
    pub interval: HumanDuration,
}

/// When a slice is closed and uploaded to staging: at the first trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadTrigger {
    /// Number of records.
    pub count: u64,
    /// Compressed bytes.
    pub size: ByteSize,
    /// Age of the slice.
    pub interval: HumanDuration,
}

/// When a file is closed and imported into its table: at the first trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportTrigger {
    /// Number of records.
    pub count: u64,
    /// Compressed bytes.
    pub size: ByteSize,
    /// Age of the file.
    pub interval: HumanDuration,
    /// Number of slices.
    pub slices: u64,
    /// Age at which even a throttled file is closed.
    pub expiration: HumanDuration,
    /// How long a file that its table can't import delays later ones, where the order of rows
    /// matters.
    pub hold_back: HumanDuration,
}

impl Default for SinkSettings {
    fn default() -> Self {
        Self {
            compression: CompressionType::Gzip,
            compression_level: 1,
            block_size: ByteSize::kb(256),
            sync: SyncSettings {
                mode: SinkSyncMode::Disk,
                wait: true,
                check_interval: HumanDuration::millis(5),
                count: 10_000,
                uncompressed: ByteSize::mb(1),
                compressed: ByteSize::kb(256),
                interval: HumanDuration::millis(50),
            },
            upload: UploadTrigger {
                count: 10_000,
                size: ByteSize::mb(5),
                interval: HumanDuration::secs(1),
            },
            import: ImportTrigger {
                count: 50_000,
                size: ByteSize::mb(50),
                interval: HumanDuration::secs(2),
                slices: 100,
                expiration: HumanDuration::mins(30),
                hold_back: HumanDuration::mins(10),
            },
            rejection: RejectionSettings {
                action: RejectionAction::Reject,
                dead_letters_max: ByteSize::mb(100),
            },
            quota: SourceQuota::default(),
            handshakes: HandshakeSettings::default(),
            inert: InertSettings::default(),
        }
    }
}
