//! The names of the tenants of a shard, each once.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The tenants of the label sets of a shard.
#[derive(Debug, Default)]
pub(super) struct TenantNames {
    names: Vec<Tenant>,
    /// In order: their names come from outside.
    index: BTreeMap<Arc<str>, u32>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Tenant {
    name: Arc<str>,
    sets: usize,
}

// === impl TenantNames ===

impl TenantNames {
    /// The number of a tenant, for one more label set.
    pub(super) fn take(&mut self, name: &str) -> u32 {
        let id = self.index.get(name).copied().unwrap_or_else(|| self.add(name.into()));
        self.names[id as usize].sets += 1;
        id
    }

    fn add(&mut self, name: Arc<str>) -> u32 {
        let tenant = Tenant { name: Arc::clone(&name), sets: 0 };
        let id = match self.free.pop() {
            Some(id) => {
                self.names[id as usize] = tenant;
                id
            }
            None => {
                self.names.push(tenant);
                (self.names.len() - 1) as u32
            }
        };
        self.index.insert(name, id);
        id
    }

    /// One label set less. The number of a tenant without any is reused.
    pub(super) fn release(&mut self, id: u32) {
        let tenant = &mut self.names[id as usize];
        tenant.sets -= 1;
        if tenant.sets == 0 {
            self.index.remove(&tenant.name);
            self.free.push(id);
        }
    }

    pub(super) fn of(&self, id: u32) -> &Arc<str> {
        &self.names[id as usize].name
    }

    /// The number of a tenant that has label sets.
    #[cfg(test)]
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.index.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_number_is_free_when_its_last_label_set_goes() {
        let mut names = TenantNames::default();
        let (a, b) = (names.take("a"), names.take("b"));
        assert_eq!((names.take("a"), &**names.of(b)), (a, "b"));
        names.release(a);
        assert_eq!(names.find("a"), Some(a));
        names.release(a);
        assert_eq!(names.find("a"), None);
        assert_eq!((names.take("c"), &**names.of(a), names.find("b")), (a, "c", Some(b)));
    }
}
