//! Events, table and progress of `forebay demo`.

pub(crate) mod events;
pub(crate) mod gauge;
pub(crate) mod sender;
pub(crate) mod view;

use crate::cli_error::CliError;
use crate::definitions::{SinkDefinition, SourceDefinition, parse_column};

pub(crate) const TABLE: &str = "in.demo.events";

/// Columns in the syntax of `forebay source create`.
const COLUMNS: [&str; 7] = [
    "id=uuid",
    "received=datetime",
    "kind=path:kind",
    "user=path,default=-:user.id",
    "country=path,default=-:user.address.country",
    "total=template:std.foldl(function(sum, i) sum + i.price * i.count, Body(\"items\", []), 0)",
    "env=static:demo",
];

pub(crate) fn definition() -> Result<SourceDefinition, CliError> {
    let columns: Result<Vec<_>, String> = COLUMNS.iter().map(|c| parse_column(c)).collect();
    let sink = SinkDefinition {
        table: Some(TABLE.to_owned()),
        name: Some("Events".to_owned()),
        columns: columns.map_err(CliError::new)?,
        ..SinkDefinition::default()
    };
    Ok(SourceDefinition {
        name: "Demo".to_owned(),
        description: "Created by forebay demo.".to_owned(),
        verify: None,
        sinks: vec![sink],
        ..SourceDefinition::default()
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definition_is_valid() {
        let definition = super::definition().unwrap();
        assert_eq!(definition.source_id().unwrap(), "demo");
        assert_eq!(definition.sinks[0].columns.len(), 7);
    }
}
