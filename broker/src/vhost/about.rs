//! What is said about a virtual host, and stored with its name.

use leveret_storage::VhostRecord;

use super::redeclare::RedeclareRule;

/// What people say about a virtual host, and how it takes its clients' declarations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// A sentence.
    pub description: String,
    /// Words by which they find it.
    pub tags: Vec<String>,
    /// The type of queue that tools should take for the usual one. Classic and quorum queues are the same here.
    pub default_queue_type: Option<String>,
    /// What becomes of declarations that differ from what is there; the configured rule if none is chosen.
    pub redeclare_rule: Option<RedeclareRule>,
    /// It is not deleted until this is taken back.
    pub protected_from_deletion: bool,
}

impl About {
    /// As it was stored. A rule that this version does not know is as good as none.
    pub fn of_record(record: &VhostRecord) -> About {
        About {
            description: record.description.clone(),
            tags: record.tags.clone(),
            default_queue_type: record.default_queue_type.clone(),
            redeclare_rule: record.redeclare_rule.as_deref().and_then(RedeclareRule::parse),
            protected_from_deletion: record.protected_from_deletion,
        }
    }

    /// As it is stored for a virtual host of this name.
    pub fn to_record(&self, name: &str) -> VhostRecord {
        VhostRecord {
            name: name.to_owned(),
            description: self.description.clone(),
            tags: self.tags.clone(),
            default_queue_type: self.default_queue_type.clone(),
            redeclare_rule: self.redeclare_rule.map(|rule| rule.name().to_owned()),
            protected_from_deletion: self.protected_from_deletion,
        }
    }
}
