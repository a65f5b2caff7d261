//! The container: started once by crun from the host's configuration, and afterwards the agent's own child.

use crate::command::{self, Input, Program};
use crate::exec::Refusal;
use crate::helper::Helpers;
use crate::join::find_program_in;
use crate::podman;
use crate::pump::{Process, Pump, Streams};
use crate::reaper::Reaper;
use crate::{cgroup, disk, init, place, terminal, user, volume, world};
use anyhow::{Context, Result};
use fcvm_proto::message::Exit;
use fcvm_proto::plan;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A running container, as later commands need to know it.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    /// Its first process.
    pub(crate) pid: i32,
    pub(crate) env: Vec<String>,
    /// Those variables of it that came with restores.
    given: Vec<String>,
    pub(crate) workdir: String,
    pub(crate) user: String,
    /// The numbers of that user.
    pub(crate) owner: (u32, u32),
    hostname: String,
    /// Names with their `CAP_` prefix.
    pub(crate) capabilities: Vec<String>,
    pub(crate) no_new_privileges: bool,
}

const NAME: &str = "container";
const CRUN: &str = "/usr/bin/crun";
const LOG: &str = "/run/fcvm/crun.log";
const PID_FILE: &str = "/run/fcvm/pid";
const CONSOLE: &str = "/run/fcvm/console.sock";

/// Starts the container of a plan; returns it, and the process that has its streams and ends as it ends.
pub(crate) async fn start(
    plan: &plan::Container,
    helpers: &Helpers,
    reaper: &Reaper,
) -> Result<(Container, Process), Refusal> {
    let failed = |error: anyhow::Error| Refusal::new(125, format!("{error:#}"));
    let root = Path::new(world::DIR).join("rootfs");
    let mut oci = plan.oci.clone();
    let (env, owner) = complete(&mut oci, &plan.user, &root)?;
    let name = oci["process"]["args"][0].as_str().unwrap_or_default();
    let found = find_program_in(&root, name, &env).map_err(|failure| Refusal::new(failure.code, failure.reason));
    // It may be in a volume or on a disk, where crun looks too.
    if !has_volumes(&oci) {
        found.as_ref().map_err(Clone::clone)?;
    }
    place::prepare(plan.places.clone(), owner).await.map_err(failed)?;
    if plan.init {
        init::precede(&mut oci).map_err(failed)?;
    }
    let input = if plan.interactive { Input::Carried } else { Input::Null };
    let started = match plan.engine {
        plan::Engine::Crun if oci["process"]["terminal"] == true => by_crun(&oci, Wanted::Terminal, reaper).await,
        plan::Engine::Crun => by_crun(&oci, Wanted::Pipes(input), reaper).await,
        plan::Engine::Podman => podman::start((&oci, plan.health.as_ref()), input, helpers, reaper).await,
    };
    let (pid, process) = started.map_err(|refusal| found.err().unwrap_or(refusal))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let container = Container {
        pid,
        env,
        given: Vec::new(),
        workdir: text(&oci["process"]["cwd"]),
        user: plan.user.clone(),
        owner,
        hostname: text(&oci["hostname"]),
        capabilities: texts(&oci["process"]["capabilities"]["bounding"]),
        no_new_privileges: oci["process"]["noNewPrivileges"].as_bool().unwrap_or(false),
    };
    Ok((container, process))
}

/// Starts it by crun: its first process is then the agent's own child.
async fn by_crun(oci: &Value, wanted: Wanted, reaper: &Reaper) -> Result<(i32, Process), Refusal> {
    let failed = |error: anyhow::Error| Refusal::new(125, format!("{error:#}"));
    let bundle = Path::new(world::DIR).join("bundle");
    fs::write(bundle.join("config.json"), oci.to_string()).context("write the bundle").map_err(failed)?;
    let streams = create(&bundle, wanted, reaper).await?;
    let pid = fs::read_to_string(PID_FILE).context("read the container's number").map_err(failed)?;
    let pid = pid.trim().parse().context("read the container's number").map_err(failed)?;
    let pump = Pump::start().context("start to carry its streams").map_err(failed)?;
    Ok((pid, pump.take(pid, streams, reaper).first_of(cgroup::CONTAINER.into())))
}

/// What the container is to have for streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Pipes(Input),
    Terminal,
}

