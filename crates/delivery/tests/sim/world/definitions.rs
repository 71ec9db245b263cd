//! The source and its sinks.

use forebay_meta::{SinkContent, SourceContent};
use forebay_model::{
    Actor, AuditStamp, ColumnKind, Mapping, MappingColumn, PathColumn, SinkKey, SinkTarget,
    SourceKey, SourceKind, TableBackend, TableSink, Timestamp,
};

use crate::node::Node;

pub(super) const SECRET: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKL";

pub(super) const SINKS: [&str; 2] = ["a", "b"];

/// Defines a source with two sinks: one accepts everything, one rejects records without `v`.
pub(super) async fn define(node: &Node) {
    let stamp = AuditStamp {
        at: Timestamp::from_millis(1_790_000_000_000),
        by: Actor::system(),
    };
    let key: SourceKey = "1/2/s".parse().unwrap();
    node.repo
        .ensure_branch(&key.branch, true, &stamp)
        .await
        .unwrap();
    let source = SourceContent {
        kind: SourceKind::Http {
            secret: SECRET.to_owned(),
            verify: None,
        },
        name: "s".to_owned(),
        description: String::new(),
        settings: [].into(),
        definition_set: None,
    };
    node.repo
        .create_source(&key, source, "New source.", &stamp)
        .await
        .unwrap();
    let columns = [
        vec![column("body", ColumnKind::Body)],
        vec![column("id", path("id")), column("v", path("v"))],
    ];
    // Uncompressed objects have no checksum of their own.
    let plain = [(
        "storage.level.local.encoding.compression.type".to_owned(),
        "none".into(),
    )];
    let settings = [[].into(), plain.into()];
    for ((sink, columns), settings) in SINKS.iter().zip(columns).zip(settings) {
        let content = SinkContent {
            name: (*sink).to_owned(),
            description: String::new(),
            target: SinkTarget::Table(TableSink {
                backend: TableBackend::Sqlite,
                table: table_id(sink).parse().unwrap(),
                mapping: Mapping { columns },
            }),
            settings,
            definition_set: None,
        };
        let volumes = std::slice::from_ref(&node.volume);
        let key = sink_key(sink);
        let made = node
            .repo
            .create_sink(&key, content, "New sink.", volumes, &stamp);
        made.await.unwrap();
    }
}

pub(super) fn sink_key(sink: &str) -> SinkKey {
    format!("1/2/s/{sink}").parse().unwrap()
}

pub(super) fn table_id(sink: &str) -> String {
    format!("in.c-b.{sink}")
}

fn column(name: &str, kind: ColumnKind) -> MappingColumn {
    MappingColumn::new(name, kind)
}

fn path(path: &str) -> ColumnKind {
    ColumnKind::Path(PathColumn {
        path: path.to_owned(),
        default_value: None,
        raw_string: true,
    })
}
