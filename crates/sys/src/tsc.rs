//! The frequency of the processor's time stamp counter.
//!
//! A guest under software emulation reads the host's counter, and has no reliable timer to measure it with.

use std::time::Duration;

/// How long a measurement takes.
const SPAN: Duration = Duration::from_millis(25);

/// Returns the frequency of the time stamp counter in kHz, from the processor or hypervisor if it says so, else
/// measured: then this blocks for 25 ms. Nothing where there is no such counter. The caller keeps the answer.
pub fn frequency_khz() -> Option<u32> {
    arch::stated_khz().or_else(|| measure(SPAN))
}

/// Measures over a span. The error is about 1 µs in the span: 0.004 %.
fn measure(span: Duration) -> Option<u32> {
    let start = Reading::take()?;
    // Not a wait for anything: time itself is what is measured.
    std::thread::sleep(span);
    Reading::take()?.khz_since(start)
}

/// The counter and the clock at the same moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    ticks: u64,
    nanoseconds: i128,
}

impl Reading {
    /// Takes several readings and keeps the one in which the clock moved least: there nothing came in between.
    fn take() -> Option<Self> {
        let best = (0..8).filter_map(|_| {
            let before = clock();
            let ticks = arch::ticks()?;
            let width = clock() - before;
            Some((width, Self { ticks, nanoseconds: before + width / 2 }))
        });
        best.min_by_key(|(width, _)| *width).map(|(_, reading)| reading)
    }

    fn khz_since(self, start: Self) -> Option<u32> {
        let ticks = i128::from(self.ticks.checked_sub(start.ticks)?);
        let khz = (ticks * 1_000_000).checked_div(self.nanoseconds - start.nanoseconds)?;
        u32::try_from(khz).ok().filter(|khz| *khz > 0)
    }
}

/// Reads the clock that nothing adjusts, in nanoseconds.
fn clock() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicRaw);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use std::arch::x86_64::{__cpuid, _rdtsc};

    /// Reads the counter.
    #[expect(clippy::unnecessary_wraps, reason = "other architectures have none")]
    pub(super) fn ticks() -> Option<u64> {
        // SAFETY: every x86_64 processor has the instruction, and Linux lets programs use it.
        Some(unsafe { _rdtsc() })
    }

    /// Returns what a hypervisor says in leaf 0x4000_0010 (a convention of VMware's that KVM and others keep), in kHz.
    /// The processor's own leaf 0x15 is passed over: many give a rounded crystal there.
    pub(super) fn stated_khz() -> Option<u32> {
        let under_a_hypervisor = __cpuid(1).ecx & (1 << 31) != 0;
        let stated = || (__cpuid(0x4000_0000).eax >= 0x4000_0010).then(|| __cpuid(0x4000_0010).eax);
        under_a_hypervisor.then(stated).flatten().filter(|khz| *khz > 0)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    /// There is no such counter.
    pub(super) fn ticks() -> Option<u64> {
        None
    }

    /// Nothing is said of it.
    pub(super) fn stated_khz() -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frequency_is_ticks_over_time() {
        let start = Reading { ticks: 5_000, nanoseconds: 1_000 };
        let end = Reading { ticks: 5_000 + 57_500_000, nanoseconds: 1_000 + 25_000_000 };
        assert_eq!(end.khz_since(start), Some(2_300_000));
        assert_eq!(start.khz_since(start), None);
        assert_eq!(start.khz_since(end), None, "a counter that ran backwards has no frequency");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn this_processor_has_a_frequency() {
        let khz = frequency_khz().unwrap();
        assert!((100_000..10_000_000).contains(&khz), "{khz}");
    }
}
