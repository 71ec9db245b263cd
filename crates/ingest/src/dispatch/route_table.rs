//! Route table: the sources, and where their records go. A table is immutable and replaced as a
//! whole; only the pipeline of a sink is swapped within it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use forebay_model::{HandshakeKind, HandshakeSettings, ProjectId, SinkKey, SourceId, SourceKey};
use parking_lot::RwLock;
use subtle::ConstantTimeEq;
use tokio::sync::Notify;

use crate::metrics::SourceMeters;
use crate::pipeline::Pipeline;
use crate::quota::SourceLimiter;
use crate::signature::SignatureVerifier;

/// Route of a sink: its key and its current pipeline.
#[derive(Debug)]
pub struct SinkRoute {
    key: SinkKey,
    pipeline: RwLock<Option<Arc<Pipeline>>>,
    changed: Notify,
}

impl SinkRoute {
    /// Creates a route without an open slice.
    pub fn new(key: SinkKey) -> Arc<Self> {
        Arc::new(Self {
            key,
            pipeline: RwLock::new(None),
            changed: Notify::new(),
        })
    }

    pub fn key(&self) -> &SinkKey {
        &self.key
    }

    /// Pipeline of its open slice.
    pub fn pipeline(&self) -> Option<Arc<Pipeline>> {
        let slot = self.pipeline.read();
        slot.clone()
    }

    /// Replaces the pipeline of its open slice; returns the previous one.
    pub fn set_pipeline(&self, pipeline: Option<Arc<Pipeline>>) -> Option<Arc<Pipeline>> {
        let mut slot = self.pipeline.write();
        let before = std::mem::replace(&mut *slot, pipeline);
        drop(slot);
        self.changed.notify_waiters();
        before
    }

    /// Resolves after the next [`Self::set_pipeline`] (from the call of this function on).
    pub fn changed(&self) -> impl Future<Output = ()> + '_ {
        self.changed.notified()
    }
}

/// A source of one branch.
#[derive(Debug)]
pub struct BranchRoute {
    pub key: SourceKey,
    /// Whether it rejects all records.
    pub disabled: bool,
    /// Handshakes of webhook senders that it answers.
    pub handshakes: HandshakeSettings,
    /// Checks the signatures that its requests must have.
    pub verifier: Option<Arc<SignatureVerifier>>,
    /// Its active sinks, sorted by id.
    pub sinks: Vec<Arc<SinkRoute>>,
}

/// Route of an address (project, source, secret).
#[derive(Debug)]
pub struct SourceRoute {
    pub project: ProjectId,
    /// Id of the source, the same in all branches.
    pub source: SourceId,
    /// The source in each branch in which it has that secret, sorted by branch.
    pub branches: Vec<BranchRoute>,
    /// Rate limiter of its requests.
    pub limiter: Arc<SourceLimiter>,
    pub(crate) meters: SourceMeters,
}

impl SourceRoute {
    /// Sinks that accept records, in the order of the response.
    pub fn sinks(&self) -> impl Iterator<Item = &Arc<SinkRoute>> {
        let enabled = self.branches.iter().filter(|b| !b.disabled);
        enabled.flat_map(|b| &b.sinks)
    }

    /// Handshake settings of the enabled branches that answer this kind.
    pub(crate) fn handshakes_of_kind(
        &self,
        kind: HandshakeKind,
    ) -> impl Iterator<Item = &HandshakeSettings> {
        let enabled = self.branches.iter().filter(|b| !b.disabled);
        enabled.map(|b| &b.handshakes).filter(move |h| h.has(kind))
    }

    /// Whether a branch answers this kind of handshake.
    pub(crate) fn supports_handshake(&self, kind: HandshakeKind) -> bool {
        self.handshakes_of_kind(kind).next().is_some()
    }

    /// Checks that a request has to pass: those of all enabled branches.
    pub(crate) fn verifiers(&self) -> impl Iterator<Item = &Arc<SignatureVerifier>> {
        let enabled = self.branches.iter().filter(|b| !b.disabled);
        enabled.filter_map(|b| b.verifier.as_ref())
    }

    /// Whether the source is disabled in all branches.
    pub(crate) fn is_disabled(&self) -> bool {
        self.branches.iter().all(|b| b.disabled)
    }
}

/// One secret of a source id.
#[derive(Debug)]
struct RouteSecret {
    secret: Box<[u8]>,
    route: Arc<SourceRoute>,
}

/// All sources, by project and id.
#[derive(Debug, Default)]
pub struct RouteTable {
    projects: HashMap<u64, HashMap<Box<str>, Vec<RouteSecret>>>,
}

/// Compared with if the source is unknown, so that this takes as long as with a known one.
const UNKNOWN_SECRET: [u8; forebay_model::limits::SECRET_CHARS] = [b'-'; 48];

impl RouteTable {
    /// Creates a table of these sources, each with its secret, without quotas.
    pub fn new(sources: impl IntoIterator<Item = (String, BranchRoute)>) -> Self {
        Self::with_limiters(sources, SourceLimiter::unlimited)
    }

