//! What people say about a virtual host.

use leveret_storage::VhostRecord;

/// What people say about a virtual host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// A sentence.
    pub description: String,
    /// Words by which they find it.
    pub tags: Vec<String>,
    /// The type of queue that tools should take for the usual one. Classic and quorum queues are the same here.
    pub default_queue_type: Option<String>,
    /// It is not deleted until this is taken back.
    pub protected_from_deletion: bool,
}

impl About {
    /// The stored form for the virtual host of this name.
    pub fn record(&self, name: &str) -> VhostRecord {
        VhostRecord {
            name: name.to_owned(),
            description: self.description.clone(),
            tags: self.tags.clone(),
            default_queue_type: self.default_queue_type.clone(),
            protected_from_deletion: self.protected_from_deletion,
        }
    }
}

impl From<&VhostRecord> for About {
    fn from(record: &VhostRecord) -> About {
        About {
            description: record.description.clone(),
            tags: record.tags.clone(),
            default_queue_type: record.default_queue_type.clone(),
            protected_from_deletion: record.protected_from_deletion,
        }
    }
}
