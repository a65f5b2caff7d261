//! `fcvm setup`: makes what is missing, step by step, under one lock.

use crate::tool::{self, Tools};
use crate::{Artifacts, Current, Error, Set, System, kernel, scratch, system};
use fcvm_store::file::{open_lock, write_atomic};
use std::fs;
use std::path::{Path, PathBuf};

/// How artifacts are made.
#[derive(Clone, Debug)]
pub struct SetupOptions {
    /// The agent.
    pub agent: PathBuf,
    /// Directories in which programs are looked for.
    pub search_path: Vec<PathBuf>,
    /// Guest systems that are wanted beside the plain one and those that there are.
    pub systems: Vec<System>,
}

/// Who is told how the set-up goes on.
pub trait Progress {
    /// A step begins, for example `download linux-image-6.1.0-56-cloud-amd64`.
    fn step(&self, what: &str);
}

impl Artifacts {
    /// Makes what is missing. What is there already is not made again: a second set-up takes milliseconds.
    pub fn setup(&self, options: &SetupOptions, progress: &dyn Progress) -> Result<Set, Error> {
        let path = self.root.join("lock");
        let lock = open_lock(&path)?;
        lock.lock().map_err(Error::file("lock", &path))?;
        let tools = Tools::new(&options.search_path);
        let kernel = self.ensure_kernel(&tools, progress)?;
        let system = self.ensure_system(&tools, System::Plain, progress)?;
        let podman = match self.read_current().ok().and_then(|current| current.podman) {
            None if !options.systems.contains(&System::Podman) => None,
            _ => Some(self.ensure_system(&tools, System::Podman, progress)?),
        };
        if !scratch::template(&self.root.join("scratch")).is_file() {
            progress.step("make an empty scratch disk");
        }
        scratch::ensure_template(&tools, &self.root.join("scratch"))?;
        let current = serde_json::to_vec(&Current { kernel, system, podman }).expect("names are text");
        write_atomic(&self.current_path(), &current, 0o644)?;
        self.current(&options.agent, System::Plain)
    }

    fn ensure_kernel(&self, tools: &Tools, progress: &dyn Progress) -> Result<String, Error> {
        let package = kernel::package(tools)?;
        let into = self.kernel_dir(&package);
        if !into.is_dir() {
            let work = self.work_dir()?;
            progress.step(&format!("download {package}"));
            let files = download(tools, std::slice::from_ref(&package), work.path())?;
            progress.step("unpack the kernel");
            let unpacked = work.path().join("unpacked");
            let mut command = tools.command("dpkg-deb", "dpkg")?;
            tool::run(command.arg("-x").args(&files).arg(&unpacked))?;
            let made = work.path().join("made");
            fs::create_dir(&made).map_err(Error::file("create directory", &made))?;
            kernel::make(&unpacked, &made)?;
            fs::rename(&made, &into).map_err(Error::file("rename", &made))?;
        }
        Ok(package)
    }

    fn ensure_system(&self, tools: &Tools, system: System, progress: &dyn Progress) -> Result<String, Error> {
        let packages = system::packages(tools, system)?;
        let key = system::key(system, &packages);
        let into = self.root.join("systems").join(&key);
        if !into.is_dir() {
            let work = self.work_dir()?;
            progress.step(&format!("download {} packages of the guest system", packages.len()));
            let files = download(tools, &packages, work.path())?;
            progress.step("write the guest system's disk");
            let made = work.path().join("made");
            fs::create_dir(&made).map_err(Error::file("create directory", &made))?;
            system::make(tools, system, &files, (&key, &made.join(system::FILE)))?;
            fs::rename(&made, &into).map_err(Error::file("rename", &made))?;
        }
        Ok(key)
    }

    /// A directory for what is not finished, on the same file system as what will be.
    fn work_dir(&self) -> Result<tempfile::TempDir, Error> {
        let dir = tempfile::Builder::new().prefix(".work-").tempdir_in(&self.root);
        dir.map_err(Error::file("create directory", &self.root))
    }
}

/// Downloads packages (`NAME` or `NAME=VERSION`) with the host's own package manager and returns their files.
fn download(tools: &Tools, packages: &[String], into: &Path) -> Result<Vec<PathBuf>, Error> {
    let into = into.join("packages");
    fs::create_dir_all(&into).map_err(Error::file("create directory", &into))?;
    let mut command = tools.command("apt-get", "apt")?;
    // Downloading as the sandbox user would need directories of that user's.
    tool::run(command.current_dir(&into).args(["-q", "-o", "APT::Sandbox::User=root", "download"]).args(packages))?;
    let entries = fs::read_dir(&into).map_err(Error::file("list", &into))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    Ok(files)
}
