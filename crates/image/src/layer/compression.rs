//! What a blob is compressed with, told by its first bytes: media types lie, archives have none.

use crate::Error;
use flate2::bufread::MultiGzDecoder;
use std::io::{BufReader, Cursor, Read};

const BUFFER: usize = 128 << 10;
/// Frames that want a larger window (128 MiB) are refused: it would be our memory.
const ZSTD_WINDOW_LOG: u32 = 27;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const FOREIGN: [(&[u8], &str); 3] =
    [(b"BZh", "bzip2"), (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"), (b"\x04\x22\x4d\x18", "lz4")];

/// Returns the plain bytes of a stream that is gzip, zstd or plain.
pub(crate) fn decompress<'a>(mut blob: impl Read + 'a) -> Result<Box<dyn Read + 'a>, Error> {
    let mut head = Vec::new();
    blob.by_ref().take(6).read_to_end(&mut head).map_err(super::unreadable)?;
    let foreign = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, name)| name);
    let (gzip, zstd) = (head.starts_with(GZIP), head.starts_with(ZSTD) || is_skippable(&head));
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(head).chain(blob));
    if let Some(name) = foreign {
        return Err(Error::malformed("a layer", format!("it is compressed with {name}, which no image may be")));
    }
    if gzip {
        return Ok(Box::new(MultiGzDecoder::new(whole)));
    }
    if zstd {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(whole).map_err(super::unreadable)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(super::unreadable)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(whole))
}

/// Whether these bytes begin a zstd frame that holds no data.
fn is_skippable(head: &[u8]) -> bool {
    matches!(head, [first, 0x2a, 0x4d, 0x18, ..] if first & 0xf0 == 0x50)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn plain(blob: &[u8]) -> Vec<u8> {
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
        assert_eq!(plain(b""), b"");
        assert_eq!(plain(b"abc"), b"abc");
        assert_eq!(plain(&zstd::encode_all(&b"abcdefg"[..], 1).unwrap()), b"abcdefg");
        assert_eq!(plain(&gzip(b"abcdefg")), b"abcdefg");
    }

    #[test]
    fn several_gzip_members_and_zstd_frames_are_one_stream() {
        assert_eq!(plain(&[gzip(b"one"), gzip(b"two")].concat()), b"onetwo");
        let frames = [zstd::encode_all(&b"one"[..], 1).unwrap(), zstd::encode_all(&b"two"[..], 1).unwrap()].concat();
        assert_eq!(plain(&frames), b"onetwo");
    }

    #[test]
    fn other_compressions_are_named() {
        let Err(error) = decompress(&b"BZh91AY"[..]) else { panic!("bzip2 was taken") };
        assert!(error.to_string().contains("bzip2"), "{error}");
    }

    #[test]
    fn a_truncated_stream_is_an_error() {
        for blob in [gzip(&[7; 10_000]), zstd::encode_all(&[7; 10_000][..], 1).unwrap()] {
            let mut reader = decompress(&blob[..blob.len() - 5]).unwrap();
            assert!(reader.read_to_end(&mut Vec::new()).is_err());
        }
    }
}
