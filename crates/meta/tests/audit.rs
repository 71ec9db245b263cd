//! Audit: complete, even for changes of the same millisecond.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{at, stamp, with_sink};
use forebay_meta::catalog::audit::{AuditAction, AuditEvent, AuditSubject};
use forebay_model::ProjectId;
use forebay_model::quota::QuotaOverrides;

const PROJECT: ProjectId = ProjectId(1);

fn rejected(path: &str) -> AuditEvent {
    AuditEvent {
        project: PROJECT,
        what: AuditSubject::Request(format!("DELETE {path}")),
        action: AuditAction::Reject,
        description: "Not allowed.".to_owned(),
        old_version: None,
        new_version: None,
        stamp: stamp(5),
    }
}

#[tokio::test]
async fn entries_of_the_same_millisecond_get_consecutive_times() {
    let (repo, _dir) = with_sink().await;
    let before = repo.audit(PROJECT, "", 100).await.unwrap().total;
    let mut writes = tokio::task::JoinSet::new();
    for path in ["/a", "/b", "/c"] {
        let repo = repo.clone();
        writes.spawn(async move { repo.record_rejection(&rejected(path)).await });
    }
    while let Some(written) = writes.join_next().await {
        written.unwrap().unwrap();
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
    let mut rejected_requests = Vec::new();
    for entry in &audit.items {
        if let AuditSubject::Request(request) = &entry.what {
            rejected_requests.push((request.as_str(), entry.stamp.at));
        }
    }
    let times: Vec<_> = rejected_requests.iter().map(|(_, at)| *at).collect();
    assert_eq!(times, [at(5), at(6), at(7)]);
    rejected_requests.sort_unstable();
    let paths: Vec<_> = rejected_requests.iter().map(|(path, _)| *path).collect();
    assert_eq!(paths, ["DELETE /a", "DELETE /b", "DELETE /c"]);
    // Each entry is found by its id: the page after it is shorter by one.
    for (i, entry) in audit.items.iter().enumerate() {
        let rest = repo.audit(PROJECT, &entry.id(), 100).await.unwrap();
        assert_eq!(rest.items.len(), audit.items.len() - i - 1);
    }
}
