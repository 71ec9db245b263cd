//! Tokens in the store.
//!
//! A token is `fby_<project>-<characters>_<secret>`. The middle is its id, used for the lookup; the
//! rest is compared as a hash in constant time. So timing can reveal only which ids exist, and ids
//! are not secret.

use std::sync::Arc;

use async_trait::async_trait;
use forebay_meta::Repo;
use forebay_meta::catalog::tokens::{ManagementToken, TokenError, TokenRole};
use forebay_model::{Clock, ProjectId};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{AuthError, CallerIdentity, ConfiguredTokens, TokenAuthenticator, from_hex};

/// Prefix of every token.
const PREFIX: &str = "fby_";
/// Length of the secret part: 238 bits.
pub(crate) const SECRET_CHARS: usize = 40;
/// Length of an id after its project.
pub(crate) const ID_CHARS: usize = 12;

/// Looks up tokens in the configuration, then in the store.
#[derive(Clone, Debug)]
pub struct StoredTokens {
    configured: ConfiguredTokens,
    repo: Repo,
    clock: Arc<dyn Clock>,
}

impl StoredTokens {
    /// `configured` tokens take precedence over the store's.
    pub fn new(configured: ConfiguredTokens, repo: Repo, clock: Arc<dyn Clock>) -> Self {
        Self {
            configured,
            repo,
            clock,
        }
    }
}

pub(crate) fn format_token(id: &str, secret: &str) -> String {
    format!("{PREFIX}{id}_{secret}")
}

/// Project and id of a text in token format.
fn parse_token(text: &[u8]) -> Option<(ProjectId, &str)> {
    let text = std::str::from_utf8(text).ok()?.strip_prefix(PREFIX)?;
    let (id, _) = text.split_once('_')?;
    let project = project_from_id(id)?;
    Some((project, id))
}

/// Project number in an id.
pub(crate) fn project_from_id(id: &str) -> Option<ProjectId> {
    let (project, rest) = id.split_once('-')?;
    let is_id = rest.len() == ID_CHARS && rest.bytes().all(|b| b.is_ascii_alphanumeric());
    let project: u64 = project.parse().ok()?;
    is_id.then_some(ProjectId(project))
}

#[async_trait]
impl TokenAuthenticator for StoredTokens {
    async fn authenticate(&self, token: &[u8]) -> Result<CallerIdentity, AuthError> {
        match self.configured.authenticate(token).await {
            Err(AuthError::Invalid) => {}
            known => return known,
        }
        let (project, id) = parse_token(token).ok_or(AuthError::Invalid)?;
        let found = match self.repo.token(project, id).await {
            Ok(found) => found.value,
            Err(TokenError::NotFound(_)) => return Err(AuthError::Invalid),
            Err(e) => return Err(AuthError::Unavailable(e.to_string())),
        };
        let now = self.clock.now();
        let given: [u8; 32] = Sha256::digest(token).into();
        let mut same = false;
        // Compare with all: constant time.
        for secret in found.secrets.iter().filter(|s| s.is_valid(now)) {
            let expected = from_hex(&secret.sha256).unwrap_or_default();
            same |= bool::from(expected.ct_eq(&given));
        }
        if same && found.is_valid(now) {
            Ok(identity(&found))
        } else {
            Err(AuthError::Invalid)
        }
    }

    fn configured(&self) -> Vec<CallerIdentity> {
        self.configured.configured()
    }
}

fn identity(token: &ManagementToken) -> CallerIdentity {
    CallerIdentity {
        project: token.project,
        default_branch: token.branch,
        token_id: token.id.clone(),
        description: token.description.clone(),
        owner: token.owner.clone(),
        admin: token.role == TokenRole::Admin,
        operator: false,
        from: None,
    }
}
