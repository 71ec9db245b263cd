//! Types of columns.

use forebay_model::{DataType, EpochUnit};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Type of a column's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ColumnDataType)]
#[serde(rename_all = "camelCase")]
pub enum DataTypeName {
    /// Text.
    Text,
    /// 64-bit integer.
    Integer,
    /// Finite 64-bit floating point number.
    Double,
    /// True or false.
    Boolean,
    /// A time to the microsecond, in the years 0001 to 9999.
    Timestamp,
    /// Any JSON value.
    Json,
}

/// Unit of times that are numbers, since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ColumnTimeUnit)]
#[serde(rename_all = "camelCase")]
pub enum TimeUnitName {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl From<DataTypeName> for DataType {
    fn from(name: DataTypeName) -> Self {
        match name {
            DataTypeName::Text => Self::Text,
            DataTypeName::Integer => Self::Integer,
            DataTypeName::Double => Self::Double,
            DataTypeName::Boolean => Self::Boolean,
            DataTypeName::Timestamp => Self::Timestamp,
            DataTypeName::Json => Self::Json,
        }
    }
}

impl From<DataType> for DataTypeName {
    fn from(data_type: DataType) -> Self {
        match data_type {
            DataType::Text => Self::Text,
            DataType::Integer => Self::Integer,
            DataType::Double => Self::Double,
            DataType::Boolean => Self::Boolean,
            DataType::Timestamp => Self::Timestamp,
            DataType::Json => Self::Json,
        }
    }
}

impl From<TimeUnitName> for EpochUnit {
    fn from(name: TimeUnitName) -> Self {
        match name {
            TimeUnitName::S => Self::S,
            TimeUnitName::Ms => Self::Ms,
            TimeUnitName::Us => Self::Us,
            TimeUnitName::Ns => Self::Ns,
        }
    }
}

impl From<EpochUnit> for TimeUnitName {
    fn from(unit: EpochUnit) -> Self {
        match unit {
            EpochUnit::S => Self::S,
            EpochUnit::Ms => Self::Ms,
            EpochUnit::Us => Self::Us,
            EpochUnit::Ns => Self::Ns,
        }
    }
}
