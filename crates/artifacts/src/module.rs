//! Kernel modules: what each needs, read from its own `.modinfo`, and the order in which they load.
//!
//! The packages hold no `modules.dep`; `depmod` would make one, but needs the whole tree and a tool.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Modules without which the agent can neither greet nor mount.
pub(crate) const BOOT: &[&str] = &["virtio_mmio", "virtio_console", "virtio_blk", "erofs", "overlay"];
/// Modules that a plan may ask for.
pub(crate) const LATER: &[&str] = &["tun", "virtio_rng", "fuse", "virtio_balloon", "vmw_vsock_virtio_transport"];

/// The modules of a kernel by name, with underscores.
#[derive(Debug)]
pub(crate) struct Modules {
    files: BTreeMap<String, PathBuf>,
    builtin: HashSet<String>,
}

impl Modules {
    /// Lists the modules below `lib/modules/RELEASE`.
    pub(crate) fn scan(dir: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        let mut dirs = vec![dir.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir)? {
                let entry = entry?;
                let path = entry.path();
                if entry.file_type()?.is_dir() {
                    dirs.push(path);
                } else if path.extension().is_some_and(|extension| extension == "ko") {
                    files.insert(name(&path), path);
                }
            }
        }
        let builtin = fs::read_to_string(dir.join("modules.builtin")).unwrap_or_default();
        Ok(Self { files, builtin: builtin.lines().map(|line| name(Path::new(line))).collect() })
    }

    /// Returns the wanted modules and all they need, each after what it needs and none of `loaded`.
    pub(crate) fn order(&self, wanted: &[&str], loaded: &[String]) -> Result<Vec<String>, String> {
        let mut order = Vec::new();
        let mut seen: HashSet<String> = loaded.iter().cloned().collect();
        for name in wanted {
            self.visit(name, &mut seen, &mut order)?;
        }
        Ok(order)
    }

    /// The file of a module.
    pub(crate) fn file(&self, name: &str) -> Option<&Path> {
        self.files.get(name).map(PathBuf::as_path)
    }

    fn visit(&self, name: &str, seen: &mut HashSet<String>, order: &mut Vec<String>) -> Result<(), String> {
        if self.builtin.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let path = self.files.get(name).ok_or_else(|| name.to_owned())?;
        let bytes = fs::read(path).map_err(|_| name.to_owned())?;
        for needed in needs(&bytes) {
            self.visit(&needed, seen, order)?;
        }
        order.push(name.to_owned());
        Ok(())
    }
}

/// A module's name by its file: dashes and underscores are the same.
fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().replace('-', "_")
}

/// The modules that a module needs: `depends=` and the soft dependencies that must come before, from its `.modinfo`.
fn needs(module: &[u8]) -> Vec<String> {
    let value = |key: &str| {
        let strings = module.split(|byte| *byte == 0);
        let found = strings.filter_map(|text| std::str::from_utf8(text).ok()?.strip_prefix(key));
        found.map(str::to_owned).collect::<Vec<_>>()
    };
    let hard = value("depends=").into_iter().flat_map(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>());
    hard.filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(list: &[(&str, &str)]) -> (tempfile::TempDir, Modules) {
        let dir = tempfile::tempdir().unwrap();
        for (name, depends) in list {
            let bytes = format!("\x7fELF\0license=GPL\0depends={depends}\0name={name}\0");
            fs::write(dir.path().join(format!("{name}.ko")), bytes).unwrap();
        }
        fs::write(dir.path().join("modules.builtin"), "kernel/crypto/crc32c_generic.ko\n").unwrap();
        let modules = Modules::scan(dir.path()).unwrap();
        (dir, modules)
    }

    #[test]
    fn a_module_comes_after_what_it_needs() {
        let (_dir, modules) = modules(&[("c", ""), ("b-x", "c"), ("a", "b-x,c"), ("d", "crc32c-generic")]);
        assert_eq!(modules.order(&["a", "d"], &[]).unwrap(), ["c", "b_x", "a", "d"]);
        assert_eq!(modules.order(&["a"], &["b_x".to_owned(), "c".to_owned()]).unwrap(), ["a"]);
    }

    #[test]
    fn a_module_that_is_not_there_is_named() {
        let (_dir, modules) = modules(&[("a", "gone")]);
        assert_eq!(modules.order(&["a"], &[]), Err("gone".to_owned()));
    }

    #[test]
    fn modules_that_need_each_other_end() {
        let (_dir, modules) = modules(&[("a", "b"), ("b", "a")]);
        assert_eq!(modules.order(&["a"], &[]).unwrap(), ["b", "a"]);
    }
}
