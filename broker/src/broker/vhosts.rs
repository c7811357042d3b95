//! The virtual hosts of the broker: made, described and deleted.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use leveret_storage::{Definition, DefinitionKey, Ticket, VhostRecord};

use super::users::write_user_changes;
use super::{AdminError, Broker};
use crate::vhost::queue_handle::Services;
use crate::vhost::{About, Vhost};

impl Broker {
    /// The virtual host of that name.
    pub fn vhost(&self, name: &str) -> Option<Arc<Vhost>> {
        self.vhosts.read().get(name).cloned()
    }

    /// All virtual hosts, by name.
    pub fn vhosts(&self) -> Vec<Arc<Vhost>> {
        let mut vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        vhosts.sort_by(|a, b| a.name.cmp(&b.name));
        vhosts
    }

    fn new_vhost(&self, name: &str, about: About) -> Arc<Vhost> {
        let services = Services {
            store: self.store.clone(),
            counters: self.counters.clone(),
            paging: self.paging.clone(),
        };
        let rule = self.config.redeclare_rule;
        Arc::new(Vhost::new(name, about, rule, services, self.timer.clone()))
    }

    /// Enters a virtual host that is stored already.
    pub fn recover_vhost(&self, record: &VhostRecord) -> Arc<Vhost> {
        let vhost = self.new_vhost(&record.name, About::of_record(record));
        self.vhosts.write().insert(record.name.clone(), vhost.clone());
        vhost
    }

    /// Makes a virtual host; the commit to wait for.
    pub fn add_vhost(&self, name: &str) -> Result<Ticket, AdminError> {
        self.add_vhost_with(name, About::default())
    }

    /// Makes a virtual host about which people say something; the commit to wait for.
    pub fn add_vhost_with(&self, name: &str, about: About) -> Result<Ticket, AdminError> {
        if name.is_empty() || name.len() > 255 {
            return Err(AdminError::VhostNameLength);
        }
        let mut vhosts = self.vhosts.write();
        if vhosts.contains_key(name) {
            return Err(AdminError::VhostExists(name.to_owned()));
        }
        let vhost = self.new_vhost(name, About::default());
        vhosts.insert(name.to_owned(), vhost.clone());
        Ok(self.store_about(&vhost, about))
    }

    /// Edits what people say about a virtual host; the commit to wait for.
    pub fn describe_vhost(&self, name: &str, edit: impl FnOnce(&mut About)) -> Result<Ticket, AdminError> {
        // Under the lock, so that a virtual host that is being deleted is not stored again, and no other edit is lost.
        let vhosts = self.vhosts.write();
        let vhost = vhosts
            .get(name)
            .ok_or_else(|| AdminError::NoSuchVhost(name.to_owned()))?;
        let mut about = vhost.about();
        edit(&mut about);
        Ok(self.store_about(vhost, about))
    }

    fn store_about(&self, vhost: &Vhost, about: About) -> Ticket {
        let mut writer = self.store.writer();
        writer.put(&Definition::Vhost(about.to_record(&vhost.name)));
        vhost.set_about(about);
        writer.submit()
    }

    /// Deletes a virtual host with everything in it and closes its connections.
    pub fn delete_vhost(&self, name: &str) -> Result<Ticket, AdminError> {
        let vhost = match self.vhosts.write().entry(name.to_owned()) {
            Entry::Vacant(_) => return Err(AdminError::NoSuchVhost(name.to_owned())),
            Entry::Occupied(vhost) if vhost.get().about().protected_from_deletion => {
                return Err(AdminError::VhostProtected(name.to_owned()));
            }
            Entry::Occupied(vhost) => vhost.remove(),
        };
        self.close_connections(&format!("vhost '{name}' is deleted"), |identity| {
            &*identity.vhost == name
        });
        let mut edit = self.users.edit();
        edit.clear_vhost(name);
        vhost.delete_everything();
        let mut writer = self.store.writer();
        write_user_changes(&mut writer, edit.records());
        writer.delete(&DefinitionKey::Vhost { name: name.to_owned() });
        let ticket = writer.submit();
        edit.commit();
        Ok(ticket)
    }
}
