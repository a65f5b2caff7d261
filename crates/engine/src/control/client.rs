//! The other processes' end of `control.sock`.

use super::{Command, socket};
use crate::Error;
use fcvm_link::{Role, Session, Stream, StreamError};
use fcvm_store::VmDir;
use serde::de::DeserializeOwned;
use std::io;
use tokio::task::JoinHandle;

/// A connection to a VM's owner. Dropping it ends what was asked over it.
#[derive(Debug)]
pub(crate) struct Client {
    session: Session,
    driver: JoinHandle<()>,
}

impl Client {
    /// Connects to the owner; none if the VM has none (any more).
    pub(crate) async fn connect(vm: &VmDir) -> io::Result<Option<Self>> {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound};
        let connection = match socket::connect(vm.path()).await {
            Ok(connection) => connection,
            // The last one: it stopped listening while we were knocking.
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (reader, writer) = connection.into_split();
        let (session, _incoming, driver) = fcvm_link::start(reader, writer, Role::Host);
        let driver = tokio::spawn(async move {
            driver.run().await;
        });
        Ok(Some(Self { session, driver }))
    }

    /// Opens a stream with this command.
    pub(crate) fn open(&self, command: &Command) -> Result<Stream, Error> {
        self.session.open(command).map_err(|error| Error::Refused(error.to_string()))
    }

    /// Asks for something that is answered with one message.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, command: &Command) -> Result<T, Error> {
        let (sender, mut receiver) = self.open(command)?.split();
        let item = receiver.recv().await.map_err(refused)?.ok_or(Error::Lost)?;
        sender.finish();
        item.message().map_err(|error| Error::Refused(format!("the VM's owner answered nonsense: {error}")))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Turns the end of a stream into what the user is told.
pub(crate) fn refused(error: StreamError) -> Error {
    match error {
        StreamError::Reset(reason) => Error::Refused(reason),
        _ => Error::Lost,
    }
}
