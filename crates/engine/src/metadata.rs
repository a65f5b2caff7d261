//! What a guest may know of itself: what its user said, which VM it is, and from which restore on.
//!
//! The record has what the user said, so a clone has what its source had; what tells the two apart is computed for each.

use crate::control::Command;
use crate::ops::{connect, done};
use crate::{Engine, Error};
use fcvm_net::metadata::Tree;
use fcvm_store::VmRecord;
use std::collections::BTreeMap;

/// Where all of it is, as in EC2.
const ABOVE: &str = "latest/meta-data";
/// Names the VM.
const INSTANCE: &str = "instance-id";
/// Names the restore that the guest came out of; empty in a guest that booted. A program that watches it sees that it is a
/// copy, or was rewound.
const EPOCH: &str = "restore-epoch";

/// As much as Firecracker takes, in bytes.
const MOST: usize = 51200;

impl Engine {
    /// Changes what a running VM may know of itself; other keys stay.
    pub async fn set_metadata(&self, vm: &str, values: BTreeMap<String, String>) -> Result<(), Error> {
        let dir = self.store().find_vm(vm)?;
        done(connect(&dir, vm).await?.ask(&Command::SetMetadata(values)).await)
    }

    /// Returns what a VM may know of itself, by key.
    pub fn metadata(&self, vm: &str) -> Result<BTreeMap<String, String>, Error> {
        Ok(all(&self.store().find_vm(vm)?.record()?))
    }
}

/// Checks what a user says.
pub(crate) fn check(values: &BTreeMap<String, String>) -> Result<(), Error> {
    if let Some(key) = values.keys().find(|key| [INSTANCE, EPOCH].contains(&key.as_str())) {
        return Err(Error::OwnMetadata { key: key.clone() });
    }
    let size: usize = values.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > MOST {
        return Err(Error::LongMetadata { size, most: MOST });
    }
    planted(values.iter().chain(&ours("", ""))).map(drop)
}

/// What the guest of this record is told.
pub(crate) fn tree(record: &VmRecord) -> Result<Tree, Error> {
    planted(&all(record))
}

fn all(record: &VmRecord) -> BTreeMap<String, String> {
    let receipt = record.restored.as_ref().and_then(|restored| restored.receipt.as_ref());
    let epoch = receipt.map(|receipt| receipt.epoch.clone()).unwrap_or_default();
    record.spec.metadata.clone().into_iter().chain(ours(&record.spec.id.to_string(), &epoch)).collect()
}

fn ours(instance: &str, epoch: &str) -> BTreeMap<String, String> {
    [(INSTANCE, instance), (EPOCH, epoch)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn planted<'a>(values: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<Tree, Error> {
    let mut tree = Tree::default();
    for (key, value) in values {
        tree.insert(&format!("{ABOVE}/{key}"), value)?;
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(values: &[(&str, &str)]) -> Result<(), String> {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        check(&values).map_err(|error| crate::error::in_full(&error))
    }

    #[test]
    fn what_a_user_says_is_refused_where_it_cannot_be() {
        assert_eq!(checked(&[("role", "web"), ("tags/a", "1"), ("tags/b", "")]), Ok(()));
        let long = "x".repeat(MOST);
        for (values, words) in [
            (&[("instance-id", "x")][..], "instance-id"),
            (&[("restore-epoch", "x")], "restore-epoch"),
            (&[("restore-epoch/x", "x")], "key"),
            (&[("a", "1"), ("a/b", "2")], "below"),
            (&[("../x y", "1")], "letters"),
            (&[("a", long.as_str())], "51200"),
        ] {
            let refused = checked(values).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
