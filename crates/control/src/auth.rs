//! Authentication: maps the token of a request to a [`CallerIdentity`].
//!
//! [`TokenAuthenticator`] is the interface. Tokens come from the configuration
//! ([`ConfiguredTokens`]) or from the store, with an expiry ([`StoredTokens`]).

pub(crate) mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use forebay_meta::catalog::tokens::{OWNER_CHARS_MAX, TokenOwner};
use forebay_model::{Actor, ActorKind, AuditStamp, BranchId, BranchKey, ProjectId, Timestamp};
use parking_lot::RwLock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

pub use stored::StoredTokens;

/// Owner and permissions of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerIdentity {
    /// The only project that the token gives access to.
    pub project: ProjectId,
    /// The branch that `default` means in paths.
    pub default_branch: BranchId,
    /// Name of the token, for logs and responses; not its text.
    pub token_id: String,
    pub description: String,
    pub owner: TokenOwner,
    /// May change definitions.
    pub admin: bool,
    /// May administer all projects of the server.
    pub operator: bool,
    /// Client address, if known.
    pub from: Option<String>,
}

impl CallerIdentity {
    pub(crate) fn default_branch_key(&self) -> BranchKey {
        BranchKey {
            project: self.project,
            branch: self.default_branch,
        }
    }

    /// Audit stamp of an action by this caller.
    pub fn audit_stamp(&self, now: Timestamp) -> AuditStamp {
        AuditStamp {
            at: now,
            by: Actor {
                kind: ActorKind::User,
                token_id: Some(self.token_id.clone()),
                token_desc: Some(self.description.clone()),
                user_id: Some(self.owner.user_id(&self.token_id)),
                user_name: self.owner.user_name(&self.description),
                from: self.from.clone(),
            },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The token is unknown or expired.
    #[error("Invalid access token.")]
    Invalid,
    /// The lookup failed; a retry may succeed.
    #[error("token lookup failed: {0}")]
    Unavailable(String),
}

/// Looks up tokens.
#[async_trait]
pub trait TokenAuthenticator: Send + Sync + fmt::Debug {
    /// Returns the identity of a token. Takes the same time whether or not the token exists.
    async fn authenticate(&self, token: &[u8]) -> Result<CallerIdentity, AuthError>;

    /// Tokens of the configuration, which the API can't change.
    fn configured(&self) -> Vec<CallerIdentity> {
        Vec::new()
    }
}

/// A token of the management API. Only its hash is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenConfig {
    /// Unique name of the token, shown as the author of changes.
    pub id: String,
    /// Number of the project that the token gives access to.
    pub project: u64,
    /// Number of the project's default branch.
    #[serde(default = "first_branch")]
    pub branch: u64,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Whether the token may change definitions; otherwise it is read-only.
    #[serde(default)]
    pub admin: bool,
    /// Whether the token may administer all projects of the server: create tokens and read the
    /// audit log.
    #[serde(default)]
    pub operator: bool,
    /// Id of the owner, shown as `userId` of changes. Default: the token's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// Name of the owner, shown as `userName` of changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_name: Option<String>,
    /// SHA-256 of the token, 64 hexadecimal digits: `printf %s TOKEN | sha256sum`.
    pub sha256: String,
}

fn first_branch() -> u64 {
    1
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenConfigError {
    #[error("duplicate token id \"{0}\"")]
    DuplicateId(String),
    /// The caller could not be identified.
    #[error("tokens \"{0}\" and \"{1}\" have the same sha256")]
    DuplicateHash(String, String),
    #[error("{field} of token \"{id}\" has {chars} characters, allowed are 1 to {OWNER_CHARS_MAX}")]
    Owner {
        id: String,
        /// `ownerId` or `ownerName`.
        field: &'static str,
        chars: usize,
    },
    #[error("sha256 of token \"{0}\" must be 64 hexadecimal digits")]
    Hash(String),
    /// Two default branches for one project.
    #[error(
        "token \"{id}\": another token sets the default branch of project {project} to {first}"
    )]
    Branch {
        id: String,
        project: u64,
        /// Default branch of the earlier token.
        first: u64,
    },
}

/// Tokens of the configuration. Clones share them, so a replacement applies to all.
#[derive(Clone, Default)]
pub struct ConfiguredTokens {
    tokens: Arc<RwLock<HashedTokens>>,
}

type HashedTokens = Arc<Vec<([u8; 32], CallerIdentity)>>;

impl fmt::Debug for ConfiguredTokens {
    /// Omits the hashes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.current();
        let ids = entries.iter().map(|(_, who)| &who.token_id);
        f.debug_list().entries(ids).finish()
    }
}

