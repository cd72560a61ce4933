//! Drawing the view. What is drawn was escaped before: see [`super::rows`].

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table as Grid};

use super::snapshot::Snapshot;
use super::state::{State, Tab};
use super::table::{Column, Level, Row as Shown, Sort, Table};
use crate::cli::topics::report::seconds;
use crate::core::model::text;

/// Columns of texts do not become narrower than this.
const NARROW: usize = 8;
/// Blanks between columns.
const GAP: usize = 2;
/// What the keys do.
const HELP: [(&str, &str); 11] = [
    ("1-6, Tab, Shift-Tab", "another tab"),
    ("up, down, PgUp, PgDn, Home, End", "move the selection (j, k, g, G)"),
    ("left, right", "sort by another column (<, >, s, S)"),
    ("r", "reverse the order"),
    ("/", "filter: rows that contain a text; Enter keeps it, Esc discards it"),
    ("Esc", "remove the filter, close help"),
    ("t, T", "next or former tenant"),
    ("w", "more columns"),
    ("Space", "pause: nothing changes until it is pressed again"),
    ("?", "this help"),
    ("q, Ctrl-C", "quit"),
];

/// Draws everything. `colors`: whether the terminal is to have them.
pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State, snapshot: &Snapshot, table: &Table, colors: bool) {
    let notes: Vec<Line<'_>> = notes(snapshot, table, colors);
    let below = u16::try_from(notes.len()).unwrap_or(u16::MAX).min(frame.area().height / 4);
    let parts = [Constraint::Length(1), Constraint::Length(1), Constraint::Min(1), Constraint::Length(below)];
    let [title, tabs, body, under, keys] =
        Layout::vertical(parts.into_iter().chain([Constraint::Length(1)])).areas(frame.area());
    frame.render_widget(heading(snapshot, state.paused), title);
    frame.render_widget(tab_line(state.tab, colors), tabs);
    draw_table(frame, body, state, table, colors);
    frame.render_widget(Paragraph::new(notes), under);
    frame.render_widget(key_line(state), keys);
    if state.help {
        draw_help(frame);
    }
}

/// The group, the tenant, and of when the numbers are.
pub(super) fn title(snapshot: &Snapshot) -> String {
    let mut words = vec![format!("group {}", text::Shown(&snapshot.group))];
    if !snapshot.tenant.is_empty() {
        let at = snapshot.tenants.iter().position(|tenant| *tenant == snapshot.tenant);
        let place =
            at.filter(|_| snapshot.tenants.len() > 1).map(|at| format!(" ({} of {})", at + 1, snapshot.tenants.len()));
        words.push(format!("tenant {}{}", text::Shown(&snapshot.tenant), place.unwrap_or_default()));
    }
    match snapshot.as_of {
        Some(at) => words.push(format!("complete up to {} ago", seconds((snapshot.at - at).max(0) as f64 / 1e3))),
        None => words.push("nothing has been counted yet".to_owned()),
    }
    if snapshot.window > 0 {
        words.push(format!("over {}", seconds(snapshot.window as f64 / 1e3)));
    }
    words.join(", ")
}

fn heading(snapshot: &Snapshot, paused: bool) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let paused = if paused { "PAUSED  " } else { "" };
    Line::from(vec![Span::styled("spanmill top  ", bold), Span::styled(paused, bold), Span::raw(title(snapshot))])
}

fn tab_line(shown: Tab, colors: bool) -> Line<'static> {
    let spans = Tab::ALL.into_iter().zip(1..).flat_map(|(tab, number)| {
        let style =
            if tab == shown { style_of(Level::Plain, colors).add_modifier(Modifier::REVERSED) } else { Style::new() };
        [Span::styled(format!(" {number} {} ", tab.title()), style), Span::raw(" ")]
    });
    Line::from(spans.collect::<Vec<_>>())
}

fn key_line(state: &State) -> Line<'static> {
    let filter = text::Shown(&state.filter).to_string();
    if state.typing() {
        return Line::from(format!("/{filter}_"));
    }
    let kept = if filter.is_empty() { String::new() } else { format!("filter {filter} (Esc removes it)  ") };
    Line::from(format!("{kept}? help  / filter  </> sort  r reverse  t tenant  w wide  space pause  q quit"))
        .style(Style::new().add_modifier(Modifier::DIM))
}

