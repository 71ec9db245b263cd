//! Status of the server, for the API.

use forebay_api::status::{DefinitionsStatusView, VolumeStatusView};
use forebay_control::api::NodeService;
use forebay_meta::Store;

use crate::definitions::FollowerState;
use crate::disk_housekeeping::{DiskMetrics, check_full};
use crate::disk_space::disk_space;

/// The server itself.
pub(crate) struct NodeStatus {
    pub(crate) disk: DiskMetrics,
    pub(crate) definitions: FollowerState,
}

impl NodeService for NodeStatus {
    fn version(&self) -> String {
        crate::version::VERSION.to_owned()
    }

    fn volumes(&self) -> Vec<VolumeStatusView> {
        let stats = self.disk.log.volume_stats();
        let space = disk_space(self.disk.store.dir());
        vec![VolumeStatusView {
            volume_id: format!("{:016x}", stats.volume),
            size_bytes: space.map(|s| s.size),
            free_bytes: space.map(|s| s.free),
            file_bytes: stats.file_bytes,
            available_bytes: stats.available_bytes,
            full: check_full(&stats).is_some(),
            error: stats.latched.map(|latched| latched.to_string()),
        }]
    }

    fn store_error(&self) -> Option<String> {
        let health = self.disk.store.health();
        health.err().map(|error| error.to_string())
    }

    fn definitions(&self) -> Option<DefinitionsStatusView> {
        self.definitions.view()
    }
}
