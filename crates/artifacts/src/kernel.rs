//! The kernel: Debian's cloud kernel from the host's package manager, unpacked to what a monitor boots.

use crate::module::{BOOT, LATER, Modules};
use crate::tool::{self, Tools};
use crate::{Error, arch};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The kernel's file in its directory.
pub(crate) const FILE: &str = "vmlinux";
/// The file that holds its release.
pub(crate) const RELEASE: &str = "release";
/// The directory of its modules.
pub(crate) const MODULES: &str = "modules";

/// The largest kernel that is unpacked, in bytes.
const LARGEST: u64 = 512 << 20;

/// Returns the name of the package that holds the newest cloud kernel.
pub(crate) fn package(tools: &Tools) -> Result<String, Error> {
    let mut command = tools.command("apt-cache", "apt")?;
    let text = tool::run(command.args(["depends", arch::KERNEL_META]))?;
    let text = String::from_utf8_lossy(&text);
    let depends = text.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned);
    depends.ok_or_else(|| Error::Tool {
        command: format!("apt-cache depends {}", arch::KERNEL_META),
        complaint: "it names no kernel; run `apt-get update`".to_owned(),
    })
}

/// Makes a kernel's directory `into` of an unpacked package.
pub(crate) fn make(package: &Path, into: &Path) -> Result<(), Error> {
    let image = only_entry(&package.join("boot"), "vmlinuz-")?;
    let release = image.file_name().unwrap_or_default().to_string_lossy()["vmlinuz-".len()..].to_owned();
    write_kernel(&image, &into.join(FILE))?;
    let path = into.join(RELEASE);
    fs::write(&path, format!("{release}\n")).map_err(Error::file("write", &path))?;
    let tree = package.join("lib/modules").join(&release);
    let modules = Modules::scan(&tree).map_err(Error::file("list", &tree))?;
    copy_modules(&modules, &release, &into.join(MODULES))
}

/// Makes a kernel of the user's own usable and returns its file.
pub(crate) fn import(kernels: &Path, file: &Path) -> Result<PathBuf, Error> {
    let bytes = fs::read(file).map_err(Error::file("read", file))?;
    let key: String = Sha256::digest(&bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let into = kernels.join(format!("own-{key}"));
    if !into.join(FILE).is_file() {
        fs::create_dir_all(&into).map_err(Error::file("create directory", &into))?;
        write_kernel(file, &into.join(FILE))?;
    }
    Ok(into.join(FILE))
}

fn only_entry(dir: &Path, prefix: &str) -> Result<PathBuf, Error> {
    let entries = fs::read_dir(dir).map_err(Error::file("list", dir))?.flatten();
    let mut named = entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)));
    named.next().ok_or(Error::NotAKernel { path: dir.to_owned(), reason: "the package holds no vmlinuz" })
}

fn copy_modules(modules: &Modules, release: &str, into: &Path) -> Result<(), Error> {
    fs::create_dir_all(into).map_err(Error::file("create directory", into))?;
    let missing = |module| Error::NoModule { release: release.to_owned(), module };
    let boot = modules.order(BOOT, &[]).map_err(missing)?;
    let later = modules.order(LATER, &boot).map_err(missing)?;
    for name in boot.iter().chain(&later) {
        let from = modules.file(name).ok_or_else(|| missing(name.clone()))?;
        fs::copy(from, into.join(format!("{name}.ko"))).map_err(Error::file("copy", from))?;
    }
    for (list, names) in [("boot.list", boot), ("later.list", later)] {
        let text: String = names.iter().map(|name| format!("{name}.ko\n")).collect();
        let path = into.join(list);
        fs::write(&path, text).map_err(Error::file("write", &path))?;
    }
    Ok(())
}

/// Writes what a monitor boots directly: the ELF inside a bzImage, or the file as it is.
fn write_kernel(from: &Path, to: &Path) -> Result<(), Error> {
    let bytes = fs::read(from).map_err(Error::file("read", from))?;
    let kernel = uncompressed(&bytes).map_err(|reason| Error::NotAKernel { path: from.to_owned(), reason })?;
    let mut file = File::create(to).map_err(Error::file("write", to))?;
    file.write_all(&kernel).and_then(|()| file.sync_all()).map_err(Error::file("write", to))
}

const ELF: &[u8] = b"\x7fELF";
/// `Image` of aarch64 has this at offset 56.
const ARM64: &[u8] = b"ARM\x64";
const LZ4_LEGACY: &[u8] = b"\x02\x21\x4c\x18";
const GZIP: &[u8] = b"\x1f\x8b\x08";

fn uncompressed(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    if bytes.starts_with(ELF) || bytes.get(56..60) == Some(ARM64) {
        return Ok(bytes.to_vec());
    }
    // The compressed kernel starts somewhere behind the boot code; a magic number may occur by chance before it.
    for (magic, decode) in [(LZ4_LEGACY, lz4 as fn(&[u8]) -> io::Result<Vec<u8>>), (GZIP, gzip)] {
        let places = bytes.windows(magic.len()).enumerate().filter(|(_, window)| *window == magic);
        for (place, _) in places {
            if let Ok(kernel) = decode(&bytes[place..])
                && kernel.starts_with(ELF)
            {
                return Ok(kernel);
            }
        }
    }
    Err("it is neither an ELF file nor holds one that is compressed by LZ4 or gzip")
}

/// Decodes LZ4's legacy frame: blocks of 8 MiB, each behind its length; the end is the first length that cannot be.
fn lz4(bytes: &[u8]) -> io::Result<Vec<u8>> {
    const BLOCK: usize = 8 << 20;
    let mut rest = &bytes[LZ4_LEGACY.len()..];
    let mut kernel = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some(block) = tail.get(..length).filter(|block| !block.is_empty()) else { break };
        let Ok(plain) = lz4_flex::block::decompress(block, BLOCK) else { break };
        kernel.extend_from_slice(&plain);
        rest = &tail[length..];
        if plain.len() < BLOCK {
            break;
        }
    }
    Ok(kernel)
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut kernel = Vec::new();
    flate2::read::GzDecoder::new(bytes).take(LARGEST).read_to_end(&mut kernel)?;
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot_image(compressed: &[u8]) -> Vec<u8> {
        [b"MZ boot code \x1f\x8b\x08 and a magic number by chance".as_slice(), compressed, b"trailing"].concat()
    }

    #[test]
    fn the_elf_inside_a_gzip_image_is_found() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"\x7fELF kernel").unwrap();
        assert_eq!(uncompressed(&boot_image(&encoder.finish().unwrap())).unwrap(), b"\x7fELF kernel");
    }

    #[test]
    fn the_elf_inside_an_lz4_image_is_found() {
        let block = lz4_flex::block::compress(b"\x7fELF kernel");
        let legacy = [LZ4_LEGACY, &(block.len() as u32).to_le_bytes(), &block].concat();
        assert_eq!(uncompressed(&boot_image(&legacy)).unwrap(), b"\x7fELF kernel");
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        for bytes in [b"".as_slice(), b"#!/bin/sh", LZ4_LEGACY, b"\x02\x21\x4c\x18\xff\xff\xff\xff"] {
            assert!(uncompressed(bytes).is_err());
        }
    }
}