    /// Creates a table of these sources, each with its secret; `limiter` creates the rate limiter
    /// of a source.
    pub fn with_limiters(
        sources: impl IntoIterator<Item = (String, BranchRoute)>,
        mut limiter: impl FnMut(ProjectId, &SourceId) -> Arc<SourceLimiter>,
    ) -> Self {
        let mut table = Self::default();
        let mut all: Vec<_> = sources.into_iter().collect();
        all.sort_by(|(_, a), (_, b)| a.key.cmp(&b.key));
        for (secret, mut branch) in all {
            branch.sinks.sort_by(|a, b| a.key.cmp(&b.key));
            table.insert(secret, branch, &mut limiter);
        }
        table
    }

    fn insert(
        &mut self,
        secret: String,
        branch: BranchRoute,
        limiter: &mut impl FnMut(ProjectId, &SourceId) -> Arc<SourceLimiter>,
    ) {
        let (project, source) = (branch.key.branch.project, branch.key.source.clone());
        let entries = self
            .projects
            .entry(project.0)
            .or_default()
            .entry(source.as_str().into())
            .or_default();
        let same = entries.iter_mut().find(|d| *d.secret == *secret.as_bytes());
        // Routes are shared only once the table is complete.
        match same.and_then(|d| Arc::get_mut(&mut d.route)) {
            Some(route) => route.branches.push(branch),
            None => entries.push(RouteSecret {
                secret: secret.into_bytes().into(),
                route: Arc::new(SourceRoute {
                    limiter: limiter(project, &source),
                    meters: SourceMeters::new(project, &source),
                    project,
                    source,
                    branches: vec![branch],
                }),
            }),
        }
    }

    /// Finds a sink that accepts records.
    pub fn sink(&self, key: &SinkKey) -> Option<&Arc<SinkRoute>> {
        let project = self.projects.get(&key.source.branch.project.0)?;
        let entries = project.get(key.source.source.as_str())?;
        let branches = entries.iter().flat_map(|d| &d.route.branches);
        branches
            .flat_map(|b| &b.sinks)
            .find(|sink| sink.key() == key)
    }

    /// Finds the route of an address. Neither the response nor its timing tells whether project,
    /// source or secret is unknown.
    pub fn find(&self, project: u64, source: &str, secret: &str) -> Option<&Arc<SourceRoute>> {
        let secret = secret.as_bytes();
        let entries = self.projects.get(&project).and_then(|p| p.get(source));
        let entries = entries.map(Vec::as_slice).unwrap_or_default();
        let mut found = None;
        if entries.is_empty() {
            std::hint::black_box(bool::from(UNKNOWN_SECRET[..].ct_eq(secret)));
        }
        for entry in entries {
            if bool::from(entry.secret.ct_eq(secret)) {
                found = Some(&entry.route);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use forebay_model::{BranchId, BranchKey, SinkId};

    use super::*;

    fn branch(project: u64, branch: u64, source: &str, disabled: bool) -> BranchRoute {
        let key = SourceKey {
            branch: BranchKey {
                project: ProjectId(project),
                branch: BranchId(branch),
            },
            source: SourceId::from_raw(source),
        };
        let sink = |id: &str| {
            SinkRoute::new(SinkKey {
                source: key.clone(),
                sink: SinkId::from_raw(id),
            })
        };
        BranchRoute {
            disabled,
            handshakes: HandshakeSettings::default(),
            verifier: None,
            sinks: vec![sink("b"), sink("a")],
            key,
        }
    }

    #[test]
    fn an_address_leads_to_its_source_and_no_other() {
        let table = RouteTable::new([
            ("secret1".to_owned(), branch(1, 2, "s1", false)),
            ("secret2".to_owned(), branch(1, 2, "s2", false)),
        ]);
        assert!(table.find(1, "s1", "secret1").is_some());
        for (project, source, secret) in [
            (1, "s1", "secret2"),
            (1, "s1", "secret"),
            (1, "s1", "secret1x"),
            (1, "s1", ""),
            (2, "s1", "secret1"),
            // The reference service looks sources up by the beginning of their key.
            (1, "s", "secret1"),
            (1, "s11", "secret1"),
            (1, "", "secret1"),
        ] {
            assert!(
                table.find(project, source, secret).is_none(),
                "{source} {secret}"
            );
        }
    }

    #[test]
    fn branches_with_one_secret_share_one_route_in_order() {
        let table = RouteTable::new([
            ("x".to_owned(), branch(1, 9, "s", false)),
            ("x".to_owned(), branch(1, 2, "s", true)),
            ("y".to_owned(), branch(1, 3, "s", false)),
        ]);
        let target = table.find(1, "s", "x").unwrap();
        let branches: Vec<_> = target
            .branches
            .iter()
            .map(|b| b.key.branch.branch.0)
            .collect();
        assert_eq!(branches, [2, 9]);
        let sinks: Vec<_> = target.sinks().map(|s| s.key().to_string()).collect();
        assert_eq!(sinks, ["1/9/s/a", "1/9/s/b"]);
        assert!(!target.is_disabled());
        assert_eq!(table.find(1, "s", "y").unwrap().branches.len(), 1);
    }
}
