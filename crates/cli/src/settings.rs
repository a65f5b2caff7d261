//! Environment and flags that say where things are, read once. What the settings file may say is in [`crate::config`].

use crate::config::Config;
use crate::error::Failure;
use fcvm_engine::{Engine, Settings};
use fcvm_store::Faults;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The first argument of the executable when it is started anew as the monitor's jail.
pub(crate) const JAIL_MARKER: &str = "__jail";

/// The same, as a page server in a jail.
pub(crate) const PAGER_MARKER: &str = "__pager";

/// How much disk the snapshots that make later runs quick may take, in bytes.
const CACHE_ROOM: u64 = 10 << 30;

/// The file name of the guest's agent.
const AGENT: &str = "fcvm-agent";

/// Opens the engine on a data directory.
pub(crate) fn engine(data_dir: &Path) -> Result<Engine, Failure> {
    Ok(Engine::open(settings(data_dir)?)?)
}

/// Reads the settings.
pub(crate) fn settings(data_dir: &Path) -> Result<Settings, Failure> {
    let executable = env::current_exe().map_err(|error| Failure::new(format!("find this program: {error}")))?;
    let search_path = search_path();
    Ok(Settings {
        data_dir: data_dir.to_owned(),
        agent: agent(&executable),
        jail: vec![JAIL_MARKER.into()],
        pager: vec![PAGER_MARKER.into()],
        registries: registries(&search_path),
        cache_room: CACHE_ROOM,
        faults: faults()?,
        firecracker: variable("FCVM_FIRECRACKER_BIN").map(PathBuf::from),
        search_path,
        executable,
    })
}

/// Reads the settings files: the one of `FCVM_CONFIG` alone, or the user's over the system's.
pub(crate) fn config() -> Result<Config, Failure> {
    if let Some(path) = variable("FCVM_CONFIG").map(PathBuf::from) {
        if !path.exists() {
            return Err(Failure::new(format!("FCVM_CONFIG names {}, which is not there", path.display())));
        }
        return Config::read(&[path]);
    }
    let own = config_home().map(|dir| dir.join("fcvm/config.toml"));
    let paths: Vec<PathBuf> = own.into_iter().chain(["/etc/fcvm/config.toml".into()]).collect();
    Config::read(&paths)
}

/// The data directory: of the flag, the environment, the settings file, or the usual one.
pub(crate) fn data_dir(flag: Option<PathBuf>, config: &Config) -> Result<PathBuf, Failure> {
    let named = flag.or_else(|| variable("FCVM_DATA_DIR").map(PathBuf::from)).or_else(|| config.data_dir.clone());
    let dir = named.map_or_else(default_data_dir, Ok)?;
    std::path::absolute(&dir)
        .map_err(|error| Failure::new(format!("find the data directory {}: {error}", dir.display())))
}

/// Whether the environment forbids snapshots that nobody asked for.
pub(crate) fn snapshots_are_off() -> bool {
    variable("FCVM_NO_SNAPSHOT").is_some()
}

/// Where a run is to fail, for tests: see CONTRIBUTING.md.
fn faults() -> Result<Faults, Failure> {
    let Some(text) = variable("FCVM_FAIL_POINT") else { return Ok(Faults::default()) };
    text.to_string_lossy().parse().map_err(|error| Failure::new(format!("read FCVM_FAIL_POINT: {error}")))
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn home() -> Option<PathBuf> {
    variable("HOME").map(PathBuf::from)
}

fn config_home() -> Option<PathBuf> {
    variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| home().map(|home| home.join(".config")))
}

fn default_data_dir() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/fcvm".into());
    }
    let data = variable("XDG_DATA_HOME").map(PathBuf::from).or_else(|| home().map(|home| home.join(".local/share")));
    let none = || Failure::new("there is no HOME to keep data in; name a directory with --data-dir or FCVM_DATA_DIR");
    data.map(|dir| dir.join("fcvm")).ok_or_else(none)
}

/// The agent: named by the environment, or beside this program, or where `make install` puts it. Most verbs do without.
fn agent(executable: &Path) -> PathBuf {
    if let Some(agent) = variable("FCVM_AGENT_BIN") {
        return agent.into();
    }
    let dir = executable.parent().unwrap_or(Path::new("/"));
    let [beside, installed] = [dir.join(AGENT), dir.join("../lib/fcvm").join(AGENT)];
    if !beside.is_file() && installed.is_file() { installed } else { beside }
}

/// Checks that there is an agent, for verbs that put it into a guest.
pub(crate) fn require_agent(settings: &Settings) -> Result<(), Failure> {
    if settings.agent.is_file() {
        return Ok(());
    }
    let place = settings.agent.display();
    Err(Failure::new(format!("the guest's agent {place} is not there; `make build` makes it, FCVM_AGENT_BIN names it")))
}

fn search_path() -> Vec<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    // Tools of administration are missing from many users' PATH.
    for dir in ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from) {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    dirs
}

fn registries(search_path: &[PathBuf]) -> fcvm_image::RegistrySettings {
    let containers = config_home().map(|config| config.join("containers"));
    let system = Path::new("/etc/containers");
    let below = |name: &str| containers.iter().map(|dir| dir.join(name)).collect::<Vec<_>>();
    let runtime = variable("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("containers/auth.json"));
    let docker = variable("DOCKER_CONFIG").map(PathBuf::from).or_else(|| home().map(|home| home.join(".docker")));
    let explicit = variable("REGISTRY_AUTH_FILE").map(PathBuf::from);
    let auth_files = explicit.into_iter().chain(runtime).chain(below("auth.json"));
    fcvm_image::RegistrySettings {
        registries_conf: below("registries.conf").into_iter().chain([system.join("registries.conf")]).collect(),
        registries_conf_dirs: [system.join("registries.conf.d")]
            .into_iter()
            .chain(below("registries.conf.d"))
            .collect(),
        ca_bundles: vec!["/etc/ssl/certs/ca-certificates.crt".into(), "/etc/pki/tls/certs/ca-bundle.crt".into()],
        auth_files: auth_files.chain(docker.map(|dir| dir.join("config.json"))).collect(),
        certs_dirs: below("certs.d")
            .into_iter()
            .chain([system.join("certs.d"), "/etc/docker/certs.d".into()])
            .collect(),
        search_path: search_path.to_vec(),
        proxy: ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"].iter().find_map(|name| variable(name)?.into_string().ok()),
    }
}
