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
    let engine = settings::engine(data_dir)?;
    let filter = Filter {
        since: args.since.as_deref().map(moment).transpose()?,
        until: args.until.as_deref().map(moment).transpose()?,
        tail: tail(&args.tail)?,
    };
    let mut read = Vec::new();
    for name in &args.names {
        let vm = engine.store().find_vm(name)?;
        // As podman tells several apart: by id, or by name if that is asked for.
        let prefix = match (args.names.len(), args.with_names) {
            (1, _) => String::new(),
            (_, true) => format!("{} ", vm.record()?.spec.name),
            (_, false) => format!("{} ", vm.id().short()),
        };
        let reader = LogReader::open(vm.path(), filter)?;
        read.push(Read { vm, reader, style: Style { prefix, timestamps: args.timestamps } });
    }
    let written = match args.follow {
        true => follow(read),
        false => read.iter_mut().try_for_each(Read::copy),
    };
    match written {
        Err(Ended::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Ended::Output(error)) => Err(error.into()),
        Err(Ended::Log(error)) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

/// A log that is being read.
struct Read {
    vm: VmDir,
    reader: LogReader,
    style: Style,
}

/// What stands before a line.
struct Style {
    prefix: String,
    timestamps: bool,
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

impl Read {
    fn copy(&mut self) -> Result<(), Ended> {
        while let Some(entry) = self.reader.read_entry()? {
            write(&entry, &self.style).map_err(Ended::Output)?;
        }
        Ok(())
    }
}

/// Copies until every VM has ended. Whether one lives is asked before reading, so that its last words are not missed.
fn follow(mut read: Vec<Read>) -> Result<(), Ended> {
    loop {
        let mut live = Vec::new();
        for mut one in read {
            let is_live = one.vm.is_owned();
            one.copy()?;
            live.extend(is_live.then_some(one));
        }
        if live.is_empty() {
            return Ok(());
        }
        LogReader::wait_for_any(live.iter().map(|one| &one.reader))?;
        read = live;
    }
}

fn write(entry: &Entry, style: &Style) -> io::Result<()> {
    let stamp = if style.timestamps { format!("{} ", entry.at) } else { String::new() };
    let bytes = [style.prefix.as_bytes(), stamp.as_bytes(), &entry.bytes].concat();
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
pub(super) fn moment(text: &str) -> Result<Timestamp, Failure> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    if let Ok(seconds) = text.parse::<i64>()
        && let Ok(time) = Timestamp::from_second(seconds)
    {
        return Ok(time);
    }
    let span: Option<jiff::SignedDuration> = text.parse().ok();
    let time = span.and_then(|span| Timestamp::now().checked_sub(span).ok());
    time.ok_or_else(|| {
        Failure::new(format!("invalid time {text:?}: 2026-11-23T12:00:00Z or a span such as 10m is expected"))
    })
}
