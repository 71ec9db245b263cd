//! The list of settings: name, type, rule, description, and how to read and write each.

use serde_json::Value;

use super::{CompressionType, OnRefused, SinkSettings, SyncMode};
use crate::quota::{BYTES_MAX, REQUESTS_MAX};
use crate::units::{ByteSize, Span};

/// Type of a setting's value in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingType {
    /// Text, a size or a duration.
    String,
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
    /// A list of texts.
    StringList,
}

impl SettingType {
    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Bool => "bool",
            Self::StringList => "[]string",
        }
    }
}

/// What a setting is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of sources only.
    Source,
    /// Of sinks; a source has it for all of its sinks.
    Sink,
}

/// Which values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Any of its type.
    Any,
    /// A whole number in this range.
    Int(u64, u64),
    /// The same; the compatible service does not call it required.
    OptionalInt(u64, u64),
    /// A size in this range.
    Size(ByteSize, ByteSize),
    /// A duration in this range.
    Span(Span, Span),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A list with at least one item.
    NonEmptyList,
}

impl Rule {
    /// As the API shows it, in the form that the compatible service uses.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        Some(match self {
            Self::Any => return None,
            Self::Int(0, max) => format!("min=0,max={max}"),
            Self::OptionalInt(min, max) => format!("min={min},max={max}"),
            Self::Int(min, max) => format!("required,min={min},max={max}"),
            Self::Size(ByteSize(0), max) => format!("maxBytes={max}"),
            Self::Size(min, max) => {
                format!(
                    "required,minBytes={},maxBytes={max}",
                    min.to_string().replace("KB", "kB")
                )
            }
            Self::Span(min, max) => {
                format!(
                    "required,minDuration={},maxDuration={}",
                    short(*min),
                    short(*max)
                )
            }
            Self::OneOf(names) => format!("required,oneof={}", names.join(" ")),
            Self::NonEmptyList => "required,min=1".to_owned(),
        })
    }
}

/// `30m0s` as `30m`, `24h0m0s` as `24h`.
fn short(span: Span) -> String {
    let text = span.to_string();
    let text = text
        .strip_suffix("m0s")
        .map_or(text.clone(), |t| format!("{t}m"));
    text.strip_suffix("h0m")
        .map_or(text.clone(), |t| format!("{t}h"))
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Full name, `storage.level.…` or `source.quota.…`.
    pub key: &'static str,
    /// Sources or sinks.
    pub scope: Scope,
    /// Type of its value.
    pub kind: SettingType,
    /// Which values it takes.
    pub rule: Rule,
    /// Only an operator may change it, not a user of the API.
    pub protected: bool,
    /// For people.
    pub description: &'static str,
    pub(super) get: fn(&SinkSettings) -> Value,
    set: Setter,
}

/// How a checked value gets into the typed form.
#[derive(Clone, Copy, Debug)]
enum Setter {
    Int(fn(&mut SinkSettings, u64)),
    Size(fn(&mut SinkSettings, ByteSize)),
    Span(fn(&mut SinkSettings, Span)),
    Bool(fn(&mut SinkSettings, bool)),
    Text(fn(&mut SinkSettings, &str)),
    List(fn(&mut SinkSettings, Vec<String>)),
}

