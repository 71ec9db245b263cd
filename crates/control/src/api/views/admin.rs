//! Tokens and the audit log.

use forebay_api::admin::{AuditEntry, ConfiguredToken, TokenRoleView, TokenView};
use forebay_meta::catalog::audit::{AuditEvent, AuditSubject};
use forebay_meta::catalog::tokens::{ManagementToken, TokenRole};

use super::ToView;
use crate::auth::CallerIdentity;

impl ToView for ManagementToken {
    type View = TokenView;

    fn to_view(&self) -> TokenView {
        let present = self.secrets.last();
        TokenView {
            token_id: self.id.clone(),
            project_id: self.project.0,
            branch_id: self.branch.0,
            role: match self.role {
                TokenRole::Reader => TokenRoleView::Reader,
                TokenRole::Admin => TokenRoleView::Admin,
            },
            description: self.description.clone(),
            owner_id: self.owner.user_id(&self.id),
            owner_name: self.owner.user_name(&self.description),
            created: self.created.to_view(),
            expires_at: self.expires_at,
            rotated_at: present.map_or(self.created.at, |s| s.made_at),
            previous_valid_until: self.secrets.iter().find_map(|s| s.valid_until),
        }
    }
}

impl ToView for CallerIdentity {
    type View = ConfiguredToken;

    fn to_view(&self) -> ConfiguredToken {
        ConfiguredToken {
            token_id: self.token_id.clone(),
            project_id: self.project.0,
            branch_id: self.default_branch.0,
            role: if self.admin {
                TokenRoleView::Admin
            } else {
                TokenRoleView::Reader
            },
            operator: self.operator,
            description: self.description.clone(),
            owner_id: self.owner.user_id(&self.token_id),
            owner_name: self.owner.user_name(&self.description),
        }
    }
}

impl ToView for AuditEvent {
    type View = AuditEntry;

    fn to_view(&self) -> AuditEntry {
        let mut entry = AuditEntry {
            id: self.id(),
            at: self.stamp.at,
            by: self.stamp.by.to_view(),
            from: self.stamp.by.from.clone(),
            action: self.action.name().to_owned(),
            project_id: self.project.0,
            branch_id: None,
            source_id: None,
            sink_id: None,
            token_id: None,
            table_id: None,
            request: None,
            description: self.description.clone(),
            old_version: self.old_version,
            new_version: self.new_version,
        };
        let source = match &self.what {
            AuditSubject::Source(key) => Some(key),
            AuditSubject::Sink(key) => {
                entry.sink_id = Some(key.sink.to_string());
                Some(&key.source)
            }
            AuditSubject::Token(id) => {
                entry.token_id = Some(id.clone());
                None
            }
            AuditSubject::Table { table, .. } => {
                entry.table_id = Some(table.to_string());
                None
            }
            AuditSubject::Request(request) => {
                entry.request = Some(request.clone());
                None
            }
            AuditSubject::Quota => None,
        };
        entry.branch_id = source.map(|s| s.branch.branch.0);
        entry.source_id = source.map(|s| s.source.to_string());
        entry
    }
}
