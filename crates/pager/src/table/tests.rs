use super::*;
use crate::contents::Overlay;
use fcvm_sys::mapping::HUGE_PAGE;

const BASE: u64 = 0x7f00_0000_0000;
const PAGES: u64 = 64;

fn small() -> Table {
    Table::new(vec![Region { start: BASE, size: PAGES * PAGE, offset: 0, page_size: PAGE }])
}

/// Data but for the pages 20 to 24, and one page, the 34th, of another file.
fn contents() -> Contents {
    let data = [0..20 * PAGE, 24 * PAGE..PAGES * PAGE];
    Contents::new(PAGES * PAGE, &data, &[Overlay { start: 34 * PAGE, length: PAGE, place: 777 }]).unwrap()
}

fn page(number: u64) -> u64 {
    BASE + number * PAGE
}

/// What a fault puts: first page, pages, and whence.
fn filled(table: &Table, address: u64) -> Vec<(u64, u64, Bytes)> {
    match table.fault(address, &contents()).unwrap() {
        Answer::Fill(fills) => {
            fills.iter().map(|fill| ((fill.to - BASE) / PAGE, fill.length() / PAGE, fill.pieces[0].bytes)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fault_brings_its_neighbours_each_from_where_its_bytes_are() {
    let table = small();
    assert_eq!(filled(&table, page(3) + 17), [(0, 16, Bytes::Memory(0))]);
    let expected = [(16, 4, Bytes::Memory(16 * PAGE)), (20, 4, Bytes::Zero), (24, 8, Bytes::Memory(24 * PAGE))];
    assert_eq!(filled(&table, page(31)), expected);
    let expected =
        [(32, 2, Bytes::Memory(32 * PAGE)), (34, 1, Bytes::Overlay(777)), (35, 13, Bytes::Memory(35 * PAGE))];
    assert_eq!(filled(&table, page(34)), expected);
}

#[test]
fn neighbours_that_are_there_or_behind_such_are_left_out() {
    let mut table = small();
    table.placed(page(5), 2 * PAGE);
    assert_eq!(filled(&table, page(3)), [(0, 5, Bytes::Memory(0))]);
    assert_eq!(filled(&table, page(7)), [(7, 9, Bytes::Memory(7 * PAGE))]);
}

#[test]
fn a_fault_of_a_page_that_is_there_only_wakes() {
    let mut table = small();
    table.placed(page(5), PAGE);
    let expected = Answer::Wake { start: page(5), length: PAGE };
    assert_eq!(table.fault(page(5) + 1, &contents()), Ok(expected));
}

#[test]
fn what_was_given_back_is_zeros_for_ever() {
    let mut table = small();
    table.placed(page(0), 16 * PAGE);
    table.removed(page(2), page(6));
    assert_eq!(filled(&table, page(4)), [(2, 4, Bytes::Zero)]);
    table.placed(page(2), 4 * PAGE);
    assert_eq!(filled(&table, page(4)), [(4, 1, Bytes::Zero)], "the kernel may have dropped it again");
    table.removed(page(4), page(5));
    table.placed(page(4), PAGE);
    assert_eq!(filled(&table, page(4)), [(4, 1, Bytes::Zero)]);
    // Never served before.
    table.removed(page(40), page(41));
    assert_eq!(filled(&table, page(40)), [(40, 1, Bytes::Zero)]);
    assert_eq!(
        filled(&table, page(39)),
        [(32, 2, Bytes::Memory(32 * PAGE)), (34, 1, Bytes::Overlay(777)), (35, 5, Bytes::Memory(35 * PAGE))]
    );
}

#[test]
fn a_removal_of_anything_else_is_of_no_matter() {
    let mut table = small();
    table.removed(0, BASE);
    table.removed(page(PAGES), u64::MAX);
    table.removed(page(3), page(3));
    table.removed(page(4), page(2));
    assert_eq!(filled(&table, page(0)), [(0, 16, Bytes::Memory(0))]);
    table.removed(0, u64::MAX);
    assert_eq!(filled(&table, page(63)), [(48, 16, Bytes::Zero)]);
}

#[test]
fn addresses_outside_are_errors() {
    let table = Table::new(vec![
        Region { start: BASE, size: PAGE, offset: 0, page_size: PAGE },
        Region { start: BASE + 4 * PAGE, size: PAGE, offset: PAGE, page_size: PAGE },
    ]);
    for address in [0, BASE - 1, BASE + PAGE, BASE + 5 * PAGE, u64::MAX] {
        assert_eq!(table.fault(address, &contents()), Err(Stray(address)));
    }
    assert_eq!(filled(&table, BASE + 4 * PAGE), [(4, 1, Bytes::Memory(PAGE))]);
}

#[test]
fn a_replay_fills_what_is_still_missing() {
    let mut table = small();
    table.placed(page(2), PAGE);
    table.removed(page(4), page(5));
    let fills = table.missing(&(PAGE..6 * PAGE), &contents());
    let found: Vec<_> = fills.iter().map(|fill| ((fill.to - BASE) / PAGE, fill.length() / PAGE)).collect();
    assert_eq!(found, [(1, 1), (3, 1), (5, 1)]);
    assert_eq!(table.missing(&(PAGES * PAGE..u64::MAX), &contents()), []);
}

#[test]
fn a_huge_page_is_put_whole_from_all_its_pieces() {
    let region = Region { start: BASE, size: 2 * HUGE_PAGE, offset: 0, page_size: HUGE_PAGE };
    let mut table = Table::new(vec![region]);
    let overlay = Overlay { start: HUGE_PAGE - PAGE, length: 2 * PAGE, place: 0 };
    let contents = Contents::new(2 * HUGE_PAGE, std::slice::from_ref(&(0..PAGE)), &[overlay]).unwrap();
    let Ok(Answer::Fill(fills)) = table.fault(BASE + 9 * PAGE, &contents) else { panic!() };
    let pieces = |fill: &Fill| fill.pieces.iter().map(|piece| (piece.length() / PAGE, piece.bytes)).collect::<Vec<_>>();
    assert_eq!(fills.len(), 1);
    assert_eq!(pieces(&fills[0]), [(1, Bytes::Memory(0)), (510, Bytes::Zero), (1, Bytes::Overlay(0))]);
    table.placed(BASE, HUGE_PAGE);
    let rest = table.missing(&(0..2 * HUGE_PAGE), &contents);
    assert_eq!((rest[0].to, rest.len()), (BASE + HUGE_PAGE, 1));
    assert_eq!(pieces(&rest[0]), [(1, Bytes::Overlay(PAGE)), (511, Bytes::Zero)]);
}
