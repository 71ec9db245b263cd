use std::time::Duration;

use forebay_model::quota::ProjectQuota;
use forebay_model::{ByteSize, HumanDuration};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn quotas() -> Quotas {
    Quotas {
        window: HumanDuration::secs(1),
        source: SourceQuota {
            requests_per_second: 5,
            bytes_per_second: ByteSize(1000),
        },
        project: ProjectQuota {
            requests_per_second: 8,
            bytes_per_second: ByteSize(1500),
            connections: 2,
            disk_bytes: ByteSize(100),
        },
    }
}

/// Rate limiters of sources `a` and `b` of project 1, as a route table has them.
fn limiters(of: &Arc<LimiterRegistry>, own: &QuotaOverrides) -> [Arc<SourceLimiter>; 2] {
    let mut builder = of.builder();
    let made = ["a", "b"].map(|id| {
        let quota = own.source(of.quotas().source);
        builder.source_limiter(ProjectId(1), &SourceId::from_raw(id), quota, own)
    });
    builder.finish(|_, _| true);
    made
}

fn passed(limiter: &SourceLimiter, now: u64, body: u64) -> usize {
    (0..1000)
        .take_while(|_| limiter.admit(now, Some(body)).is_ok())
        .count()
}

#[test]
fn sources_have_their_own_quota_and_share_that_of_the_project() {
    let all = LimiterRegistry::new(quotas());
    let [a, b] = limiters(&all, &QuotaOverrides::default());
    assert_eq!(passed(&a, 0, 1), 5);
    assert_eq!(
        a.admit(0, Some(1)).unwrap_err().kind,
        QuotaKind::SourceRequests
    );
    assert_eq!(passed(&b, 0, 1), 3);
    let over = b.admit(0, Some(1)).unwrap_err();
    assert_eq!((over.kind, over.limit), (QuotaKind::ProjectRequests, 8));
    assert_eq!(over.wait.0, Duration::from_millis(125));
    // Requests rejected by the project do not count for the source.
    assert_eq!(passed(&b, SECOND / 2, 1), 4);
}

#[test]
fn bytes_may_be_owed_and_rejected_requests_cost_nothing() {
    let all = LimiterRegistry::new(quotas());
    let [a, b] = limiters(&all, &QuotaOverrides::default());
    a.admit(0, Some(3000)).unwrap();
    let over = a.admit(0, Some(1)).unwrap_err();
    assert_eq!(over.kind, QuotaKind::SourceBytes);
    // The project owes as well.
    assert_eq!(
        b.admit(0, Some(1)).unwrap_err().kind,
        QuotaKind::ProjectBytes
    );
    // Requests rejected for their bytes do not count as requests.
    for _ in 0..100 {
        assert!(a.admit(SECOND, Some(1)).is_err());
    }
    assert_eq!(passed(&a, 3 * SECOND, 1), 5);
    // A body of undeclared length pays as it arrives, and owes so much at most.
    let later = 100 * SECOND;
    a.admit(later, None).unwrap();
    assert!(a.consume(later, 900, 500).is_ok());
    assert!(a.consume(later, 900, 500).is_ok());
    assert_eq!(
        a.consume(later, 1, 500).unwrap_err().kind,
        QuotaKind::SourceBytes
    );
}

#[test]
fn a_changed_quota_does_not_reset_the_allowance() {
    let all = LimiterRegistry::new(quotas());
    let [a, _] = limiters(&all, &QuotaOverrides::default());
    assert_eq!(passed(&a, 0, 1), 5);
    let [a, _] = limiters(&all, &QuotaOverrides::default());
    assert_eq!(passed(&a, 0, 1), 0);
    let own = QuotaOverrides {
        source_requests_per_second: Some(0),
        requests_per_second: Some(0),
        source_bytes_per_second: Some(ByteSize(0)),
        bytes_per_second: Some(ByteSize(0)),
        ..QuotaOverrides::default()
    };
    let [a, _] = limiters(&all, &own);
    assert_eq!(passed(&a, 0, 1), 1000);
    let mut headers = http::HeaderMap::new();
    a.write_headers(0, &mut headers);
    assert!(headers.is_empty(), "{headers:?}");
}

#[test]
fn headers_report_the_rate_that_ends_first() {
    let all = LimiterRegistry::new(quotas());
    let [a, _] = limiters(&all, &QuotaOverrides::default());
    let shown = |now: u64| {
        let mut headers = http::HeaderMap::new();
        a.write_headers(now, &mut headers);
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        (text("ratelimit"), text("ratelimit-policy"))
    };
    a.admit(0, Some(10)).unwrap();
    let policy = "\"source-requests\";q=5;w=1, \"project-requests\";q=8;w=1, \
        \"source-bytes\";q=1000;w=1;qu=\"content-bytes\", \
        \"project-bytes\";q=1500;w=1;qu=\"content-bytes\"";
    assert_eq!(
        shown(0),
        ("\"source-requests\";r=4;t=1".to_owned(), policy.to_owned())
    );
    a.admit(0, Some(800)).unwrap();
    assert_eq!(shown(0).0, "\"source-bytes\";r=190;t=1");
    a.admit(0, Some(2000)).unwrap();
    assert_eq!(shown(0).0, "\"source-bytes\";r=0;t=3");
}

#[test]
fn a_connection_counts_for_the_project_of_its_last_request() {
    let all = LimiterRegistry::new(quotas());
    let [a, b] = limiters(&all, &QuotaOverrides::default());
    let mut builder = all.builder();
    let other = builder.source_limiter(
        ProjectId(2),
        &SourceId::from_raw("x"),
        SourceQuota::NONE,
        &QuotaOverrides::default(),
    );
    let (one, two, three) = (
        ConnectionPermit::default(),
        ConnectionPermit::default(),
        ConnectionPermit::default(),
    );
    one.acquire(&a).unwrap();
    one.acquire(&b).unwrap();
    two.acquire(&b).unwrap();
    assert_eq!(three.acquire(&a).unwrap_err().kind, QuotaKind::Connections);
    two.acquire(&other).unwrap();
    three.acquire(&a).unwrap();
    assert!(two.acquire(&a).is_err());
    drop(one);
    two.acquire(&a).unwrap();
}

#[test]
fn disk_use_counts_log_and_staging() {
    let all = LimiterRegistry::new(quotas());
    all.set_log(HashMap::from([(ProjectId(1), 60), (ProjectId(2), 1000)]));
    let [a, _] = limiters(&all, &QuotaOverrides::default());
    assert!(a.admit(0, None).is_ok());
    all.set_staged(HashMap::from([(ProjectId(1), 40)]));
    let over = a.admit(0, None).unwrap_err();
    assert_eq!((over.kind, over.limit), (QuotaKind::Disk, 100));
    all.set_log(HashMap::new());
    assert!(a.admit(0, None).is_ok());
    // Measured before its first rate limiter was created.
    let known = LimiterRegistry::new(quotas());
    known.set_log(HashMap::from([(ProjectId(1), 100)]));
    let [a, _] = limiters(&known, &QuotaOverrides::default());
    assert!(a.admit(0, None).is_err());
}
