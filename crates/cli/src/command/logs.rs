//! `logs`: what a container wrote, byte for byte, and what it goes on to write.

use crate::args::LogsArgs;
use crate::error::Failure;
use crate::settings;
use fcvm_store::VmDir;
use fcvm_store::log::{Entry, Filter, LogReader, Source};
use jiff::Timestamp;
use std::io::{self, Write};
use std::path::Path;

pub(super) fn logs(args: &LogsArgs, data_dir: &Path) -> Result<(), Failure> {
    let vm = settings::engine(data_dir)?.store().find_vm(&args.name)?;
    let filter =
        Filter { since: time(args.since.as_deref())?, until: time(args.until.as_deref())?, tail: tail(&args.tail)? };
    let mut reader = LogReader::open(vm.path(), filter)?;
    let written = if args.follow { follow(&vm, &mut reader, args) } else { copy(&mut reader, args) };
    match written {
        Err(Ended::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Ended::Output(error)) => Err(error.into()),
        Err(Ended::Log(error)) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

enum Ended {
    Log(fcvm_store::Error),
    Output(io::Error),
}

impl From<fcvm_store::Error> for Ended {
    fn from(error: fcvm_store::Error) -> Self {
        Self::Log(error)
    }
}

fn copy(reader: &mut LogReader, args: &LogsArgs) -> Result<(), Ended> {
    while let Some(entry) = reader.read_entry()? {
        write(&entry, args).map_err(Ended::Output)?;
    }
    Ok(())
}

/// Copies until the VM has ended. Whether it lives is asked before reading, so that its last words are not missed.
fn follow(vm: &VmDir, reader: &mut LogReader, args: &LogsArgs) -> Result<(), Ended> {
    loop {
        let live = vm.is_owned();
        copy(reader, args)?;
        if !live {
            return Ok(());
        }
        reader.wait()?;
    }
}

fn write(entry: &Entry, args: &LogsArgs) -> io::Result<()> {
    let stamp = if args.timestamps { format!("{} ", entry.at) } else { String::new() };
    let bytes = [stamp.as_bytes(), &entry.bytes].concat();
    match entry.source {
        Source::Stdout => io::stdout().write_all(&bytes).and_then(|()| io::stdout().flush()),
        Source::Stderr => io::stderr().write_all(&bytes),
    }
}

fn tail(text: &str) -> Result<Option<usize>, Failure> {
    match text {
        "all" | "-1" => Ok(None),
        number => number
            .parse()
            .map(Some)
            .map_err(|_| Failure::new(format!("invalid --tail {text:?}: a number or all is expected"))),
    }
}

/// A time: RFC 3339, seconds since 1970, or a span before now such as `1h30m`.
fn time(text: Option<&str>) -> Result<Option<Timestamp>, Failure> {
    let Some(text) = text else { return Ok(None) };
    if let Ok(time) = text.parse() {
        return Ok(Some(time));
    }
    if let Ok(seconds) = text.parse::<i64>()
        && let Ok(time) = Timestamp::from_second(seconds)
    {
        return Ok(Some(time));
    }
    let span: Option<jiff::SignedDuration> = text.parse().ok();
    let time = span.and_then(|span| Timestamp::now().checked_sub(span).ok());
    time.map(Some).ok_or_else(|| {
        Failure::new(format!("invalid time {text:?}: 2026-11-23T12:00:00Z or a span such as 10m is expected"))
    })
}