fn notes<'a>(snapshot: &Snapshot, table: &Table, colors: bool) -> Vec<Line<'a>> {
    let missing = snapshot
        .partial
        .iter()
        .map(|what| Line::from(text::Shown(what).to_string()).style(style_of(Level::Warning, colors)));
    missing.chain(table.notes.iter().map(|note| Line::from(note.clone()))).collect()
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, state: &mut State, table: &Table, colors: bool) {
    let rows = table.view(state.sort(), &state.filter);
    // The heading takes a line.
    let page = usize::from(area.height).saturating_sub(1);
    let (first, selected) = state.window(rows.len(), page);
    let rows: Vec<&Shown> = rows.into_iter().skip(first).take(page).collect();
    let columns = table.shown(state.wide);
    let widths = widths(table, &columns, &rows, state.sort(), usize::from(area.width));
    let line = |(place, row): (usize, &&Shown)| {
        let mut style = style_of(row.level, colors);
        if first + place == selected {
            style = style.add_modifier(Modifier::REVERSED);
        }
        Row::new(columns.iter().map(|&at| cell(table.columns.get(at), row.cells.get(at).map_or("", |cell| &cell.text))))
            .style(style)
    };
    let heading = columns.iter().map(|&at| {
        let title = table.columns.get(at).map(|column| heading_of(column, at, state.sort())).unwrap_or_default();
        cell(table.columns.get(at), &title)
    });
    let heading = Row::new(heading).style(Style::new().add_modifier(Modifier::BOLD));
    let constraints = widths.into_iter().map(|width| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX)));
    let grid = Grid::new(rows.iter().enumerate().map(line), constraints).header(heading).column_spacing(GAP as u16);
    frame.render_widget(grid, area);
}

fn heading_of(column: &Column, at: usize, sort: Sort) -> String {
    match (at == sort.column, sort.descending) {
        (true, true) => format!("{} v", column.title),
        (true, false) => format!("{} ^", column.title),
        (false, _) => column.title.to_owned(),
    }
}

fn cell(column: Option<&Column>, text: &str) -> Cell<'static> {
    let right = column.is_some_and(|column| column.is_number);
    let alignment = if right { Alignment::Right } else { Alignment::Left };
    Cell::from(Line::from(text.to_owned()).alignment(alignment))
}

/// As wide as the content; if that is too much, the widest texts give way.
fn widths(table: &Table, columns: &[usize], rows: &[&Shown], sort: Sort, room: usize) -> Vec<usize> {
    let natural = |&at: &usize| {
        let heading = table.columns.get(at).map_or(0, |column| Line::from(heading_of(column, at, sort)).width());
        let widest = rows.iter().filter_map(|row| Some(Line::from(row.cells.get(at)?.text.as_str()).width())).max();
        heading.max(widest.unwrap_or(0))
    };
    let mut widths: Vec<usize> = columns.iter().map(natural).collect();
    let is_text = |place: usize| columns.get(place).and_then(|&at| table.columns.get(at)).is_some_and(|c| !c.is_number);
    while widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1) > room {
        let texts = widths.iter().enumerate().filter(|(place, width)| is_text(*place) && **width > NARROW);
        let Some((widest, _)) = texts.max_by_key(|(_, width)| **width) else { break };
        widths[widest] -= 1;
    }
    widths
}

fn draw_help(frame: &mut Frame<'_>) {
    let keys = HELP.iter().map(|(keys, _)| keys.len()).max().unwrap_or_default();
    let lines: Vec<Line<'_>> = HELP.iter().map(|(key, what)| Line::from(format!(" {key:<keys$}  {what} "))).collect();
    let area = frame.area();
    let width = lines.iter().map(Line::width).max().unwrap_or_default() + 2;
    let width = u16::try_from(width).unwrap_or(u16::MAX).min(area.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let at = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, at);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), at);
}

fn style_of(level: Level, colors: bool) -> Style {
    let plain = Style::new();
    match (level, colors) {
        (Level::Plain, _) => plain,
        (Level::Quiet, _) => plain.add_modifier(Modifier::DIM),
        (Level::Warning, true) => plain.fg(Color::Yellow),
        (Level::Bad, true) => plain.fg(Color::Red),
        (Level::Warning | Level::Bad, false) => plain.add_modifier(Modifier::BOLD),
    }
}