/// Why a value is refused. The texts are those of the compatible API where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingProblem {
    /// Not of the setting's type.
    #[error("Invalid \"{key}\" value: found type \"{found}\", expected \"{expected}\".")]
    Type {
        /// Which setting.
        key: &'static str,
        /// Type of the given value.
        found: &'static str,
        /// Type that it should have.
        expected: &'static str,
    },
    /// Not a size.
    #[error("Invalid \"{key}\" value \"{value}\": invalid syntax.")]
    Size {
        /// Which setting.
        key: &'static str,
        /// The given text.
        value: String,
    },
    /// Not a duration.
    #[error("Invalid \"{key}\": time: invalid duration \"{value}\".")]
    Span {
        /// Which setting.
        key: &'static str,
        /// The given text.
        value: String,
    },
    /// Outside its range, or none of its names.
    #[error("Invalid \"{key}\" value \"{value}\": {allowed}.")]
    NotAllowed {
        /// Which setting.
        key: &'static str,
        /// The given value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_u64() || n.is_i64() => "int",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl Setting {
    /// Writes `value` into `settings`.
    ///
    /// # Errors
    /// When the value is not of the setting's type or breaks its rule; then nothing is written.
    pub fn apply(&self, settings: &mut SinkSettings, value: &Value) -> Result<(), SettingProblem> {
        match self.set {
            Setter::Int(set) => set(settings, self.int(value)?),
            Setter::Size(set) => set(settings, self.size(value)?),
            Setter::Span(set) => set(settings, self.span(value)?),
            Setter::Bool(set) => {
                set(
                    settings,
                    value
                        .as_bool()
                        .ok_or_else(|| self.wrong_type(value, "bool"))?,
                );
            }
            Setter::Text(set) => set(settings, self.text(value)?),
            Setter::List(set) => set(settings, self.list(value)?),
        }
        Ok(())
    }

    fn wrong_type(&self, value: &Value, expected: &'static str) -> SettingProblem {
        SettingProblem::Type {
            key: self.key,
            found: type_of(value),
            expected,
        }
    }

    fn not_allowed(&self, value: &impl ToString, allowed: String) -> SettingProblem {
        SettingProblem::NotAllowed {
            key: self.key,
            value: value.to_string(),
            allowed,
        }
    }

    fn int(&self, value: &Value) -> Result<u64, SettingProblem> {
        let allowed = |min, max| format!("must be a whole number between {min} and {max}");
        let (min, max) = match self.rule {
            Rule::Int(min, max) | Rule::OptionalInt(min, max) => (min, max),
            _ => (0, u64::MAX),
        };
        match value.as_u64() {
            Some(n) if (min..=max).contains(&n) => Ok(n),
            None if !value.is_number() => Err(self.wrong_type(value, "uint64")),
            _ => Err(self.not_allowed(value, allowed(min, max))),
        }
    }

    fn size(&self, value: &Value) -> Result<ByteSize, SettingProblem> {
        let text = value
            .as_str()
            .ok_or_else(|| self.wrong_type(value, "string"))?;
        let invalid = |_| SettingProblem::Size {
            key: self.key,
            value: text.to_owned(),
        };
        let size: ByteSize = text.parse().map_err(invalid)?;
        match self.rule {
            Rule::Size(min, max) if !(min..=max).contains(&size) => {
                Err(self.not_allowed(&text, format!("must be between {min} and {max}")))
            }
            _ => Ok(size),
        }
    }

    fn span(&self, value: &Value) -> Result<Span, SettingProblem> {
        let text = value
            .as_str()
            .ok_or_else(|| self.wrong_type(value, "string"))?;
        let invalid = |_| SettingProblem::Span {
            key: self.key,
            value: text.to_owned(),
        };
        let span: Span = text.parse().map_err(invalid)?;
        match self.rule {
            Rule::Span(min, max) if !(min..=max).contains(&span) => Err(self.not_allowed(
                &text,
                format!("must be between {} and {}", short(min), short(max)),
            )),
            _ => Ok(span),
        }
    }

    fn text<'v>(&self, value: &'v Value) -> Result<&'v str, SettingProblem> {
        let text = value
            .as_str()
            .ok_or_else(|| self.wrong_type(value, "string"))?;
        match self.rule {
            Rule::OneOf(names) if !names.contains(&text) => {
                Err(self.not_allowed(&text, format!("must be one of {}", names.join(", "))))
            }
            _ => Ok(text),
        }
    }

    fn list(&self, value: &Value) -> Result<Vec<String>, SettingProblem> {
        let items = value
            .as_array()
            .ok_or_else(|| self.wrong_type(value, "[]string"))?;
        if items.is_empty() {
            return Err(self.not_allowed(value, "must have at least one item".to_owned()));
        }
        let text = |v: &Value| {
            v.as_str()
                .map(str::to_owned)
                .ok_or_else(|| self.wrong_type(v, "string"))
        };
        items.iter().map(text).collect()
    }
}

/// The list of settings.
#[derive(Clone, Copy, Debug)]
pub struct Registry;

impl Registry {
    /// All of them, sorted by key.
    #[must_use]
    pub fn all() -> &'static [Setting] {
        SETTINGS
    }

    /// Those of sinks, sorted by key.
    pub fn of_sinks() -> impl Iterator<Item = &'static Setting> {
        SETTINGS.iter().filter(|s| s.scope == Scope::Sink)
    }

    /// The one of that name.
    #[must_use]
    pub fn get(key: &str) -> Option<&'static Setting> {
        SETTINGS
            .binary_search_by(|s| s.key.cmp(key))
            .ok()
            .map(|i| &SETTINGS[i])
    }
}

macro_rules! setting {
    (@$scope:ident, $key:expr, $kind:ident, $rule:expr, $protected:literal, $setter:ident,
     |$s:ident| $field:expr, $get:expr, |$t:ident, $v:ident| $set:expr, $description:literal) => {
        Setting {
            key: $key,
            scope: Scope::$scope,
            kind: SettingType::$kind,
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

/// Sorted by key, which [`Registry::get`] relies on and a test checks.
static SETTINGS: &[Setting] = &[
    setting!(
        @Source,
        "source.quota.bytesPerSecond",
        String,
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
        Int,
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
        String,
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
        Int,
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
        String,
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
        Int,
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
        String,
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
        Int,
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
        String,
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
        Int,
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
        String,
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
        String,
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
        String,
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
        String,
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
        Int,
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
        String,
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
        String,
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
        String,
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
        Bool,
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
        String,
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
        String,
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
        Int,
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
        StringList,
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
        Int,
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
        String,
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
        String,
        Rule::Size(ByteSize(100), ByteSize::mb(50)),
        false,
        Size,
        |s| s.upload.size,
        shown,
        |s, v| s.upload.size = v,
        "Compressed bytes at which a slice goes to staging."
    ),
    setting!(
        "target.import.trigger.count",
        Int,
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
        String,
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
        String,
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
        String,
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
        Int,
        Rule::Int(1, 200),
        true,
        Int,
        |s| s.import.slices,
        int,
        |s, v| s.import.slices = v,
        "Slices at which a file goes into its table."
    ),
];
