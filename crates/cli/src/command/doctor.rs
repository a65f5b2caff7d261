//! `doctor`: what this host can do, what is missing, and the command that mends it.

use crate::args::DoctorArgs;
use crate::error::Failure;
use crate::{settings, ui};
use fcvm_artifacts::Artifacts;
use fcvm_store::{Store, Swept};
use fcvm_sys::kvm::Acceleration;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// One finding.
struct Finding {
    what: String,
    good: bool,
    detail: String,
    mend: Option<String>,
}

pub(super) fn doctor(args: &DoctorArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let settings = settings::settings(data_dir)?;
    let store = Store::open(&settings.data_dir)?;
    let mut findings: Vec<Finding> = fcvm_artifacts::requirements(&settings.search_path)
        .into_iter()
        .map(|requirement| Finding {
            what: requirement.program.to_owned(),
            good: requirement.found.is_some(),
            detail: match &requirement.found {
                Some(path) => path.display().to_string(),
                None => format!("missing; needed for {}", requirement.needed_for),
            },
            mend: requirement.found.is_none().then(|| format!("apt-get install {}", requirement.package)),
        })
        .collect();
    findings.push(ready(&Artifacts::open(&store.artifacts_dir())?, &settings.agent));
    findings.push(isolation(&settings));
    findings.push(jail(&settings));
    findings.push(Finding {
        what: "network".to_owned(),
        good: true,
        detail: "TCP, UDP and DNS travel over the link and start in the owner's process; no device and no privilege is needed".to_owned(),
        mend: None,
    });
    findings.push(left_overs(&store, args.fix)?);
    let good = findings.iter().all(|finding| finding.good);
    print(&findings, args)?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn print(findings: &[Finding], args: &DoctorArgs) -> Result<(), Failure> {
    if args.json {
        let rows: Vec<_> = findings
            .iter()
            .map(|finding| json!({ "what": finding.what, "good": finding.good, "detail": finding.detail, "mend": finding.mend }))
            .collect();
        ui::say(&serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    for finding in findings.iter().filter(|finding| !args.quiet || !finding.good) {
        let mark = if finding.good { "ok     " } else { "MISSING" };
        ui::say(&format!("{mark}  {:<20}  {}", finding.what, finding.detail));
        if let Some(mend) = &finding.mend {
            ui::say(&format!("{:31}mend it with: {mend}", ""));
        }
    }
    Ok(())
}

fn ready(artifacts: &Artifacts, agent: &Path) -> Finding {
    let set = artifacts.current(agent).is_ok();
    let detail = match artifacts.kernel_release() {
        Ok(release) if set => format!("kernel {release}"),
        _ => "no kernel and no guest system yet".to_owned(),
    };
    Finding { what: "set-up".to_owned(), good: set, detail, mend: (!set).then(|| "fcvm setup".to_owned()) }
}

/// What really stands between guest and host here.
fn isolation(settings: &fcvm_engine::Settings) -> Finding {
    let detail = match fcvm_vmm::Probe::of_host(&settings.search_path).acceleration {
        Acceleration::Hardware => "hardware virtualization by KVM".to_owned(),
        Acceleration::Paravirtual { reason } => {
            format!("software emulation: {reason}; an emulator is a weaker boundary than hardware")
        }
        Acceleration::Unavailable { reason } => {
            format!("software emulation: {reason}; an emulator is a weaker boundary than hardware")
        }
    };
    Finding { what: "isolation".to_owned(), good: true, detail, mend: None }
}

fn jail(settings: &fcvm_engine::Settings) -> Finding {
    let (good, detail) = match fcvm_sys::jail::probe(&settings.entrance()) {
        Ok(isolation) => (true, isolation.to_string()),
        Err(error) => (false, error.to_string()),
    };
    Finding { what: "monitor's jail".to_owned(), good, detail, mend: None }
}

fn left_overs(store: &Store, fix: bool) -> Result<Finding, Failure> {
    if fix {
        let swept = store.sweep()?;
        let name = |swept: &Swept| match swept {
            Swept::Removed(id) => format!("{id} removed"),
            Swept::Retired(id) => format!("{id} marked as ended"),
        };
        let names: Vec<String> = swept.iter().map(name).collect();
        let detail = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Ok(Finding { what: "left-overs".to_owned(), good: true, detail, mend: None });
    }
    let left = store.left_overs()?;
    let detail = if left == 0 { "none".to_owned() } else { format!("{left} VMs of killed owners") };
    Ok(Finding {
        what: "left-overs".to_owned(),
        good: left == 0,
        detail,
        mend: (left > 0).then(|| "fcvm doctor --fix".to_owned()),
    })
}
