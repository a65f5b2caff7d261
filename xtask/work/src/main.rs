//! The work of `cargo xtask bench volume`: one operation on the files of a directory, the same program on the host and in
//! every guest. It prints the nanoseconds that each took on average, by the monotonic clock. Which operations are compared,
//! and where, is in `xtask/src/bench/volume`.
//!
//! ```text
//! volume-work DIRECTORY CACHES OPERATION [COUNT]
//! volume-work DIRECTORY CACHES unpack ARCHIVE BELOW
//! volume-work DIRECTORY CACHES run BELOW PROGRAM ARGUMENT…
//! ```

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const USAGE: &str = "usage: volume-work DIRECTORY as-is|cold|warm|later OPERATION ARGUMENT…";

/// How often what is warm is measured: once is over too soon.
const PASSES: usize = 10;
/// Longer than a volume's attributes are believed.
const LATER: Duration = Duration::from_millis(1100);

const BUSYBOX: &str = "/bin/busybox";
const PIECE: usize = 1 << 20;
const BLOCK: usize = 4096;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [dir, caches, operation @ ..] = words.as_slice() else { return Err(io::Error::other(USAGE)) };
    let dir = Path::new(dir);
    let count = |text: &str| text.parse::<usize>().map_err(|_| io::Error::other(USAGE));
    let each = match operation {
        ["fill", number] => once(|| fill(dir, count(number)?))?,
        ["create", number] => measure(caches, || create(dir, count(number)?))?,
        ["stat", number] => measure(caches, || stat(dir, count(number)?))?,
        ["list"] => measure(caches, || list(dir))?,
        ["small", number] => measure(caches, || small(dir, count(number)?))?,
        ["write", mib] => {
            gone(fs::remove_file(dir.join("big")))?;
            measure(caches, || write(dir, count(mib)?))?
        }
        ["read"] => measure(caches, || read(dir))?,
        ["random-read", number] => measure(caches, || random_read(dir, count(number)?))?,
        ["random-write", number] => measure(caches, || random_write(dir, count(number)?, Then::Nothing))?,
        ["random-sync", number] => measure(caches, || random_write(dir, count(number)?, Then::Sync))?,
        ["unpack", archive, into] => {
            let into = dir.join(into);
            gone(fs::remove_dir_all(&into))?;
            fs::create_dir(&into)?;
            measure(caches, || run(&into, BUSYBOX, &["tar", "-xf", archive]))?
        }
        ["run", below, program, arguments @ ..] => measure(caches, || run(&dir.join(below), program, arguments))?,
        _ => return Err(io::Error::other(USAGE)),
    };
    println!("{each}");
    Ok(())
}

/// Runs it as the caches are to be; returns the nanoseconds of each of what it did.
fn measure(caches: &str, mut work: impl FnMut() -> io::Result<usize>) -> io::Result<u128> {
    match caches {
        "as-is" => once(work),
        "cold" => {
            // What is dirty would stay.
            run(Path::new("/"), BUSYBOX, &["sync"])?;
            fs::write("/proc/sys/vm/drop_caches", "3")?;
            once(work)
        }
        "warm" => {
            work()?;
            once(|| (0..PASSES).map(|_| work()).sum())
        }
        "later" => {
            work()?;
            std::thread::sleep(LATER);
            once(work)
        }
        _ => Err(io::Error::other(USAGE)),
    }
}

fn once(mut work: impl FnMut() -> io::Result<usize>) -> io::Result<u128> {
    let started = Instant::now();
    let done = work()?;
    Ok(started.elapsed().as_nanos() / done.max(1) as u128)
}

fn many(dir: &Path, number: usize) -> PathBuf {
    dir.join("many").join(format!("file-{number:05}"))
}

/// Makes the files that others look at, a page each.
fn fill(dir: &Path, count: usize) -> io::Result<usize> {
    fs::create_dir_all(dir.join("many"))?;
    let page = noise(BLOCK);
    (0..count).try_for_each(|number| fs::write(many(dir, number), &page))?;
    Ok(count)
}

/// Creates empty files in one directory and unlinks them; the two are one.
fn create(dir: &Path, count: usize) -> io::Result<usize> {
    let new = dir.join("new");
    fs::create_dir_all(&new)?;
    let names: Vec<PathBuf> = (0..count).map(|number| new.join(format!("new-{number:05}"))).collect();
    names.iter().try_for_each(|name| File::create_new(name).map(drop))?;
    names.iter().try_for_each(fs::remove_file)?;
    Ok(count)
}

