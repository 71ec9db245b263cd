//! Addresses of a running server, published in its data directory for clients on the same machine.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const FILE: &str = "endpoints.json";
/// Two addresses; a larger file is a mistake.
const BYTES_MAX: u64 = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Endpoints {
    /// Address of the management API for a client on this machine.
    pub(crate) api: Option<String>,
    /// Address of the HTTP source.
    pub(crate) source: Option<String>,
}

/// Removes the file on drop: a stopped server has no addresses.
#[derive(Debug)]
#[must_use = "the file is removed when this is dropped"]
pub(crate) struct PublishedEndpoints {
    file: PathBuf,
}

impl Endpoints {
    /// Writes the file atomically.
    pub(crate) fn publish(&self, data_dir: &Path) -> std::io::Result<PublishedEndpoints> {
        let file = data_dir.join(FILE);
        let temporary = file.with_extension("new");
        let mut out = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        serde_json::to_writer_pretty(&mut out, self)?;
        out.write_all(b"\n")?;
        std::fs::rename(&temporary, &file)?;
        Ok(PublishedEndpoints { file })
    }

    /// The published addresses; `None` when no server runs or the file is not valid.
    pub(crate) fn find(data_dir: &Path) -> std::io::Result<Option<Self>> {
        let file = data_dir.join(FILE);
        let text = match std::fs::metadata(&file) {
            Ok(found) if found.len() <= BYTES_MAX => std::fs::read(&file)?,
            Ok(_) => return Ok(None),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        Ok(serde_json::from_slice(&text).ok())
    }
}

impl Drop for PublishedEndpoints {
    fn drop(&mut self) {
        // A stale file would point clients to a closed port.
        drop(std::fs::remove_file(&self.file));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_endpoints_are_found_while_the_server_runs() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Endpoints::find(dir.path()).unwrap(), None);
        let endpoints = Endpoints {
            api: Some("http://127.0.0.1:18200".to_owned()),
            source: None,
        };
        let published = endpoints.publish(dir.path()).unwrap();
        assert_eq!(
            Endpoints::find(dir.path()).unwrap(),
            Some(endpoints.clone())
        );
        drop(published);
        assert_eq!(Endpoints::find(dir.path()).unwrap(), None);
        std::fs::write(dir.path().join(FILE), "not JSON").unwrap();
        assert_eq!(Endpoints::find(dir.path()).unwrap(), None);
        drop(endpoints.publish(dir.path()).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
