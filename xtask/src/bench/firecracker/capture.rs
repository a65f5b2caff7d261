//! How long a machine that was restored stands still while it is saved: by the pages that are its own, read from outside, or
//! by Firecracker, which has kept what was written since (`Diff`). Both into memory.

use super::alone::{Alone, Tracking};
use super::{GUEST, block_on, fresh, in_full, of_process};
use crate::bench::{Samples, row};
use anyhow::Result;
use fcvm_e2e::native::{Guest, Native, Then, passes};
use fcvm_vmm::memory::MemoryCopy;
use fcvm_vmm::{Machine, Saved};
use std::time::Instant;

/// How much a machine has written, in MiB, its guest's first 4 MiB not counted.
const WRITTEN: [u32; 3] = [16, 64, 256];

pub(super) fn measure(table: &mut String, native: &Native, runs: usize) -> Result<()> {
    for written in WRITTEN {
        let dir = tempfile::tempdir()?;
        let guest = Guest { reach: written + 4, writes: true, then: Then::Again, ..GUEST };
        let saved = block_on(native.saved(&guest, dir.path()))?;
        let server = native.serve(&saved, Vec::new(), dir.path());
        let (mut own, mut compared, mut difference) = (Samples::default(), Samples::default(), Samples::default());
        for _ in 0..runs.min(10) {
            for (server, samples) in [(None, &mut own), (Some(&server), &mut compared)] {
                let dir = fresh(dir.path(), "clone")?;
                samples.push(block_on(async {
                    let clone = native.restore(&guest, (&saved, server), &dir).await.map_err(in_full)?;
                    passes(&clone, 2).await;
                    by_pages(&clone).await
                })??);
            }
            difference.push(by_difference(native, &saved, written)?);
        }
        let what = format!("capture of {written} MiB written, ms");
        row(table, &what, "fcvm, pages of a mapped machine", &own);
        row(table, &what, "fcvm, pages of a served machine", &compared);
        row(table, &what, "Firecracker alone, Diff with dirty tracking", &difference);
    }
    Ok(())
}

async fn by_pages(clone: &Machine) -> Result<f64> {
    let copy = clone.copy_memory()?;
    let started = Instant::now();
    clone.pause().await?;
    let _devices = clone.save_devices().await?;
    if let MemoryCopy::Pages(copy) = copy {
        copy.take()?;
    }
    clone.resume().await?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

fn by_difference(native: &Native, saved: &Saved, written: u32) -> Result<f64> {
    let mut alone = Alone::restore(&native.firecracker.program, saved, Tracking::On)?;
    while of_process(alone.pid(), "status", "RssAnon:")? < f64::from(written) {
        std::thread::yield_now();
    }
    alone.save_difference()
}
