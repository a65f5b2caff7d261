//! `cp`: files into VMs and out of them.

use super::{block_on, changes};
use crate::args::{CopyArgs, End};
use crate::error::Failure;
use crate::{settings, ui};
use fcvm_archive::Conflict;
use fcvm_engine::copy::{CopyManner, Source, Target, VmPath};
use fcvm_proto::files::Ownership;
use std::path::Path;

/// Copies files.
pub(super) fn copy(args: CopyArgs, data_dir: &Path) -> Result<(), Failure> {
    let manner = CopyManner {
        owner: if args.archive { Ownership::Container } else { Ownership::Told },
        conflict: if args.overwrite { Conflict::Replaced } else { Conflict::Refused },
    };
    let source = match End::parse(&args.source) {
        End::Vm(vm, path) => Source::Vm(vm_path(vm, path)?),
        End::Host(path) => Source::Host(path.into()),
        End::Stream => Source::Archive(Box::new(std::io::stdin())),
    };
    let target = match End::parse(&args.target) {
        End::Vm(vm, path) => Target::Vm(vm_path(vm, path)?),
        End::Host(path) => Target::Host(path.into()),
        End::Stream => Target::Archive(Box::new(changes::standard_output()?)),
    };
    let engine = settings::engine(data_dir)?;
    let copied = block_on(engine.copy(source, target, manner))??;
    if copied.left_out > 0 {
        ui::complain(&format!("Left out: {} devices, which are the guest's", copied.left_out));
    }
    Ok(())
}

fn vm_path(vm: String, path: String) -> Result<VmPath, Failure> {
    if path.is_empty() {
        return Err(Failure::new(format!("{vm}: names no path in the VM")));
    }
    // As podman's: a path that is not absolute is one from the root.
    Ok(VmPath { vm, path })
}
