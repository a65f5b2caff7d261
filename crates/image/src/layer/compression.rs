//! What a blob is compressed with, told by its first bytes: media types lie, archives have none.

use crate::Error;
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufReader, Chain, Cursor, Read};

const BUFFER: usize = 128 << 10;
/// Frames that want a larger window (128 MiB) are refused: it would be our memory.
const ZSTD_WINDOW_LOG: u32 = 27;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const FOREIGN: [(&[u8], &str); 3] =
    [(b"BZh", "bzip2"), (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"), (b"\x04\x22\x4d\x18", "lz4")];

/// A stream from its beginning.
type Whole<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// The plain bytes of a stream.
enum Plain<R: Read> {
    As(Whole<R>),
    Gzip(Box<MultiGzDecoder<Whole<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Whole<R>>),
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::As(whole) => whole.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// Returns the plain bytes of a layer that is gzip, zstd or plain.
pub(crate) fn decompress<'a>(blob: impl Read + 'a) -> Result<Box<dyn Read + 'a>, Error> {
    let foreign = |name| Error::malformed("a layer", format!("it is compressed with {name}, which no image may be"));
    Ok(Box::new(plain(blob)?.map_err(foreign)?))
}

/// The same of an archive that a user has made, for which there are other tools as well.
pub fn decompress_archive(archive: impl Read + Send) -> Result<impl Read + Send, Error> {
    let advice =
        |name| format!("it is compressed with {name}; decompress it first, for example with `{name} -dc FILE`");
    plain(archive)?.map_err(|name| Error::malformed("the archive", advice(name)))
}

/// Or the name of what else it is compressed with.
fn plain<R: Read>(mut blob: R) -> Result<Result<Plain<R>, &'static str>, Error> {
    let mut head = Vec::new();
    blob.by_ref().take(6).read_to_end(&mut head).map_err(super::unreadable)?;
    if let Some((_, name)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Ok(Err(name));
    }
    let (gzip, zstd) = (head.starts_with(GZIP), head.starts_with(ZSTD) || is_skippable(&head));
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(head).chain(blob));
    Ok(Ok(if gzip {
        Plain::Gzip(Box::new(MultiGzDecoder::new(whole)))
    } else if zstd {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(whole).map_err(super::unreadable)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(super::unreadable)?;
        Plain::Zstd(decoder)
    } else {
        Plain::As(whole)
    }))
}

/// Whether these bytes begin a zstd frame that holds no data.
fn is_skippable(head: &[u8]) -> bool {
    matches!(head, [first, 0x2a, 0x4d, 0x18, ..] if first & 0xf0 == 0x50)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn unpacked(blob: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        decompress(blob).unwrap().read_to_end(&mut out).unwrap();
        out
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn each_compression_is_told_by_its_magic() {
        assert_eq!(unpacked(b""), b"");
        assert_eq!(unpacked(b"abc"), b"abc");
        assert_eq!(unpacked(&zstd::encode_all(&b"abcdefg"[..], 1).unwrap()), b"abcdefg");
        assert_eq!(unpacked(&gzip(b"abcdefg")), b"abcdefg");
    }

    #[test]
    fn several_gzip_members_and_zstd_frames_are_one_stream() {
        assert_eq!(unpacked(&[gzip(b"one"), gzip(b"two")].concat()), b"onetwo");
        let frames = [zstd::encode_all(&b"one"[..], 1).unwrap(), zstd::encode_all(&b"two"[..], 1).unwrap()].concat();
        assert_eq!(unpacked(&frames), b"onetwo");
    }

    #[test]
    fn other_compressions_are_named() {
        let Err(error) = decompress(&b"BZh91AY"[..]) else { panic!("bzip2 was taken") };
        assert!(error.to_string().contains("bzip2"), "{error}");
        let Err(error) = decompress_archive(&b"\xfd7zXZ\0..."[..]) else { panic!("xz was taken") };
        assert!(error.to_string().contains("xz -dc"), "{error}");
    }

    #[test]
    fn a_truncated_stream_is_an_error() {
        for blob in [gzip(&[7; 10_000]), zstd::encode_all(&[7; 10_000][..], 1).unwrap()] {
            let mut reader = decompress(&blob[..blob.len() - 5]).unwrap();
            assert!(reader.read_to_end(&mut Vec::new()).is_err());
        }
    }
}
