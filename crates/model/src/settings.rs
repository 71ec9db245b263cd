//! Settings of a sink: what each is called, which values it takes, and the typed form that the
//! rest of the code uses. A sink's effective settings are the node's defaults, then its source's
//! own, then its own; they are fixed into each file when it is opened.

use serde_json::Value;

use crate::definition::SettingsPatch;
use crate::handshake::HandshakeSettings;
use crate::quota::SourceQuota;
use crate::units::{ByteSize, HumanDuration};

mod registry;

pub use registry::{
    SettingRegistry, SettingRule, SettingScope, SettingSpec, SettingValueType, SettingViolation,
};

/// How blocks of a slice are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockCompression {
    /// Not at all.
    None,
    /// One complete gzip member a block, so that blocks joined are a valid `.gz`.
    Gzip {
        /// 1 (fastest) to 9 (smallest).
        level: u8,
    },
    /// One Zstandard frame a block.
    Zstd {
        /// 1 (fastest) to 9 (smallest).
        level: u8,
    },
}

/// What an acknowledgement of a sink means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkSyncMode {
    /// The bytes survived fsync.
    Disk,
    /// The bytes are in the operating system's cache: they survive the process, not the machine.
    Cache,
}

/// Everything that can be set on a sink, typed.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkSettings {
    /// Name of the compression: `gzip`, `zstd` or `none`.
    pub compression: CompressionType,
    /// Level of gzip and zstd, 1 to 9.
    pub compression_level: u8,
    /// Raw bytes at which a block is closed.
    pub block_size: ByteSize,
    /// When the answer is given.
    pub sync: SyncSettings,
    /// When a slice goes to staging.
    pub upload: UploadTrigger,
    /// When a file goes into the table.
    pub import: ImportTrigger,
    /// What happens to records that the mapping refuses.
    pub rejection: RejectionSettings,
    /// What the source may use. It is no part of what a file is opened with.
    pub quota: SourceQuota,
    /// What the source answers to webhook senders. It is no part of what a file is opened with.
    pub handshakes: HandshakeSettings,
    /// Settings of the compatible API for parts that Forebay does not have; kept and shown, without
    /// effect.
    pub inert: InertSettings,
}

/// Name of a compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// Not at all.
    None,
    /// The one that every reader knows.
    Gzip,
    /// Faster and smaller; not every reader knows it.
    Zstd,
}

/// What becomes of a record that a sink's mapping refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionAction {
    /// The sender is told so, and keeps it.
    Reject,
    /// It is accepted, and kept with its error until someone replays or drops it.
    DeadLetter,
}

/// What becomes of records that a sink's mapping refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectionSettings {
    /// Which of both.
    pub action: RejectionAction,
    /// Compressed bytes of dead letters on a volume from which on records are rejected all the
    /// same.
    pub dead_letters_max: ByteSize,
}

/// When the answer is given, and how long a block may gather rows while the disk is busy.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncSettings {
    /// What an acknowledgement means.
    pub mode: SinkSyncMode,
    /// `false`: the client is told `202 accepted` before the disk has its record.
    pub wait: bool,
    /// How often the triggers are looked at.
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

/// When a slice is closed and goes to staging: at the first that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadTrigger {
    /// Records.
    pub count: u64,
    /// Compressed bytes.
    pub size: ByteSize,
    /// Age.
    pub interval: HumanDuration,
}

/// When a file is closed and goes into its table: at the first that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportTrigger {
    /// Records.
    pub count: u64,
    /// Compressed bytes.
    pub size: ByteSize,
    /// Age.
    pub interval: HumanDuration,
    /// Slices.
    pub slices: u64,
    /// Age at which even a throttled file is closed.
    pub expiration: HumanDuration,
    /// How long a file that its table can't take holds back later ones, where the order of rows
    /// matters.
    pub hold_back: HumanDuration,
}

/// Kept and shown for clients of the compatible API; see [`SinkSettings::inert`].
#[derive(Clone, Debug, PartialEq)]
pub struct InertSettings {
    gzip_implementation: String,
    gzip_concurrency: u64,
    encoder_type: String,
    encoder_concurrency: u64,
    input_buffer: ByteSize,
    max_chunk_size: ByteSize,
    failed_chunks_threshold: u64,
    assignment_count: u64,
    preferred_types: Vec<String>,
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
            inert: InertSettings {
                gzip_implementation: "parallel".to_owned(),
                gzip_concurrency: 0,
                encoder_type: "csv".to_owned(),
                encoder_concurrency: 0,
                input_buffer: ByteSize::mb(2),
                max_chunk_size: ByteSize::kb(512),
                failed_chunks_threshold: 3,
                assignment_count: 1,
                preferred_types: vec!["default".to_owned()],
            },
        }
    }
}

impl SinkSettings {
    /// Compression with its level.
    #[must_use]
    pub fn compression(&self) -> BlockCompression {
        match self.compression {
            CompressionType::None => BlockCompression::None,
            CompressionType::Gzip => BlockCompression::Gzip {
                level: self.compression_level,
            },
            CompressionType::Zstd => BlockCompression::Zstd {
                level: self.compression_level,
            },
        }
    }

    /// These settings with `patch` over them. What the registry does not take is left out: a
    /// stored patch has passed it, so that happens only after a downgrade.
    #[must_use]
    pub fn with(&self, patch: &SettingsPatch) -> Self {
        let mut settings = self.clone();
        for (key, value) in patch {
            if let Some(setting) = SettingRegistry::get(key) {
                // A refused value leaves the setting as it was, which is what is wanted here.
                drop(setting.apply(&mut settings, value));
            }
        }
        settings
    }

    /// The value of a setting as the API shows it.
    #[must_use]
    pub fn value(&self, setting: &SettingSpec) -> Value {
        (setting.get)(self)
    }
}

#[cfg(test)]
mod tests;