/// Has crun start the container; returns our ends of its streams.
async fn create(bundle: &Path, wanted: Wanted, reaper: &Reaper) -> Result<Streams, Refusal> {
    let failed = |error: anyhow::Error| Refusal::new(125, format!("{error:#}"));
    let mut command = crun();
    let (input, console) = match wanted {
        Wanted::Pipes(input) => (input, None),
        Wanted::Terminal => {
            let _from_an_attempt_before = fs::remove_file(CONSOLE);
            let console = UnixListener::bind(CONSOLE).context("make the console's socket").map_err(failed)?;
            command.arg("--console-socket").arg(CONSOLE);
            (Input::Null, Some(console))
        }
    };
    command.arg("--bundle").arg(bundle).arg(NAME);
    let (crun, streams) = command::start(Program::new(command), input).await.context("start crun").map_err(failed)?;
    match reaper.ended(crun).await {
        Ok(Exit::Code(0)) => {}
        _ => return Err(Refusal::new(125, complaint())),
    }
    let Some(console) = console else { return Ok(streams) };
    // crun has ended, so what it sent is there.
    terminal::receive(&console).map(Streams::Terminal).context("take the container's terminal").map_err(failed)
}

fn crun() -> Command {
    let mut command = Command::new(CRUN);
    command.args([
        "--cgroup-manager=cgroupfs",
        "--log-format=text",
        "--log",
        LOG,
        "run",
        "--detach",
        "--pid-file",
        PID_FILE,
    ]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command
}

/// Fills in what only the image knows: the user's numbers and home. Returns the numbers, and the environment without the
/// home: a later command may be another user's.
fn complete(oci: &mut Value, user: &str, root: &Path) -> Result<(Vec<String>, (u32, u32)), Refusal> {
    let identity = user::resolve(root, user).map_err(|unknown| Refusal::new(126, unknown.to_string()))?;
    let env = texts(&oci["process"]["env"]);
    if !env.iter().any(|variable| variable.starts_with("HOME="))
        && let Value::Array(told) = &mut oci["process"]["env"]
    {
        told.push(json!(format!("HOME={}", identity.home)));
    }
    oci["process"]["user"] = json!({ "uid": identity.uid, "gid": identity.gid, "additionalGids": identity.groups });
    Ok((env, (identity.uid, identity.gid)))
}

fn has_volumes(oci: &Value) -> bool {
    let sources = oci["mounts"].as_array().into_iter().flatten().filter_map(|mount| mount["source"].as_str());
    sources.into_iter().any(|source| [volume::DIR, place::VIEWS, disk::DIR].iter().any(|dir| source.starts_with(dir)))
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// What crun said last.
fn complaint() -> String {
    let log = fs::read_to_string(LOG).unwrap_or_default();
    log.lines().last().map_or_else(|| "crun failed without a word".to_owned(), |line| format!("crun: {line}"))
}

/// Sets a variable, `NAME=VALUE`.
fn put(env: &mut Vec<String>, variable: &str) {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    env.retain(|known| name(known) != name(variable));
    env.push(variable.to_owned());
}

impl Container {
    /// Gives variables to later commands, over those that they had, and to the container in a file.
    pub(crate) fn give(&mut self, env: &[String]) -> Result<()> {
        if env.is_empty() {
            return Ok(());
        }
        for variable in env {
            put(&mut self.env, variable);
            put(&mut self.given, variable);
        }
        let dir = Path::new(world::DIR).join("given");
        let text: String = self.given.iter().map(|variable| format!("{variable}\n")).collect();
        // A file of its own each time: who reads the old one reads all of it. Its owner alone may read it.
        let (new, path) = (dir.join("env.new"), dir.join("env"));
        let _ = fs::remove_file(&new);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&new)?;
        file.write_all(text.as_bytes())?;
        let (uid, gid) = self.owner;
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        Ok(fs::rename(new, path)?)
    }

    /// Sets the host name that the container's processes see, and the variable of it that later commands get.
    pub(crate) fn rename(&mut self, hostname: &str) -> Result<()> {
        let variable = |name: &str| format!("HOSTNAME={name}");
        if self.env.contains(&variable(&self.hostname)) {
            put(&mut self.env, &variable(hostname));
        }
        hostname.clone_into(&mut self.hostname);
        let namespace = fs::File::open(format!("/proc/{}/ns/uts", self.pid)).context("open its namespace")?;
        let hostname = hostname.to_owned();
        // A namespace is a thread's: this one enters and ends.
        let renaming = std::thread::spawn(move || {
            let kind = rustix::thread::LinkNameSpaceType::HostNameAndNISDomainName;
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind))?;
            rustix::system::sethostname(hostname.as_bytes())
        });
        Ok(renaming.join().map_err(|_| anyhow::anyhow!("the thread died"))??)
    }

    /// Sends a signal to the first process, or to every process.
    pub(crate) fn signal(&self, number: i32, all: bool) {
        let everyone = || cgroup::of(self.pid).map(|dir: PathBuf| cgroup::processes(&dir)).unwrap_or_default();
        let targets = if all { everyone() } else { vec![self.pid] };
        for pid in targets {
            crate::pump::signal(pid, number);
        }
    }
}
