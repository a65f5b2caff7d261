//! The cgroup of a VM's processes: made by its owner, removed with the rest of what only a running VM needs.

use fcvm_spec::{CgroupSpec, VmSpec};
use fcvm_sys::cgroup::{self, Error, ROOT, Wanted};
use std::path::{Path, PathBuf};

/// Makes the cgroup that a VM asks for.
pub fn make_cgroup(spec: &VmSpec) -> Result<(), Error> {
    with(spec, |wanted| wanted.make(Path::new(ROOT)))
}

/// Returns the directories of the cgroup that a VM asks for.
pub fn cgroup_directories(spec: &VmSpec) -> Result<Vec<PathBuf>, Error> {
    with(spec, |wanted| wanted.directories(Path::new(ROOT)))
}

/// Removes the cgroup of a VM whose processes have ended. That it stays is nothing to keep the VM for.
pub(crate) fn remove_cgroup(spec: &VmSpec) {
    let Some(group) = &spec.cgroup else { return };
    let removed = cgroup_directories(spec).map_err(|error| error.to_string());
    let removed = removed.and_then(|directories| {
        cgroup::remove(&directories).map_err(|error| error.to_string())?;
        // One that somebody named may be somebody's; ours goes with the last group in it.
        if group.parent == CgroupSpec::DEFAULT_PARENT {
            let parents = directories.iter().filter_map(|directory| directory.parent());
            parents.for_each(|parent| drop(std::fs::remove_dir(parent)));
        }
        Ok(())
    });
    if let Err(reason) = removed {
        tracing::warn!(vm = %spec.name, reason, "a cgroup is left");
    }
}

fn with<T: Default>(spec: &VmSpec, act: impl FnOnce(&Wanted<'_>) -> Result<T, Error>) -> Result<T, Error> {
    let Some(CgroupSpec { parent, settings }) = &spec.cgroup else { return Ok(T::default()) };
    act(&Wanted { parent: Path::new(parent), name: &format!("fcvm-{}", spec.id), settings })
}
