//! Who holds which name: one file a name, holding an id. Names change hands under the store's exclusive lock only.

use crate::{Error, Store, file};
use fcvm_spec::{VmId, VmName};
use std::fs;
use std::io;
use std::path::PathBuf;

impl Store {
    fn name_path(&self, name: &VmName) -> PathBuf {
        self.root.join("names").join(name.as_str())
    }

    /// Gives `name` to `id`. Called under the exclusive lock, after the VM's directory exists.
    pub(crate) fn claim_name(&self, name: &VmName, id: &VmId) -> Result<(), Error> {
        let path = self.name_path(name);
        if let Some(holder) = self.holder(name)? {
            if self.vms_dir().join(holder.as_str()).is_dir() {
                return Err(Error::NameInUse { name: name.to_string(), id: holder.short().to_owned() });
            }
            // The holder was swept between its directory and its name.
            file::remove(&path)?;
        }
        // Written in the VM's directory, which is swept if this process dies now.
        let staged = self.vms_dir().join(id.as_str()).join("name");
        file::write_atomic(&staged, id.as_str().as_bytes(), 0o600)?;
        fs::rename(&staged, &path).map_err(Error::file("write", &path))
    }

    /// Frees `name` if `id` holds it.
    pub(crate) fn free_name(&self, name: &VmName, id: &VmId) -> Result<(), Error> {
        if self.holder(name)?.as_ref() == Some(id) { file::remove(&self.name_path(name)) } else { Ok(()) }
    }

    /// Frees whatever names `id` holds: for a VM whose record does not say it.
    pub(crate) fn free_names_of(&self, id: &VmId) -> Result<(), Error> {
        let path = self.root.join("names");
        let entries = fs::read_dir(&path).map_err(Error::file("list", &path))?;
        let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
        entries.filter_map(name).try_for_each(|name| self.free_name(&name, id))
    }

    /// Returns the id that holds `name`.
    pub(crate) fn holder(&self, name: &VmName) -> Result<Option<VmId>, Error> {
        let path = self.name_path(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", &path)(error)),
        }
    }
}
