//! Where the host counts and limits the processes of a VM.

use crate::Invalid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The cgroup of a VM's processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupSpec {
    /// The cgroup in which it is made, below the root of each hierarchy.
    pub parent: String,
    /// What is written into which of its files.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

impl CgroupSpec {
    /// The parent where none is named.
    pub const DEFAULT_PARENT: &str = "/fcvm";

    /// Reads what was asked; none if nothing was.
    pub fn parse(parent: Option<&str>, settings: &[String]) -> Result<Option<Self>, Invalid> {
        if parent.is_none() && settings.is_empty() {
            return Ok(None);
        }
        let setting = |text: &String| {
            let (file, value) = text.split_once('=').filter(|(file, _)| file.contains('.')).ok_or_else(|| {
                Invalid::new("cgroup setting", text, "FILE=VALUE is expected, for example memory.high=1073741824")
            })?;
            Ok((file.to_owned(), value.to_owned()))
        };
        let parent = parent.unwrap_or(Self::DEFAULT_PARENT).to_owned();
        Ok(Some(Self { parent, settings: settings.iter().map(setting).collect::<Result<_, Invalid>>()? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_what_was_asked_for_and_none_if_nothing_was() {
        assert_eq!(CgroupSpec::parse(None, &[]), Ok(None));
        let named = CgroupSpec::parse(Some("/ci"), &[]).unwrap().unwrap();
        assert_eq!((named.parent.as_str(), named.settings.len()), ("/ci", 0));
        let set = CgroupSpec::parse(None, &["io.max=8:0 rbps=1000".to_owned()]).unwrap().unwrap();
        assert_eq!((set.parent.as_str(), set.settings["io.max"].as_str()), ("/fcvm", "8:0 rbps=1000"));
        for wrong in ["", "memory.max", "max=1", "=1"] {
            assert!(CgroupSpec::parse(None, &[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
