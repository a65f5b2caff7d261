//! `doctor`: what this host can do, what is missing, and the command that mends it. The checks are in [`checks`]
//! and [`monitor`].

mod checks;
mod monitor;

pub(super) use monitor::HOW_TO_OBTAIN_FIRECRACKER;

use crate::args::DoctorArgs;
use crate::error::Failure;
use crate::{settings, ui};
use fcvm_vmm::Probe;
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    what: &'static str,
    status: Status,
    detail: String,
    /// The command that mends it, or what to do where no command does.
    mend: Option<String>,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Status {
    /// As it should be.
    Ok,
    /// VMs run, but something could be better.
    Note,
    /// VMs do not run without it.
    Missing,
}

impl Finding {
    fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, status: Status::Ok, detail: detail.into(), mend: None }
    }

    fn note(what: &'static str, detail: impl Into<String>, mend: Option<String>) -> Self {
        Self { what, status: Status::Note, detail: detail.into(), mend }
    }

    fn missing(what: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what, status: Status::Missing, detail: detail.into(), mend: Some(mend.into()) }
    }
}

pub(super) fn doctor(args: &DoctorArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let settings = settings::settings(data_dir)?;
    let mut findings = vec![checks::kernel(&rustix::system::uname().release().to_string_lossy())];
    findings.extend(checks::programs(&settings.search_path));
    findings.push(checks::agent(&settings.agent));
    findings.extend(checks::data(&settings, args.fix));
    let host = Probe::of_host(&settings.search_path, settings.firecracker.as_deref());
    findings.extend(monitor::monitors(&host));
    findings.push(checks::isolation(&host));
    findings.push(checks::jail(&settings.entrance()));
    findings.push(checks::network());
    print(&findings, args)?;
    Ok(verdict(&findings))
}

/// A script may ask whether VMs run here.
fn verdict(findings: &[Finding]) -> ExitCode {
    let missing = findings.iter().any(|finding| finding.status == Status::Missing);
    if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn print(findings: &[Finding], args: &DoctorArgs) -> Result<(), Failure> {
    if args.json {
        ui::say(&serde_json::to_string_pretty(findings)?);
        return Ok(());
    }
    for finding in findings.iter().filter(|finding| !args.quiet || finding.status != Status::Ok) {
        let mark = match finding.status {
            Status::Ok => "ok",
            Status::Note => "note",
            Status::Missing => "MISSING",
        };
        ui::say(&format!("{mark:<7}  {:<20}  {}", finding.what, finding.detail));
        if let Some(mend) = &finding.mend {
            ui::say(&format!("{:31}mend it with: {mend}", ""));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_fails() {
        let note = Finding::note("a", "could be better", None);
        let missing = Finding::missing("b", "not there", "get it");
        assert_eq!(verdict(&[Finding::ok("c", ""), note.clone()]), ExitCode::SUCCESS);
        assert_eq!(verdict(&[note, missing]), ExitCode::FAILURE);
    }
}
