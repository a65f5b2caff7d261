//! Machines that boot, are saved, and map what was saved.

use crate::block_on;
use fcvm_e2e::native::{Guest, Native, Then, passes, save};
use fcvm_spec::PageSize;
use fcvm_vmm::{Error, Exit};

pub(crate) const TESTS: &[crate::Test] = &[
    ("a_machine_is_saved_and_goes_on_and_its_clones_too", clones),
    ("what_is_no_saved_state_is_refused_with_a_reason", damaged),
];

const GUEST: Guest =
    Guest { memory: 64, pages: PageSize::Base, reach: 64, step: 4096, writes: true, then: Then::Again };

fn clones(native: &Native) {
    block_on(async {
        let directories = [(); 4].map(|()| tempfile::tempdir().unwrap());
        let [first, second, third, fourth] = directories.each_ref().map(tempfile::TempDir::path);
        let saved = native.saved(&GUEST, first).await;
        let mut child = native.restore(&GUEST, (&saved, None), second).await.unwrap();
        passes(&child, 2).await;
        let of_child = save(&child, Some(&saved), second).await;
        let grandchild = native.restore(&GUEST, (&of_child, None), third).await.unwrap();
        let sibling = native.restore(&GUEST, (&saved, None), fourth).await.unwrap();
        passes(&grandchild, 2).await;
        passes(&sibling, 2).await;
        assert_eq!(child.kill().await, Exit::Killed);
    });
}

fn damaged(native: &Native) {
    block_on(async {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let saved = native.saved(&GUEST, first.path()).await;
        let devices = std::fs::read(&saved.devices).unwrap();
        std::fs::write(&saved.devices, &devices[..devices.len() / 2]).unwrap();
        let refused = native.restore(&GUEST, (&saved, None), second.path()).await.unwrap_err();
        assert!(matches!(refused, Error::Steer { what: "load", .. }), "{refused:?}");
    });
}
