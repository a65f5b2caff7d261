//! The agent's lives: the first begins with the boot plan, each further one with a restore from a snapshot.
//!
//! ```text
//! greet ─► Boot(plan) ─► serve ─► parked ─► knocked ─► greet ─┬► Continue: serve on, the streams go on
//!                          ▲                                  └► Restored(delta): a new life; its streams are new
//!                          └──────────────────────────────────────── wake, report ──┘
//! ```

use crate::link::Link;
use crate::reaper::{self, Reaper};
use crate::serve::Guest;
use crate::world::{self, World};
use crate::{power, wake};
use anyhow::{Context, Result, bail};
use fcvm_link::{Ended, Resumable, Role};
use fcvm_proto::message::Verdict;
use fcvm_proto::restore::{Delta, RestoreReport};
use std::rc::Rc;
use tokio::task::LocalSet;

/// Serves the host until it says power off or is gone.
pub(crate) async fn live() -> Result<()> {
    let deaths = reaper::deaths().context("watch for the deaths of children")?;
    let mut link = Link::open()?;
    let plan = match link.greet(&[]).await? {
        Verdict::Boot(plan) => *plan,
        Verdict::Continue { .. } | Verdict::Restored(_) => bail!("the host takes a fresh guest for an old one"),
        Verdict::Refused { reason } => bail!("the host refuses this guest: {reason}"),
    };
    let World { way_out, disks } = world::build(&plan)?;
    let reaper = Reaper::default();
    let reaping = reaper.clone();
    let lives = async move {
        tokio::task::spawn_local(async move { reaping.run(deaths).await });
        let (session, mut incoming, mut resumable) = fcvm_link::resumable(Role::Guest);
        let button = power::button()?;
        let mut watching = tokio::task::spawn_local(power::watch(button.clone(), session.clone()));
        let way_out = way_out.map(|interface| interface.serve(session));
        let guest = Rc::new(Guest::new(plan.container, plan.disks.scratch, disks, reaper));
        loop {
            tokio::task::spawn_local(guest.clone().serve(incoming));
            let delta = one_life(&mut link, &mut resumable).await?;
            let (session, heard, renewed) = fcvm_link::resumable(Role::Guest);
            let report = wake::wake(&delta, &guest, way_out.as_ref(), &session).await;
            watching.abort();
            watching = tokio::task::spawn_local(power::watch(button.clone(), session.clone()));
            // The streams of the old life end here, and what hangs on them.
            (incoming, resumable) = (heard, renewed);
            link.report(&report).await?;
            if let RestoreReport::Failed { step, reason } = report {
                bail!("waking up failed at {step}: {reason}");
            }
        }
    };
    LocalSet::new().run_until(lives).await
}

/// Serves until this guest is told that it has become another.
async fn one_life(link: &mut Link, resumable: &mut Resumable) -> Result<Delta> {
    loop {
        match resumable.run(&mut link.reader, &mut link.writer).await {
            Ended::Parked => {}
            ended => bail!("the host is gone: {ended}"),
        }
        link.knocked().await?;
        match link.greet(&resumable.positions()).await? {
            Verdict::Continue { streams } => resumable.resume(&streams).context("go on after a pause")?,
            Verdict::Restored(delta) => return Ok(*delta),
            Verdict::Boot(_) => bail!("the host takes an old guest for a fresh one"),
            Verdict::Refused { reason } => bail!("the host refuses this guest: {reason}"),
        }
    }
}
