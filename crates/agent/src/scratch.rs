//! The scratch disk, which may become larger: while it is used, or between two machines.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Where it is.
pub(crate) const PLACE: &str = "/run/fcvm/scratch";

/// How long the kernel may take to see that a disk has another size, and how often it is asked: nothing tells.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// Lets the file system take up a disk that is as large as this, once the kernel sees that it is.
pub(crate) async fn grow(device: &str, bytes: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while size(device)? < bytes {
        ensure!(Instant::now() < deadline, "the disk has not become larger");
        tokio::time::sleep(LOOK).await;
    }
    let device = device.to_owned();
    tokio::task::spawn_blocking(move || fill(&device)).await.context("the thread died")?
}

/// Lets the file system take up all of its disk, if it does not yet.
pub(crate) fn fill(device: &str) -> Result<()> {
    let mut head = [0; 2048];
    File::open(device).and_then(|mut disk| disk.read_exact(&mut head)).context("read the scratch disk")?;
    let (blocks, block) = extent(&head);
    ensure!(block.is_power_of_two(), "the scratch disk has no file system");
    let possible = size(device)? / block;
    if possible > blocks {
        fcvm_sys::guest::grow(Path::new(PLACE), possible).context("let the scratch disk's file system grow")?;
    }
    Ok(())
}

/// The number and the size of an ext4's blocks: `s_blocks_count_lo`, `s_log_block_size`, `s_blocks_count_hi`.
fn extent(head: &[u8; 2048]) -> (u64, u64) {
    let word = |place: usize| {
        let bytes = head[1024 + place..1024 + place + 4].try_into().expect("four bytes");
        u64::from(u32::from_le_bytes(bytes))
    };
    (word(0x4) | word(0x150) << 32, 1024_u64.checked_shl(u32::try_from(word(0x18)).unwrap_or(64)).unwrap_or(0))
}

fn size(device: &str) -> Result<u64> {
    File::open(device).and_then(|mut disk| disk.seek(SeekFrom::End(0))).context("measure the scratch disk")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ext4_tells_its_extent() {
        let mut head = [0; 2048];
        head[1024 + 4..1024 + 8].copy_from_slice(&2_621_440_u32.to_le_bytes());
        head[1024 + 0x18] = 2;
        head[1024 + 0x150] = 1;
        assert_eq!(extent(&head), (2_621_440 + (1 << 32), 4096));
        head[1024 + 0x18] = 200;
        assert_eq!(extent(&head).1, 0);
    }
}
