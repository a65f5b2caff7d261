//! What ran in a container when it was captured: asked of the guest, kept beside the snapshot.

use crate::Error;
use crate::control::refused;
use fcvm_link::Session;
use fcvm_proto::census::Census;
use fcvm_proto::message::HostRequest;
use fcvm_store::snapshot::{SnapshotDir, name};
use std::io;

/// The most processes, and the most sockets, that a guest is heard out about.
const MOST: usize = 4096;

/// Asks a guest. One of before this could be asked refuses.
pub(super) async fn take(session: &Session) -> Result<Census, Error> {
    let (sender, mut receiver) = session.open(&HostRequest::Census).map_err(|_| Error::Lost)?.split();
    let mut whole = Census::default();
    while let Some(item) = receiver.recv().await.map_err(refused)? {
        let part: Census = item.message().map_err(|error| Error::Refused(format!("the guest's census: {error}")))?;
        whole.processes.extend(part.processes);
        whole.listeners.extend(part.listeners);
        if whole.processes.len() > MOST || whole.listeners.len() > MOST {
            return Err(Error::Refused(format!("more than {MOST} processes or sockets")));
        }
    }
    sender.finish();
    Ok(whole)
}

/// Reads that of a snapshot, which has none if its container did not run or its agent is too old.
pub(super) fn read(snapshot: &SnapshotDir) -> Result<Option<Census>, Error> {
    let failed = |source| Error::Snapshot { what: "read the census", source };
    match std::fs::read(snapshot.path(name::CENSUS)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}
