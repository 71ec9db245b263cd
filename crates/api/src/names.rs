//! Names of enum values, as on the wire.

use std::fmt;

use serde::Serialize;

use crate::admin::TokenRoleView;
use crate::data_type::{DataTypeName, TimeUnitName};
use crate::mapping::ColumnType;
use crate::sink::{SinkType, TableType};
use crate::topic::ProviderStateName;

macro_rules! display_as_on_the_wire {
    ($($name:ty),+) => {
        $(impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.serialize(f)
            }
        })+
    };
}

display_as_on_the_wire!(
    ColumnType,
    DataTypeName,
    ProviderStateName,
    SinkType,
    TableType,
    TimeUnitName,
    TokenRoleView
);
