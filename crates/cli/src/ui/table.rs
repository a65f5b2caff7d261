//! Tables as podman prints them: two spaces between columns, none narrower than twelve with them, the last not padded.

/// The narrowest column with the space after it.
const LEAST: usize = 12;

/// Renders a table with its header.
pub(crate) fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let header = header.iter().map(|cell| (*cell).to_owned()).collect();
    body(&std::iter::once(header).chain(rows.iter().cloned()).collect::<Vec<_>>())
}

/// Renders rows without a header.
pub(crate) fn body(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| LEAST.max(width(column).unwrap_or(0) + 2)).collect();
    let line = |row: &Vec<String>| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<String>().trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_never_narrow() {
        let rows = vec![vec!["a".to_owned(), "x".to_owned()], vec!["a long name".to_owned(), String::new()]];
        assert_eq!(render(&["ID", "NAME"], &rows), "ID           NAME\na            x\na long name");
        assert_eq!(body(&rows[..1]), "a           x");
    }
}
