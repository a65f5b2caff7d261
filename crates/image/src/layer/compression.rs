//! What a blob is compressed with, told by its first bytes: media types lie, archives have none.

use crate::Error;
use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use std::io::{self, BufReader, Chain, Cursor, Read};

const BUFFER: usize = 128 << 10;
/// Frames that want a larger window (128 MiB) are refused: it would be our memory.
const ZSTD_WINDOW_LOG: u32 = 27;
/// The same for xz, in KiB, with what the decoder itself takes: `xz -9` wants half of it.
const XZ_MEMORY_KIB: u32 = 132 << 10;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const LZ4: &[u8] = b"\x04\x22\x4d\x18";

/// A stream from its beginning.
type Whole<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// The plain bytes of a stream.
enum Plain<R: Read> {
    As(Whole<R>),
    Gzip(Box<MultiGzDecoder<Whole<R>>>),
    Bzip2(MultiBzDecoder<Whole<R>>),
    Xz(Box<XzReader<Whole<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Whole<R>>),
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::As(whole) => whole.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Bzip2(decoder) => decoder.read(buffer),
            Self::Xz(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// Returns the plain bytes of a layer that is plain, gzip, zstd, bzip2 or xz.
pub(crate) fn decompress<'a>(blob: impl Read + 'a) -> Result<Box<dyn Read + 'a>, Error> {
    let plain = plain(blob)?;
    Ok(Box::new(plain.ok_or_else(|| Error::malformed("a layer", "it is compressed with lz4, which no image may be"))?))
}

/// The same of an archive that a user has made, for which there are other tools as well.
pub fn decompress_archive(archive: impl Read + Send) -> Result<impl Read + Send, Error> {
    let advice = "it is compressed with lz4; decompress it first, for example with `lz4 -dc FILE`";
    plain(archive)?.ok_or_else(|| Error::malformed("the archive", advice))
}

/// Nothing of what is compressed with lz4.
fn plain<R: Read>(mut blob: R) -> Result<Option<Plain<R>>, Error> {
    let mut head = Vec::new();
    blob.by_ref().take(6).read_to_end(&mut head).map_err(super::unreadable)?;
    let is = |magic: &[u8]| head.starts_with(magic);
    let (gzip, zstd, bzip2, xz, lz4) = (is(GZIP), is(ZSTD) || is_skippable(&head), is(BZIP2), is(XZ), is(LZ4));
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(head).chain(blob));
    Ok(Some(if gzip {
        Plain::Gzip(Box::new(MultiGzDecoder::new(whole)))
    } else if zstd {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(whole).map_err(super::unreadable)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(super::unreadable)?;
        Plain::Zstd(decoder)
    } else if bzip2 {
        Plain::Bzip2(MultiBzDecoder::new(whole))
    } else if xz {
        Plain::Xz(Box::new(XzReader::new_mem_limit(whole, true, XZ_MEMORY_KIB)))
    } else if lz4 {
        return Ok(None);
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

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// What `xz` makes of ten thousand bytes 7, with a dictionary of 8 MiB.
    const XZ_OF_SEVENS: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a3e0270f002b5d0003effbbffea3b15ee5f83fb2aa2655f8687041\
        70150f8dfd1e4c1b8a42b719f4691871ae662386bcf42a0000003f402ae5f83ca34e000147904e00000017e6c57bb1c467fb\
        020000000004595a";

    fn xz() -> Vec<u8> {
        let byte = |at: usize| u8::from_str_radix(&XZ_OF_SEVENS[at..at + 2], 16).unwrap();
        (0..XZ_OF_SEVENS.len()).step_by(2).map(byte).collect()
    }

    #[test]
    fn each_compression_is_told_by_its_magic() {
        assert_eq!(unpacked(b""), b"");
        assert_eq!(unpacked(b"abc"), b"abc");
        assert_eq!(unpacked(&zstd::encode_all(&b"abcdefg"[..], 1).unwrap()), b"abcdefg");
        assert_eq!(unpacked(&gzip(b"abcdefg")), b"abcdefg");
        assert_eq!(unpacked(&bzip2(b"abcdefg")), b"abcdefg");
        assert_eq!(unpacked(&xz()), [7; 10_000]);
    }

    #[test]
    fn several_members_frames_and_streams_are_one_stream() {
        assert_eq!(unpacked(&[gzip(b"one"), gzip(b"two")].concat()), b"onetwo");
        let frames = [zstd::encode_all(&b"one"[..], 1).unwrap(), zstd::encode_all(&b"two"[..], 1).unwrap()].concat();
        assert_eq!(unpacked(&frames), b"onetwo");
        assert_eq!(unpacked(&[bzip2(b"one"), bzip2(b"two")].concat()), b"onetwo");
        assert_eq!(unpacked(&[xz(), xz()].concat()), [7; 20_000]);
    }

    #[test]
    fn what_is_compressed_with_lz4_is_named() {
        let Err(error) = decompress(&b"\x04\x22\x4d\x18..."[..]) else { panic!("lz4 was taken") };
        assert!(error.to_string().contains("lz4"), "{error}");
        let Err(error) = decompress_archive(&b"\x04\x22\x4d\x18..."[..]) else { panic!("lz4 was taken") };
        assert!(error.to_string().contains("lz4 -dc"), "{error}");
    }

    #[test]
    fn a_truncated_stream_is_an_error() {
        let zstd = zstd::encode_all(&[7; 10_000][..], 1).unwrap();
        for blob in [gzip(&[7; 10_000]), zstd, bzip2(&[7; 10_000]), xz()] {
            let mut reader = decompress(&blob[..blob.len() - 5]).unwrap();
            assert!(reader.read_to_end(&mut Vec::new()).is_err());
        }
    }

    #[test]
    fn xz_that_wants_more_memory_than_is_given_is_an_error() {
        let mut blob = xz();
        // The properties of the block's only filter: the dictionary's size, here 4 GiB; and the header's checksum.
        assert_eq!(blob[14..17], [0x21, 1, 0x16]);
        blob[16] = 40;
        let checksum = crc32(&blob[12..20]);
        blob[20..24].copy_from_slice(&checksum.to_le_bytes());
        let error = decompress(&blob[..]).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
        })
    }

    #[test]
    fn no_bytes_behind_a_magic_make_a_decoder_panic() {
        for whole in [bzip2(&[7; 10_000]), xz()] {
            for place in 6..whole.len() {
                let mut blob = whole.clone();
                blob[place] ^= 0x55;
                if let Ok(mut reader) = decompress(&blob[..]) {
                    let _whatever_it_is = reader.read_to_end(&mut Vec::new());
                }
            }
        }
    }
}
