//! The file server's process, from the first order on.

use crate::calls;
use crate::channel::Channel;
use crate::control::{Answer, Events, Order, Served, hear, tell};
use crate::events::Watcher;
use rustix::process::{Resource, getrlimit};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;

/// Descriptors that are not for the guest's files.
const OURS: u64 = 256;
/// What is there where nothing is limited.
const MOST: u64 = 1 << 20;

/// Serves files until the owner is gone. The first descriptor is the control socket, the others are the channels of the
/// volumes, in their order.
///
/// What the owner may not see of a defect is written to standard error.
pub fn serve(descriptors: Vec<OwnedFd>) -> ExitCode {
    // A thread that panicked may have left anything half done.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("volume: {panic}");
        std::process::exit(1);
    }));
    match answer_owner(descriptors) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("volume: {error}");
            ExitCode::FAILURE
        }
    }
}

fn answer_owner(descriptors: Vec<OwnedFd>) -> io::Result<()> {
    let mut descriptors = descriptors.into_iter();
    let control = UnixStream::from(descriptors.next().ok_or(io::ErrorKind::InvalidInput)?);
    let mut channels = Vec::new();
    while let Some(order) = hear(&control)? {
        let answer = match order {
            Order::Serve(volumes) => {
                let watcher = watcher(&volumes);
                match open(&volumes, &mut descriptors, watcher.as_ref()) {
                    Ok(opened) => {
                        channels = opened;
                        calls::allow_no_others()?;
                        channels.iter().cloned().try_for_each(Channel::start)?;
                        watcher.map_or(Ok(()), Watcher::start)?;
                        Answer::Serving
                    }
                    Err(reason) => Answer::Failed(reason),
                }
            }
            Order::Save => {
                let states = channels.iter().map(|channel| channel.save()).collect::<io::Result<Vec<_>>>();
                states.map_or_else(|error| Answer::Failed(error.to_string()), Answer::Saved)
            }
        };
        tell(&control, &answer)?;
    }
    Ok(())
}

fn open(
    volumes: &[Served],
    sockets: &mut impl Iterator<Item = OwnedFd>,
    watcher: Option<&Arc<Watcher>>,
) -> Result<Vec<Arc<Channel>>, String> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(MOST);
    let each = limit.saturating_sub(OURS) / (volumes.len().max(1) as u64);
    let mut channels = Vec::new();
    for (number, (served, socket)) in volumes.iter().zip(sockets).enumerate() {
        let watcher = watcher.filter(|_| served.events == Events::Told);
        let channel =
            Channel::open(served, socket, each, watcher).map_err(|error| format!("volume {number}: {error}"))?;
        channels.push(Arc::new(channel));
    }
    Ok(channels)
}

/// Who watches the volumes whose guest is told what changes. Where nobody can, there are the volumes all the same.
fn watcher(volumes: &[Served]) -> Option<Arc<Watcher>> {
    volumes.iter().find(|served| served.events == Events::Told)?;
    let watcher = Watcher::new();
    if let Err(error) = &watcher {
        eprintln!("volume: changes of the host raise no events in the guest: {error} (fs.inotify.max_user_instances)");
    }
    watcher.ok()
}
