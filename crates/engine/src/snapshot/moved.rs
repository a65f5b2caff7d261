//! Volumes of a snapshot whose trees lie elsewhere now: `--map-from OLD=NEW`.

use fcvm_spec::{Invalid, VolumeSource, VolumeSpec, VolumeView};
use std::path::Path;

/// A tree that a snapshot knew in one place and that lies in another: `--map-from OLD=NEW`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where it was: a directory, or the name of a volume.
    pub from: VolumeSource,
    /// Where it is.
    pub to: VolumeSource,
}

impl Moved {
    /// Changes the sources of the volumes that lie there. That none does is a mistake.
    pub(crate) fn apply(&self, volumes: &mut [VolumeSpec]) -> Result<(), Invalid> {
        let mut is_of_use = false;
        for volume in volumes {
            let Some(source) = self.place(&volume.source) else { continue };
            is_of_use = true;
            volume.source = source;
            // What lies there now is what its changes are told from.
            if let VolumeView::Fork { since_ns } = &mut volume.view {
                *since_ns = None;
            }
        }
        let none = || Invalid::new("--map-from", &self.from.to_string(), "the snapshot has no volume there");
        is_of_use.then_some(()).ok_or_else(none)
    }

    fn place(&self, source: &VolumeSource) -> Option<VolumeSource> {
        let (VolumeSource::Path(old), VolumeSource::Path(path)) = (&self.from, source) else {
            return (*source == self.from).then(|| self.to.clone());
        };
        let below = Path::new(path).strip_prefix(old).ok()?;
        match &self.to {
            VolumeSource::Path(_) if below.as_os_str().is_empty() => Some(self.to.clone()),
            VolumeSource::Path(new) => Some(VolumeSource::Path(Path::new(new).join(below).to_str()?.to_owned())),
            other => below.as_os_str().is_empty().then(|| other.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(from: &str, to: &str, volume: &str) -> Option<VolumeSource> {
        let source = |text: &str| VolumeSource::parse(text).unwrap();
        let mut volumes = vec![VolumeSpec::parse(volume).unwrap(), VolumeSpec::parse("/other:/o").unwrap()];
        let moved = Moved { from: source(from), to: source(to) }.apply(&mut volumes);
        assert_eq!(volumes[1], VolumeSpec::parse("/other:/o").unwrap());
        moved.ok().map(|()| volumes[0].source.clone())
    }

    #[test]
    fn a_tree_is_moved_with_all_volumes_in_it() {
        let path = |text: &str| Some(VolumeSource::parse(text).unwrap());
        assert_eq!(moved("/src", "/new", "/src:/x"), path("/new"));
        assert_eq!(moved("/src", "/new", "/src/a/b:/x:fork"), path("/new/a/b"));
        assert_eq!(moved("data", "copy", "data:/x"), path("copy"));
        assert_eq!(moved("data", "/new", "data:/x"), path("/new"));
        for (from, to, volume) in [("/sr", "/new", "/src:/x"), ("data", "x", "dat:/x"), ("/src", "x", "/src/a:/x")] {
            assert_eq!(moved(from, to, volume), None, "{from}");
        }
    }
}
