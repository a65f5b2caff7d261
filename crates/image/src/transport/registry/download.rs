//! Fetching a blob into `partial/`, going on where an earlier try stopped. Only what has the right digest is handed on.

use super::client::{Client, Request};
use crate::manifest::Descriptor;
use crate::store::lock;
use crate::transport::Cancel;
use crate::{Digest, Error, Phase, Progress, Update};
use sha2::{Digest as _, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use ureq::http::StatusCode;

const BUFFER: usize = 128 << 10;
/// Tries in a row that bring no byte before a source is given up.
const FRUITLESS_MAX: u32 = 2;

/// A blob on its way.
pub(super) struct Download<'a> {
    blob: &'a Descriptor,
    path: PathBuf,
    file: File,
    /// Of the bytes that are in the file.
    hash: Sha256,
    done: u64,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
}

impl<'a> Download<'a> {
    /// Takes over what an earlier try left, and waits while another process fetches the same blob.
    pub(super) fn begin(
        blob: &'a Descriptor,
        dir: &Path,
        (progress, cancel): (&'a dyn Progress, &'a Cancel),
    ) -> Result<Self, Error> {
        let path = dir.join(blob.digest.hex());
        let file = loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(&path).map_err(Error::file("open", &path))?;
            file.lock().map_err(Error::file("lock", &path))?;
            if lock::is_at(&file, &path)? {
                break file;
            }
        };
        let mut this = Self { blob, path, file, hash: Sha256::new(), done: 0, progress, cancel };
        this.read_what_is_there()?;
        Ok(this)
    }

    /// Fetches what is missing from the first source that has it, and returns the file at its beginning, unlocked.
    pub(super) fn finish(mut self, sources: &[Client]) -> Result<File, Error> {
        let mut failure = None;
        if self.done == self.blob.size && self.is_right() {
            return self.hand_over();
        }
        for source in sources {
            match self.fetch(source) {
                Ok(()) if self.is_right() => return self.hand_over(),
                Ok(()) => failure = Some(self.wrong_digest()?),
                Err(
                    error @ (Error::Cancelled | Error::DiskFull { .. } | Error::ReadOnly { .. } | Error::File { .. }),
                ) => {
                    return Err(error);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| Error::malformed("a download", "it has no source")))
    }

    /// Fetches until all bytes are there. A connection that breaks is resumed as long as each brings something.
    fn fetch(&mut self, source: &Client) -> Result<(), Error> {
        let mut fruitless = 0;
        loop {
            let before = self.done;
            match self.one_request(source) {
                Ok(()) if self.done == self.blob.size => return Ok(()),
                Err(error) if !matches!(error, Error::Registry { .. }) => return Err(error),
                Err(error) if fruitless >= FRUITLESS_MAX => return Err(error),
                Ok(()) if fruitless >= FRUITLESS_MAX => return Err(self.cut_short()),
                _ => {}
            }
            fruitless = if self.done > before { 0 } else { fruitless + 1 };
        }
    }

    fn one_request(&mut self, source: &Client) -> Result<(), Error> {
        let path = format!("blobs/{}", self.blob.digest);
        if self.done == self.blob.size {
            // Complete and wrong: there is nothing to go on from.
            self.restart()?;
        }
        let operation = "fetch the layer";
        let request = Request { operation, path: &path, accept: None, offset: self.done };
        let response = source.get(&request)?;
        let resumed = response.status() == StatusCode::PARTIAL_CONTENT && starts_at(&response, self.done);
        if self.done > 0 && !resumed {
            self.restart()?;
        }
        if !matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) || (self.done == 0 && resumed) {
            return Ok(());
        }
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; BUFFER];
        loop {
            self.cancel.check()?;
            let count = body.read(&mut buffer).map_err(|error| Error::Registry {
                operation,
                url: format!("{}/{path}", source.shown()),
                reason: error.to_string(),
            })?;
            if count == 0 {
                return Ok(());
            }
            self.append(&buffer[..count])?;
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.done + bytes.len() as u64 > self.blob.size {
            let (expected, actual) = (format!("{} bytes", self.blob.size), "more".into());
            self.restart()?;
            return Err(Error::DigestMismatch { what: format!("layer {}", self.blob.digest), expected, actual });
        }
        self.file.write_all(bytes).map_err(Error::file("write", &self.path))?;
        self.hash.update(bytes);
        self.done += bytes.len() as u64;
        self.report();
        Ok(())
    }

    /// Hashes what is in the file; more than can be right is thrown away.
    fn read_what_is_there(&mut self) -> Result<(), Error> {
        let path = self.path.clone();
        let length = self.file.metadata().map_err(Error::file("read", &path))?.len();
        if length > self.blob.size {
            return self.restart();
        }
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = self.file.read(&mut buffer).map_err(Error::file("read", &path))?;
            if count == 0 {
                break;
            }
            self.hash.update(&buffer[..count]);
            self.done += count as u64;
        }
        self.report();
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Error> {
        self.file.set_len(0).map_err(Error::file("empty", &self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(Error::file("read", &self.path))?;
        self.hash = Sha256::new();
        self.done = 0;
        Ok(())
    }

    fn is_right(&self) -> bool {
        self.digest() == self.blob.digest
    }

    fn digest(&self) -> Digest {
        Digest::from_hash(self.hash.clone())
    }

    fn wrong_digest(&mut self) -> Result<Error, Error> {
        let actual = self.digest();
        self.restart()?;
        Ok(Error::mismatch(format!("layer {}", self.blob.digest), &self.blob.digest, &actual))
    }

    fn cut_short(&self) -> Error {
        let reason = format!("it ends after {} of {} bytes", self.done, self.blob.size);
        Error::Registry { operation: "fetch the layer", url: self.blob.digest.to_string(), reason }
    }

    fn report(&self) {
        let item = self.blob.digest.to_string();
        self.progress.update(&Update { phase: Phase::Download, item: &item, done: self.done, total: self.blob.size });
    }

    fn hand_over(mut self) -> Result<File, Error> {
        self.file.seek(SeekFrom::Start(0)).map_err(Error::file("read", &self.path))?;
        self.file.unlock().map_err(Error::file("unlock", &self.path))?;
        Ok(self.file)
    }
}

/// Whether a partial answer begins where it was asked to.
fn starts_at(response: &ureq::http::Response<ureq::Body>, offset: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|value| value.to_str().ok());
    range.and_then(|range| range.strip_prefix("bytes ")).is_some_and(|range| range.starts_with(&format!("{offset}-")))
}
