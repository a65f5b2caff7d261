//! The scratch disk: an empty ext4 made once, and a sparse copy of it for every VM.

use crate::Error;
use crate::tool::{self, Tools};
use fcvm_store::sparse;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The size of a scratch disk in GiB. It is sparse: what is not written takes no space.
const SIZE_GIB: u64 = 10;

/// The template's path.
pub(crate) fn template(dir: &Path) -> PathBuf {
    dir.join(format!("{SIZE_GIB}G-v1.ext4"))
}

/// Makes the template if it is not there.
///
/// No journal: a scratch disk is never used after its machine died. Few and packed tables: every byte of them is copied
/// for every VM.
pub(crate) fn ensure_template(tools: &Tools, dir: &Path) -> Result<(), Error> {
    let path = template(dir);
    if path.is_file() {
        return Ok(());
    }
    let temporary = path.with_extension("new");
    let file = File::create(&temporary).map_err(Error::file("create", &temporary))?;
    file.set_len(SIZE_GIB << 30).map_err(Error::file("size", &temporary))?;
    drop(file);
    let mut command = tools.command("mke2fs", "e2fsprogs")?;
    command.args(["-q", "-F", "-t", "ext4", "-m", "0", "-L", "fcvm-scratch", "-i", "32768", "-G", "256"]);
    command.args(["-O", "^has_journal,^resize_inode,sparse_super2,^metadata_csum", "-E"]);
    command.arg("lazy_itable_init=1,nodiscard,packed_meta_blocks=1,root_owner=0:0,num_backup_sb=0");
    tool::run(command.arg(&temporary))?;
    // mke2fs reserves what it leaves empty; a copy does not.
    let packed = path.with_extension("packed");
    let _ = fs::remove_file(&packed);
    sparse::copy(&temporary, &packed)?;
    fs::rename(&packed, &path).map_err(Error::file("rename", &packed))?;
    fs::remove_file(&temporary).map_err(Error::file("remove", &temporary))
}