impl ConfiguredTokens {
    /// Validates the list.
    pub fn new(tokens: &[TokenConfig]) -> Result<Self, TokenConfigError> {
        let mut ids = BTreeSet::new();
        let mut hashes: BTreeMap<[u8; 32], &str> = BTreeMap::new();
        let mut branches: BTreeMap<u64, u64> = BTreeMap::new();
        let mut entries = Vec::with_capacity(tokens.len());
        for token in tokens {
            let id = || token.id.clone();
            let hash = from_hex(&token.sha256).ok_or_else(|| TokenConfigError::Hash(id()))?;
            if !ids.insert(&token.id) {
                return Err(TokenConfigError::DuplicateId(id()));
            }
            for (field, text) in [
                ("ownerId", &token.owner_id),
                ("ownerName", &token.owner_name),
            ] {
                let chars = text.as_ref().map_or(1, |t| t.chars().count());
                if !(1..=OWNER_CHARS_MAX).contains(&chars) {
                    let id = id();
                    return Err(TokenConfigError::Owner { id, field, chars });
                }
            }
            if let Some(first) = hashes.insert(hash, &token.id) {
                return Err(TokenConfigError::DuplicateHash(first.to_owned(), id()));
            }
            let first = *branches.entry(token.project).or_insert(token.branch);
            if first != token.branch {
                return Err(TokenConfigError::Branch {
                    id: id(),
                    project: token.project,
                    first,
                });
            }
            let identity = CallerIdentity {
                project: ProjectId(token.project),
                default_branch: BranchId(token.branch),
                token_id: id(),
                description: token.description.clone(),
                owner: TokenOwner {
                    id: token.owner_id.clone(),
                    name: token.owner_name.clone(),
                },
                admin: token.admin,
                operator: token.operator,
                from: None,
            };
            entries.push((hash, identity));
        }
        Ok(Self {
            tokens: Arc::new(RwLock::new(Arc::new(entries))),
        })
    }

    fn current(&self) -> HashedTokens {
        let tokens = self.tokens.read();
        Arc::clone(&tokens)
    }

    /// Replaces the tokens in all clones by those of `other`.
    pub fn replace(&self, other: &Self) {
        let new = other.current();
        *self.tokens.write() = new;
    }

    /// SHA-256 of a token, as [`TokenConfig::sha256`] has it.
    pub fn hash(token: &[u8]) -> String {
        format!("{:x}", Sha256::digest(token))
    }
}

#[async_trait]
impl TokenAuthenticator for ConfiguredTokens {
    async fn authenticate(&self, token: &[u8]) -> Result<CallerIdentity, AuthError> {
        let given: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        // Compare with every entry: the time must not reveal the position.
        let entries = self.current();
        for (hash, identity) in entries.iter() {
            let same: Choice = hash.ct_eq(&given);
            if bool::from(same) {
                found = Some(identity);
            }
        }
        found.cloned().ok_or(AuthError::Invalid)
    }

    fn configured(&self) -> Vec<CallerIdentity> {
        self.current().iter().map(|(_, who)| who.clone()).collect()
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str, project: u64, secret: &str) -> TokenConfig {
        TokenConfig {
            id: id.to_owned(),
            project,
            branch: 1,
            description: String::new(),
            admin: true,
            operator: false,
            owner_id: None,
            owner_name: None,
            sha256: ConfiguredTokens::hash(secret.as_bytes()),
        }
    }

    #[tokio::test]
    async fn a_token_gives_access_to_its_own_project_only() {
        let tokens =
            ConfiguredTokens::new(&[token("a", 1, "secret-a"), token("b", 2, "secret-b")]).unwrap();
        let a = tokens.authenticate(b"secret-a").await.unwrap();
        assert_eq!((a.project, a.token_id.as_str()), (ProjectId(1), "a"));
        let b = tokens.authenticate(b"secret-b").await.unwrap();
        assert_eq!((b.project, b.token_id.as_str()), (ProjectId(2), "b"));
        for bad in [&b"secret-c"[..], b"", b"secret-a ", b"\xff\x00"] {
            assert_eq!(tokens.authenticate(bad).await, Err(AuthError::Invalid));
        }
    }

    #[tokio::test]
    async fn tokens_are_replaced_in_all_clones() {
        let tokens = ConfiguredTokens::new(&[token("a", 1, "secret-a")]).unwrap();
        let clone = tokens.clone();
        tokens.replace(&ConfiguredTokens::new(&[token("b", 2, "secret-b")]).unwrap());
        assert_eq!(clone.authenticate(b"secret-b").await.unwrap().token_id, "b");
        let gone = clone.authenticate(b"secret-a").await;
        assert_eq!(gone, Err(AuthError::Invalid));
    }

    #[test]
    fn hashes_are_not_in_debug_output() {
        let tokens = ConfiguredTokens::new(&[token("a", 1, "x")]).unwrap();
        assert_eq!(format!("{tokens:?}"), "[\"a\"]");
    }

    #[test]
    fn invalid_lists_are_rejected_by_name() {
        let mut other_branch = token("b", 1, "y");
        other_branch.branch = 2;
        let mut no_hash = token("b", 1, "y");
        no_hash.sha256 = "ß".repeat(32);
        for (list, text) in [
            (
                vec![token("a", 1, "x"), token("a", 1, "y")],
                "duplicate token id \"a\"",
            ),
            (
                vec![token("a", 1, "x"), token("b", 1, "x")],
                "tokens \"a\" and \"b\" have the same sha256",
            ),
            (
                vec![token("a", 1, "x"), other_branch],
                "token \"b\": another token sets the default branch of project 1 to 1",
            ),
            (
                vec![no_hash],
                "sha256 of token \"b\" must be 64 hexadecimal digits",
            ),
        ] {
            assert_eq!(ConfiguredTokens::new(&list).unwrap_err().to_string(), text);
        }
    }
}
