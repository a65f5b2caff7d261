//! What a volume may cost: so many times what the guest's own disk costs, and never more than virtio-9p.

use super::machine::NINE;
use super::{Row, Unit};
use std::fmt::Write;

/// What a row is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sequential,
    Cached,
    Uncached,
    /// Nothing but virtio-9p.
    Peer,
}

impl Kind {
    fn most(self) -> Option<f64> {
        match self {
            Self::Sequential => Some(1.5),
            Self::Cached => Some(3.0),
            Self::Uncached => Some(5.0),
            Self::Peer => None,
        }
    }
}

pub(super) const HEAD: &str = "| what | a volume's time, by the disk's | goal | by virtio-9p's | goal | \
    writeback's, by the disk's | virtiofs', by its guest's disk's |\n| --- | --- | --- | --- | --- | --- | --- |\n";

/// Adds a row's line, by the medians of who was measured.
pub(super) fn judge(table: &mut String, row: &Row, medians: &[(&str, f64)]) {
    let median = |who: &str| medians.iter().find(|(name, _)| *name == who).map(|(_, median)| *median);
    // How many times longer the one takes.
    let ratio = |one: &str, other: &str| {
        let (one, other) = (median(one)?, median(other)?);
        Some(if row.unit == Unit::Rate { other / one } else { one / other })
    };
    let times = |ratio: Option<f64>| ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
    let (disk, nine) = (ratio("a volume", "the guest's disk"), ratio("a volume", NINE));
    let writeback = ratio("a volume, `cache=writeback`", "the guest's disk");
    let virtiofs = ratio(super::machine::VIRTIOFS, super::machine::DISK);
    let (own, peer) = (verdict(disk, row.goal.most()), verdict(nine, Some(1.0)));
    let (disk, nine, writeback, virtiofs) = (times(disk), times(nine), times(writeback), times(virtiofs));
    let line = format!("| {} | {disk} | {own} | {nine} | {peer} | {writeback} | {virtiofs} |", row.what);
    eprintln!("{line}");
    writeln!(table, "{line}").expect("a string takes all that is written");
}

fn verdict(ratio: Option<f64>, most: Option<f64>) -> String {
    match (ratio, most) {
        (Some(ratio), Some(most)) if ratio <= most => format!("≤ {most}: met"),
        (Some(_), Some(most)) => format!("≤ {most}: **missed**"),
        _ => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_judged_by_the_time_that_it_means() {
        let row = Row { what: "w", unit: Unit::Rate, goal: Kind::Sequential, work: "" };
        let mut table = String::new();
        judge(&mut table, &row, &[("the guest's disk", 300.0), ("a volume", 100.0), (NINE, 50.0)]);
        assert_eq!(table, "| w | 3.00 | ≤ 1.5: **missed** | 0.50 | ≤ 1: met | – | – |\n");
    }

    #[test]
    fn who_was_not_measured_is_not_judged() {
        let row = Row { what: "w", unit: Unit::Micros, goal: Kind::Cached, work: "" };
        let mut table = String::new();
        judge(&mut table, &row, &[("the guest's disk", 2.0), ("a volume", 6.0)]);
        assert_eq!(table, "| w | 3.00 | ≤ 3: met | – | – | – | – |\n");
    }
}
