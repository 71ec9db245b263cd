use super::*;

#[test]
fn the_stricter_limit_applies_and_zero_is_none() {
    let a = SourceQuota {
        requests_per_second: 5,
        bytes_per_second: ByteSize(0),
    };
    let b = SourceQuota {
        requests_per_second: 0,
        bytes_per_second: ByteSize(7),
    };
    let both = a.stricter(b);
    assert_eq!(
        (both.requests_per_second, both.bytes_per_second),
        (5, ByteSize(7))
    );
    assert_eq!(both.stricter(SourceQuota::NONE), both);
}

#[test]
fn defaults_are_in_range_and_violations_are_named() {
    assert!(SourceQuota::default().violations().is_empty());
    assert!(ProjectQuota::default().violations().is_empty());
    let own = QuotaOverrides {
        requests_per_second: Some(REQUESTS_MAX + 1),
        disk_bytes: Some(ByteSize(u64::MAX)),
        ..QuotaOverrides::default()
    };
    let violations = ProjectQuota::default().with(&own).violations();
    assert_eq!(
        violations,
        [
            "requestsPerSecond is 100000001, allowed is 0 to 100000000",
            "diskBytes is 18446744073709551615B, allowed is 0B to 1024TB"
        ]
    );
}
