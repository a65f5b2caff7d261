//! Which VMs a verb means: those that are named, or all, the newest, or those that match.

use super::list::{Filters, records};
use crate::args::Which;
use crate::error::Failure;
use fcvm_engine::Engine;
use fcvm_spec::Phase;
use fcvm_store::VmRecord;

/// Of which VMs `--all` means all, and a filter chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Every {
    /// Those that a process owns.
    Running,
    /// Those that stand still.
    Paused,
    /// Those that no process owns.
    Ended,
    /// Every one.
    Any,
}

impl Every {
    fn holds(self, record: &VmRecord) -> bool {
        match self {
            Self::Running => record.phase.is_live(),
            Self::Paused => record.phase == Phase::Paused,
            Self::Ended => !record.phase.is_live(),
            Self::Any => true,
        }
    }
}

/// Returns the names as they were given, or the ids of those that are meant otherwise.
pub(super) fn which(which: Which, every: Every, engine: &Engine) -> Result<Vec<String>, Failure> {
    let Which { all, latest, filter, cidfile, mut names } = which;
    for file in cidfile {
        let id = std::fs::read_to_string(&file);
        let id = id.map_err(|error| Failure::new(format!("read the id file {}: {error}", file.display())))?;
        names.push(id.trim().to_owned());
    }
    if !all && !latest && filter.is_empty() {
        return if names.is_empty() { Err(Failure::new("name a VM, or give --all")) } else { Ok(names) };
    }
    if !names.is_empty() {
        return Err(Failure::new("--all, --latest and --filter exclude names, and the ids in files"));
    }
    if latest && (all || !filter.is_empty()) {
        return Err(Failure::new("--latest excludes --all and --filter"));
    }
    let mut records = records(engine)?;
    if latest {
        let newest = records.into_iter().max_by_key(|record| record.created_ns);
        return newest.map(|record| vec![record.spec.id.to_string()]).ok_or_else(|| Failure::new("there is no VM"));
    }
    let filters = Filters::parse(&filter, &records)?;
    records.retain(|record| every.holds(record) && filters.match_all(record));
    Ok(records.into_iter().map(|record| record.spec.id.to_string()).collect())
}
