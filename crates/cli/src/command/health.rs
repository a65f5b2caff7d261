//! `healthcheck` and `prepare`.

use super::block_on;
use super::run::{Observer, fetch_image};
use crate::args::{PrepareArgs, RunPlan};
use crate::config::Config;
use crate::error::Failure;
use crate::stdio;
use crate::ui::progress::Display;
use crate::{settings, ui};
use fcvm_engine::Engine;
use fcvm_engine::snapshot::{Found, Preparation};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// Asks once whether a container is well: 0, or 1 if it is not.
pub(super) fn check(vm: &str, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    match block_on(engine.check_health(vm))?? {
        Some(check) if check.exit_code == 0 => Ok(ExitCode::SUCCESS),
        // As podman: one word for people who look.
        Some(_) => {
            ui::say("unhealthy");
            Ok(ExitCode::FAILURE)
        }
        None => Err(Failure::new(format!("{vm} has no health check: start it with --health-cmd or --health-url"))),
    }
}

/// Makes sure that there is a snapshot of an image's container once it is well.
pub(super) fn prepare(args: PrepareArgs, config: &Config, data_dir: &Path) -> Result<ExitCode, Failure> {
    let how = Preparation { tag: args.tag.as_ref().map(|tag| tag.parse()).transpose()?, force: args.force };
    let mut plan = args.run.plan(config)?;
    let settings = settings::settings(data_dir)?;
    settings::require_agent(&settings)?;
    let engine = Engine::open(settings)?;
    fetch_image(&engine, &mut plan)?;
    let RunPlan { request, show, seat, .. } = plan;
    let observer = Observer { display: Display::new(show), cidfile: None };
    let prepared = block_on(async {
        let (mut attachment, _writer) = stdio::attach(&seat)?;
        // What the container says while it starts is nobody's.
        attachment.output = None;
        Ok::<_, Failure>(engine.prepare_snapshot(request, &how, attachment, &observer).await?)
    })??;
    let line = json!({
        "status": "prepared",
        "cache": match prepared.found {
            Found::Before => "hit",
            Found::Now => "created",
        },
        "snapshot_key": prepared.key,
        "content_key": prepared.launch_key,
        "snapshot_type": if how.tag.is_some() { "user" } else { "system" },
        "generation_id": prepared.id,
        "config_digest": prepared.image,
        "tag": how.tag,
    });
    ui::say(&line.to_string());
    Ok(ExitCode::SUCCESS)
}
