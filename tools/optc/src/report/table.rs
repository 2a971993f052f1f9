//! Plain tables: no borders, columns aligned, a line under the header.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// How a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Renders rows under headers; a header that ends in `>` makes its column one of numbers.
pub fn render(headers: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let aligns: Vec<Align> =
        headers.iter().map(|h| if h.ends_with('>') { Align::Right } else { Align::Left }).collect();
    let names: Vec<&str> = headers.iter().map(|h| h.trim_end_matches('>')).collect();
    table.set_header(&names);
    for row in rows {
        table.add_row(row);
    }
    for (column, align) in table.column_iter_mut().zip(&aligns) {
        column.set_padding((0, 2));
        if *align == Align::Right {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

/// Names and values, one pair a line.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// Joins names, at most `most` of them.
pub fn join(names: &[String], most: usize) -> String {
    let shown = names.iter().take(most).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > most { format!("{shown}, … {} more", names.len() - most) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_aligned_right_and_lines_have_no_blanks_at_their_ends() {
        let rows = [vec!["a".to_owned(), "5".to_owned()], vec!["bcd".to_owned(), "1234".to_owned()]];
        assert_eq!(render(&["name", "count>"], &rows), "name  count\na         5\nbcd    1234\n");
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(join(&names, 2), "a, b, … 1 more");
        assert_eq!(join(&names, 3), "a, b, c");
    }
}