fn stat(dir: &Path, count: usize) -> io::Result<usize> {
    for number in 0..count {
        black_box(fs::symlink_metadata(many(dir, number))?);
    }
    Ok(count)
}

fn list(dir: &Path) -> io::Result<usize> {
    let mut names = 0;
    for entry in fs::read_dir(dir.join("many"))? {
        black_box(entry?);
        names += 1;
    }
    Ok(names)
}

/// Opens, reads and closes.
fn small(dir: &Path, count: usize) -> io::Result<usize> {
    let mut page = vec![0; BLOCK];
    for number in 0..count {
        File::open(many(dir, number))?.read_exact(&mut page)?;
    }
    Ok(count)
}

/// Writes one file in pieces of a MiB, and waits until it is safe.
fn write(dir: &Path, mib: usize) -> io::Result<usize> {
    // Not zeroes, which a disk may keep as nothing.
    let piece = noise(PIECE);
    let mut file = File::create(dir.join("big"))?;
    (0..mib).try_for_each(|_| file.write_all(&piece))?;
    file.sync_all()?;
    Ok(mib)
}

fn read(dir: &Path) -> io::Result<usize> {
    let mut file = File::open(dir.join("big"))?;
    let mut piece = vec![0; PIECE];
    let mut bytes = 0;
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(bytes / PIECE),
            length => bytes += length,
        }
    }
}

fn random_read(dir: &Path, count: usize) -> io::Result<usize> {
    let file = File::open(dir.join("big"))?;
    let mut block = vec![0; BLOCK];
    let mut places = Places::of(&file)?;
    (0..count).try_for_each(|_| file.read_exact_at(&mut block, places.next()))?;
    Ok(count)
}

/// What follows each write.
enum Then {
    Nothing,
    Sync,
}

fn random_write(dir: &Path, count: usize, then: Then) -> io::Result<usize> {
    let file = OpenOptions::new().write(true).open(dir.join("big"))?;
    let block = noise(BLOCK);
    let mut places = Places::of(&file)?;
    for _ in 0..count {
        file.write_all_at(&block, places.next())?;
        if let Then::Sync = then {
            file.sync_all()?;
        }
    }
    Ok(count)
}

/// A program with the directory as its own, from before its start until it was reaped. What it says is of no interest.
fn run(dir: &Path, program: &str, arguments: &[&str]) -> io::Result<usize> {
    let status = Command::new(program).args(arguments).current_dir(dir).stdout(Stdio::null()).status()?;
    if status.success() { Ok(1) } else { Err(io::Error::other(format!("{program} {arguments:?}: {status}"))) }
}

/// What was to be removed may not have been there.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The same bytes everywhere, which nothing compresses.
fn noise(length: usize) -> Vec<u8> {
    let mut chance = Chance(1);
    (0..length).map(|_| chance.next().to_le_bytes()[4]).collect()
}

/// Places of blocks in a file, the same everywhere.
struct Places {
    blocks: u64,
    chance: Chance,
}

impl Places {
    fn of(file: &File) -> io::Result<Self> {
        Ok(Self { blocks: file.metadata()?.len() / BLOCK as u64, chance: Chance(1) })
    }

    fn next(&mut self) -> u64 {
        (self.chance.next() >> 16) % self.blocks * BLOCK as u64
    }
}

/// Knuth's linear congruential generator.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_says_how_much_it_did() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(fill(dir, 3).unwrap(), 3);
        assert_eq!((list(dir).unwrap(), stat(dir, 3).unwrap(), small(dir, 2).unwrap()), (3, 3, 2));
        assert_eq!((write(dir, 2).unwrap(), read(dir).unwrap()), (2, 2));
        assert_eq!((random_read(dir, 5).unwrap(), random_write(dir, 5, Then::Sync).unwrap()), (5, 5));
    }

    #[test]
    fn what_is_created_is_gone_again() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(create(dir.path(), 4).unwrap(), 4);
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 0);
    }

    #[test]
    fn random_places_are_blocks_of_the_file() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10 * BLOCK as u64).unwrap();
        let mut places = Places::of(&file).unwrap();
        assert!((0..100).map(|_| places.next()).all(|place| place % BLOCK as u64 == 0 && place < 10 * BLOCK as u64));
    }

    #[test]
    fn what_is_warm_was_done_before() {
        let mut times = 0;
        let mut work = || {
            times += 1;
            Ok(1)
        };
        measure("warm", &mut work).unwrap();
        assert_eq!(times, 1 + PASSES);
        assert!(measure("tepid", || Ok(1)).is_err());
    }
}
