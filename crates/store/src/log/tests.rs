use super::*;

fn all(reader: &mut LogReader) -> Vec<u8> {
    std::iter::from_fn(|| reader.read_entry().expect("the log is readable")).flat_map(|entry| entry.bytes).collect()
}

#[test]
fn every_byte_comes_back_whatever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(dir.path(), LogWriter::DEFAULT_LIMIT).unwrap();
    let bytes: Vec<u8> = (0..=255).chain(*b"\n\n no end").collect();
    for piece in bytes.chunks(7) {
        writer.write(Source::Stdout, piece).unwrap();
    }
    let mut reader = LogReader::open(dir.path(), Filter::default()).unwrap();
    assert_eq!(all(&mut reader), bytes);
    writer.write(Source::Stderr, b" yet").unwrap();
    let entry = reader.read_entry().unwrap().unwrap();
    assert_eq!((entry.source, entry.bytes.as_slice()), (Source::Stderr, b" yet".as_slice()));
}

#[test]
fn the_log_is_bounded_and_a_reader_follows_the_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(dir.path(), 4096).unwrap();
    let mut reader = LogReader::open(dir.path(), Filter::default()).unwrap();
    let mut followed = Vec::new();
    for number in 0..1000 {
        writer.write(Source::Stdout, format!("line {number}\n").as_bytes()).unwrap();
        if number % 10 == 0 {
            followed.extend(all(&mut reader));
        }
    }
    followed.extend(all(&mut reader));
    let expected: String = (0..1000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(String::from_utf8(followed).unwrap(), expected);
    let size: u64 = dir.path().read_dir().unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(size < 3 * 4096, "{size}");
}

#[test]
fn a_tail_counts_lines_not_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::open(dir.path(), LogWriter::DEFAULT_LIMIT).unwrap();
    for piece in ["one\n", "tw", "o\n", "thr", "ee\n"] {
        writer.write(Source::Stdout, piece.as_bytes()).unwrap();
    }
    for (tail, expected) in [(0, ""), (1, "three\n"), (2, "two\nthree\n"), (9, "one\ntwo\nthree\n")] {
        let filter = Filter { tail: Some(tail), ..Filter::default() };
        let mut reader = LogReader::open(dir.path(), filter).unwrap();
        assert_eq!(String::from_utf8(all(&mut reader)).unwrap(), expected, "tail {tail}");
    }
}

#[test]
fn lines_that_a_crash_cut_or_someone_broke_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join(CURRENT),
        b"nonsense\n2026-01-01T00:00:00Z stdout X a\n\xff\xfe\n2026-01-01T00:00:00Z std",
    )
    .unwrap();
    assert_eq!(all(&mut LogReader::open(dir.path(), Filter::default()).unwrap()), b"");
}
