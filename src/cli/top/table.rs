//! A table: columns and rows, which rows a filter leaves, and in which order: pure.
//!
//! *In:* cells as text, and as numbers where they are numbers. *Never:* a terminal. What is in a cell is safe to show.

use std::cmp::Ordering;

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Texts are on the left, numbers on the right.
    pub(super) is_number: bool,
    /// It is in the wide form only.
    pub(super) is_wide: bool,
}

/// One cell: its text, and the number that it is sorted by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) number: Option<f64>,
}

/// How a row is emphasized.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Level {
    #[default]
    Plain,
    /// Nothing of it at present.
    Quiet,
    /// It should be looked at.
    Warning,
    /// Something is wrong.
    Bad,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// As many as there are columns.
    pub(super) cells: Vec<Cell>,
    pub(super) level: Level,
}

/// The rows of a tab.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
    /// What stands below it, as lines.
    pub(super) notes: Vec<String>,
}

/// What a table is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sort {
    /// Which column.
    pub(super) column: usize,
    pub(super) descending: bool,
}

// === impl Column ===

impl Column {
    pub(super) const fn text(title: &'static str) -> Self {
        Self { title, is_number: false, is_wide: false }
    }

    pub(super) const fn number(title: &'static str) -> Self {
        Self { title, is_number: true, is_wide: false }
    }

    pub(super) const fn wide(self) -> Self {
        Self { is_wide: true, ..self }
    }
}

// === impl Cell ===

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), number: None }
    }

    /// A number with its text; one that is not there sorts below all others.
    pub(super) fn number(number: Option<f64>, text: impl Into<String>) -> Self {
        Self { text: text.into(), number: Some(number.unwrap_or(f64::NEG_INFINITY)) }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self.number, other.number) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => self.text.cmp(&other.text),
        }
    }
}

// === impl Table ===

impl Table {
    /// The columns that are shown, by number.
    pub(super) fn shown(&self, wide: bool) -> Vec<usize> {
        let columns = self.columns.iter().enumerate();
        columns.filter(|(_, column)| wide || !column.is_wide).map(|(i, _)| i).collect()
    }

    /// The rows that contain `filter` in a cell, in any case of letters, sorted; equal ones stay in their order.
    pub(super) fn view(&self, sort: Sort, filter: &str) -> Vec<&Row> {
        let wanted = filter.to_lowercase();
        let has =
            |row: &&Row| wanted.is_empty() || row.cells.iter().any(|cell| cell.text.to_lowercase().contains(&wanted));
        let mut rows: Vec<&Row> = self.rows.iter().filter(has).collect();
        rows.sort_by(|a, b| {
            let order = match (a.cells.get(sort.column), b.cells.get(sort.column)) {
                (Some(a), Some(b)) => a.order(b),
                _ => Ordering::Equal,
            };
            if sort.descending { order.reverse() } else { order }
        });
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |name: &str, n: Option<f64>| Row {
            cells: vec![Cell::text(name), Cell::number(n, n.map_or_else(|| "-".to_owned(), |n| n.to_string()))],
            level: Level::Plain,
        };
        let columns = vec![Column::text("NAME"), Column::number("N"), Column::text("MORE").wide()];
        let rows = vec![row("Cart", Some(9.0)), row("shop", Some(10.0)), row("ad", None), row("cart-db", Some(10.0))];
        Table { columns, rows, notes: Vec::new() }
    }

    fn names(rows: &[&Row]) -> Vec<String> {
        rows.iter().map(|row| row.cells[0].text.clone()).collect()
    }

    #[test]
    fn numbers_are_sorted_as_numbers_and_what_is_not_there_is_least() {
        let table = table();
        let by = |column, descending| names(&table.view(Sort { column, descending }, ""));
        assert_eq!(by(1, true), ["shop", "cart-db", "Cart", "ad"], "equal ones stay in their order");
        assert_eq!(by(1, false), ["ad", "Cart", "shop", "cart-db"]);
        assert_eq!(by(0, false), ["Cart", "ad", "cart-db", "shop"]);
        assert_eq!(by(7, false).len(), 4, "a column that is not there sorts nothing");
    }

    #[test]
    fn a_filter_leaves_rows_that_contain_it_in_any_case_of_letters() {
        let table = table();
        let left = |filter| names(&table.view(Sort { column: 0, descending: false }, filter));
        assert_eq!(left("CART"), ["Cart", "cart-db"]);
        assert_eq!(left("10"), ["cart-db", "shop"], "any cell counts");
        assert!(left("nothing").is_empty());
    }

    #[test]
    fn wide_columns_are_shown_on_demand() {
        assert_eq!((table().shown(false), table().shown(true)), (vec![0, 1], vec![0, 1, 2]));
    }
}
