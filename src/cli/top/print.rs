//! The view once, as text or JSON.

use std::io::{self, Write};

use super::draw::title;
use super::rows::{first_sort, table};
use super::snapshot::Snapshot;
use super::state::Tab;
use crate::cli::topics::report::aligned;
use crate::core::model::text::Shown;

/// Writes the tables of these tabs, one below the other.
pub(super) fn tables(snapshot: &Snapshot, tabs: &[Tab], wide: bool, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", title(snapshot))?;
    for what in &snapshot.partial {
        writeln!(out, "missing: {}", Shown(what))?;
    }
    for &tab in tabs {
        let table = table(snapshot, tab);
        let columns = table.shown(wide);
        let mut lines = vec![columns.iter().map(|&at| table.columns[at].title.to_owned()).collect::<Vec<_>>()];
        for row in table.view(first_sort(tab), "") {
            lines.push(columns.iter().map(|&at| row.cells.get(at).map_or("", |cell| &cell.text).to_owned()).collect());
        }
        writeln!(out, "\n{}", tab.title())?;
        out.write_all(aligned(&lines).as_bytes())?;
        for note in &table.notes {
            writeln!(out, "{note}")?;
        }
    }
    out.flush()
}

/// Writes one JSON object.
pub(super) fn json(snapshot: &Snapshot, tabs: &[Tab], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", snapshot.json(tabs))?;
    out.flush()
}
