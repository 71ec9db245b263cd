//! Authors, versions and events.

use forebay_api::common::{ActorType, ActorView, AuditStampView, DisabledEvent, VersionView};
use forebay_model::{Actor, ActorKind, AuditStamp, DefinitionVersion, DisableInfo, PauseInfo};

use super::ToView;

impl ToView for Actor {
    type View = ActorView;

    fn to_view(&self) -> ActorView {
        ActorView {
            r#type: match self.kind {
                ActorKind::User => ActorType::User,
                ActorKind::System => ActorType::System,
            },
            token_id: self.token_id.clone(),
            token_desc: self.token_desc.clone(),
            user_id: self.user_id.clone(),
            user_name: self.user_name.clone(),
        }
    }
}

impl ToView for AuditStamp {
    type View = AuditStampView;

    fn to_view(&self) -> AuditStampView {
        AuditStampView {
            at: self.at,
            by: self.by.to_view(),
        }
    }
}

impl ToView for DisableInfo {
    type View = DisabledEvent;

    fn to_view(&self) -> DisabledEvent {
        disabled_event(&self.stamp, &self.reason)
    }
}

impl ToView for PauseInfo {
    type View = DisabledEvent;

    fn to_view(&self) -> DisabledEvent {
        disabled_event(&self.stamp, &self.reason)
    }
}

fn disabled_event(stamp: &AuditStamp, reason: &str) -> DisabledEvent {
    DisabledEvent {
        at: stamp.at,
        by: stamp.by.to_view(),
        reason: reason.to_owned(),
    }
}

impl ToView for DefinitionVersion {
    type View = VersionView;

    fn to_view(&self) -> VersionView {
        VersionView {
            number: self.number,
            hash: self.hash.clone(),
            description: self.description.clone(),
            at: self.stamp.at,
            by: self.stamp.by.to_view(),
        }
    }
}
