//! Who changed what: nothing is missing, also of one moment.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{at, stamp, with_sink};
use forebay_meta::catalog::audit::{AuditAction, AuditEvent, AuditSubject};
use forebay_model::ProjectId;
use forebay_model::quota::QuotaOverrides;

const PROJECT: ProjectId = ProjectId(1);

fn refused(path: &str) -> AuditEvent {
    AuditEvent {
        project: PROJECT,
        what: AuditSubject::Request(format!("DELETE {path}")),
        action: AuditAction::Refuse,
        description: "Not allowed.".to_owned(),
        old_version: None,
        new_version: None,
        stamp: stamp(5),
    }
}

#[tokio::test]
async fn what_is_done_in_one_millisecond_is_noted_in_the_next_ones() {
    let (repo, _dir) = with_sink().await;
    let before = repo.audit(PROJECT, "", 100).await.unwrap().total;
    let mut notes = tokio::task::JoinSet::new();
    for path in ["/a", "/b", "/c"] {
        let repo = repo.clone();
        notes.spawn(async move { repo.record_rejection(&refused(path)).await });
    }
    while let Some(noted) = notes.join_next().await {
        noted.unwrap().unwrap();
    }
    for connections in [7, 8] {
        let quota = QuotaOverrides {
            connections: Some(connections),
            ..QuotaOverrides::default()
        };
        repo.set_quota(PROJECT, &quota, &stamp(5)).await.unwrap();
    }
    let audit = repo.audit(PROJECT, "", 100).await.unwrap();
    assert_eq!(audit.total, before + 5);
    let mut asked = Vec::new();
    for entry in &audit.items {
        if let AuditSubject::Request(request) = &entry.what {
            asked.push((request.as_str(), entry.stamp.at));
        }
    }
    let times: Vec<_> = asked.iter().map(|(_, at)| *at).collect();
    assert_eq!(times, [at(5), at(6), at(7)]);
    asked.sort_unstable();
    let paths: Vec<_> = asked.iter().map(|(path, _)| *path).collect();
    assert_eq!(paths, ["DELETE /a", "DELETE /b", "DELETE /c"]);
    // An entry is found by its id: the pages that begin after each of them are shorter by one.
    for (i, entry) in audit.items.iter().enumerate() {
        let rest = repo.audit(PROJECT, &entry.id(), 100).await.unwrap();
        assert_eq!(rest.items.len(), audit.items.len() - i - 1);
    }
}
