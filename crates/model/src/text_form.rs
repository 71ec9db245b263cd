//! Serde forms that are one text: keys as [`Display`](std::fmt::Display) writes them, and enums by
//! the name that they have in the API.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::file::FileState;
use crate::id::{FileKey, SinkKey, SliceKey, SourceKey};
use crate::slice::SliceState;
use crate::table::{TableBackend, TableId};
use crate::topic::{HttpMethod, TopicKind};

macro_rules! serialized_as_text {
    ($($name:ident)*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

macro_rules! serialized_by_name {
    ($($name:ident, $what:literal;)*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = String::deserialize(deserializer)?;
                let found = Self::ALL.into_iter().find(|value| value.name() == name);
                found.ok_or_else(|| D::Error::custom(format!(concat!("unknown ", $what, " \"{}\""), name)))
            }
        }
    )*};
}

serialized_as_text! { SourceKey SinkKey FileKey SliceKey TableId }

serialized_by_name! {
    FileState, "state";
    SliceState, "state";
    TableBackend, "table backend";
    TopicKind, "kind of topic";
    HttpMethod, "method of a topic";
}
