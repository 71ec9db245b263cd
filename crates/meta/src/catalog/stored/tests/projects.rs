//! Golden files of what belongs to a project: tokens, audit, owners of tables, quotas.

use forebay_model::quota::QuotaOverrides;
use forebay_model::{ByteSize, ProjectId, TableBackend};

use super::{at, golden, source, stamp, table};
use crate::catalog::audit::{AuditAction, AuditEvent, AuditSubject};
use crate::catalog::tables::{PendingDrop, TableEntry};
use crate::catalog::tokens::{ManagementToken, TokenOwner, TokenRole, TokenSecret};

#[test]
fn tokens_and_the_audit_keep_their_form() {
    let token = ManagementToken {
        id: "1-a1B2c3D4e5F6".to_owned(),
        project: ProjectId(1),
        branch: forebay_model::BranchId(2),
        role: TokenRole::Admin,
        description: "deployment".to_owned(),
        owner: TokenOwner {
            id: Some("ada@example.com".to_owned()),
            name: Some("Ada".to_owned()),
        },
        created: stamp(0),
        expires_at: Some(at(100)),
        secrets: vec![
            TokenSecret {
                sha256: "0".repeat(64),
                made_at: at(0),
                valid_until: Some(at(50)),
            },
            TokenSecret {
                sha256: "f".repeat(64),
                made_at: at(40),
                valid_until: None,
            },
        ],
    };
    golden("token.v1.json", &token);
    let mut change = AuditEvent {
        project: ProjectId(1),
        what: AuditSubject::Source(source().key),
        action: AuditAction::Update,
        description: "Updated.".to_owned(),
        old_version: Some(2),
        new_version: Some(3),
        stamp: stamp(3),
    };
    change.stamp.by.from = Some("192.0.2.7".to_owned());
    golden("change.v1.json", &change);
    change.what = AuditSubject::Table {
        backend: TableBackend::Postgres,
        table: table().table,
    };
    change.action = AuditAction::Transfer;
    (change.old_version, change.new_version) = (None, None);
    golden("change_table.v1.json", &change);
}

#[test]
fn owners_of_tables_keep_their_form() {
    let entry = TableEntry {
        backend: TableBackend::Sqlite,
        table: table().table,
        owner: ProjectId(1),
        shared_with: [ProjectId(3), ProjectId(2)].into(),
        claimed: stamp(0),
        assigned: true,
        filled_at: Some(at(7)),
        found: true,
        dropping: Some(PendingDrop {
            source: source().key,
            since: at(9),
        }),
    };
    golden("table.v1.json", &entry);
}

#[test]
fn quotas_and_projects_keep_their_form() {
    let quota = QuotaOverrides {
        requests_per_second: Some(500),
        bytes_per_second: Some(ByteSize::mb(5)),
        connections: Some(0),
        disk_bytes: Some(ByteSize::mb(10 << 10)),
        source_requests_per_second: Some(100),
        source_bytes_per_second: None,
    };
    golden("quota.v1.json", &quota);
    let branch = forebay_model::BranchId(2);
    golden(
        "project.v1.json",
        &crate::catalog::tokens::ProjectEntry { branch },
    );
}
