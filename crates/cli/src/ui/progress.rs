//! How far something is: bars on a terminal, plain lines elsewhere, nothing if quiet.

use fcvm_image::{Phase, Progress, Update};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Mutex;

/// Whether progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// It is.
    Progress,
    /// It is not: `--quiet`.
    Nothing,
}

/// Shows progress of images and of the set-up.
pub(crate) enum Display {
    Bars { all: MultiProgress, known: Mutex<HashMap<String, ProgressBar>> },
    Lines { known: Mutex<HashMap<String, Phase>> },
    Nothing,
}

impl Display {
    pub(crate) fn new(show: Show) -> Self {
        match show {
            Show::Nothing => Self::Nothing,
            Show::Progress if std::io::stderr().is_terminal() => {
                Self::Bars { all: MultiProgress::new(), known: Mutex::default() }
            }
            Show::Progress => Self::Lines { known: Mutex::default() },
        }
    }
}

fn short(item: &str) -> &str {
    let digits = item.strip_prefix("sha256:").unwrap_or(item);
    if digits.len() == 64 { &digits[..12] } else { digits }
}

fn verb(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolve => "Resolving",
        Phase::Download => "Downloading",
        Phase::Merge => "Converting",
    }
}

impl Progress for Display {
    fn update(&self, update: &Update<'_>) {
        // Finding out what a name means is over in milliseconds where the image is here.
        if update.phase == Phase::Resolve {
            return;
        }
        let key = format!("{} {}", verb(update.phase), short(update.item));
        match self {
            Self::Nothing => {}
            Self::Bars { all, known } => {
                let mut known = known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let bar = known.entry(key.clone()).or_insert_with(|| {
                    let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes}");
                    let bar = all.add(ProgressBar::new(update.total));
                    bar.set_style(style.expect("the template is a constant"));
                    bar.with_message(key)
                });
                bar.set_length(update.total);
                bar.set_position(update.done);
                if update.done >= update.total {
                    bar.finish();
                }
            }
            Self::Lines { known } => {
                let mut known = known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if known.insert(key.clone(), update.phase).is_none() {
                    super::complain(&key);
                }
            }
        }
    }
}

impl fcvm_artifacts::Progress for Display {
    fn step(&self, what: &str) {
        match self {
            Self::Nothing => {}
            Self::Bars { all, .. } => drop(all.println(what)),
            Self::Lines { .. } => super::complain(what),
        }
    }
}
