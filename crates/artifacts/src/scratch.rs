//! The scratch disk: an empty ext4 made once, and a sparse copy of it for every VM.

use crate::Error;
use crate::tool::{self, Tools};
use fcvm_spec::RootfsSize;
use fcvm_store::sparse;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The template's path.
pub(crate) fn template(dir: &Path) -> PathBuf {
    dir.join(format!("{}G-v2.ext4", RootfsSize::DEFAULT.bytes() >> 30))
}

/// Makes the template if it is not there.
pub(crate) fn ensure_template(tools: &Tools, dir: &Path) -> Result<(), Error> {
    let path = template(dir);
    if path.is_file() {
        return Ok(());
    }
    let temporary = path.with_extension("new");
    make(tools, &temporary, RootfsSize::DEFAULT)?;
    // mke2fs reserves what it leaves empty; a copy does not.
    let packed = path.with_extension("packed");
    let _ = fs::remove_file(&packed);
    sparse::copy(&temporary, &packed)?;
    fs::rename(&packed, &path).map_err(Error::file("rename", &packed))?;
    fs::remove_file(&temporary).map_err(Error::file("remove", &temporary))
}

/// Makes an empty scratch disk of its own.
///
/// No journal: a scratch disk is never used after its machine died. Few and packed tables: every byte of them is copied
/// for every VM. The superblock has its usual copies: a kernel lets no other file system grow while it is used.
pub(crate) fn make(tools: &Tools, path: &Path, size: RootfsSize) -> Result<(), Error> {
    let file = File::create(path).map_err(Error::file("create", path))?;
    file.set_len(size.bytes()).map_err(Error::file("size", path))?;
    drop(file);
    let mut command = tools.command("mke2fs", "e2fsprogs")?;
    command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", "fcvm-scratch", "-i", "32768", "-G", "256"]);
    command.args(["-O", "^has_journal,^resize_inode,sparse_super,^metadata_csum", "-E"]);
    command.arg("lazy_itable_init=1,nodiscard,packed_meta_blocks=1,root_owner=0:0");
    tool::run(command.arg(path)).map(drop)
}
