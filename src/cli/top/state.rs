//! What the view shows, and what keys do to it: pure.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::rows::first_sort;
use super::table::{Sort, Table};

/// A filter is no longer than this many characters.
const LONGEST_FILTER: usize = 100;

/// A tab of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Tab {
    /// Services: rate, errors, quantiles.
    Services,
    /// Edges: the same of calls between services.
    Edges,
    /// Partitions: owner, lag, age of their time, as `spanmill topics` shows them.
    Partitions,
    /// Series by tenant and metric.
    Series,
    /// The operations and edges with most label sets.
    LabelSets,
    /// Samples by shard: how far the steps are that receivers have stored, and what waits.
    Samples,
}

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Show(Tab),
    NextTab(isize),
    /// Moves the selection by rows.
    Move(isize),
    /// Moves it by pages.
    Page(isize),
    First,
    Last,
    /// The next or former column to sort by.
    SortBy(isize),
    Reverse,
    Wide,
    Pause,
    Tenant(isize),
    Help,
    /// Closes help, or removes the filter.
    Back,
    Filter,
    Type(char),
    Erase,
    /// Keeps the filter that was typed.
    Keep,
    /// Returns to the former filter.
    Discard,
}

/// What is chosen on a tab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Choice {
    sort: Sort,
    selected: usize,
    offset: usize,
}

/// The state of the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) tab: Tab,
    choices: [Choice; Tab::ALL.len()],
    pub(super) filter: String,
    /// The filter before typing began.
    former: Option<String>,
    pub(super) help: bool,
    pub(super) wide: bool,
    pub(super) paused: bool,
    /// The tenant that is shown; `None`: the first one.
    pub(super) tenant: Option<String>,
    pub(super) ended: bool,
    /// The rows that fit, as drawn last.
    page: usize,
}

// === impl Tab ===

impl Tab {
    /// All of them, in order.
    pub(super) const ALL: [Self; 6] =
        [Self::Services, Self::Edges, Self::Partitions, Self::Series, Self::LabelSets, Self::Samples];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Edges => "edges",
            Self::Partitions => "partitions",
            Self::Series => "series",
            Self::LabelSets => "label sets",
            Self::Samples => "samples",
        }
    }

    /// Its field in JSON.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::LabelSets => "label_sets",
            other => other.title(),
        }
    }

    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// Whether it shows what the partitions and their journals hold, and nothing of the map.
    pub(super) fn is_of_partitions(self) -> bool {
        matches!(self, Self::Partitions | Self::Samples)
    }

    fn moved(self, by: isize) -> Self {
        Self::ALL[moved(self.index(), by, Self::ALL.len())]
    }
}

/// The place `by` further, around the ends.
fn moved(from: usize, by: isize, len: usize) -> usize {
    (from as isize + by).rem_euclid(len.max(1) as isize).unsigned_abs()
}

/// What a key does; `typing`: into the filter.
pub(super) fn action(key: KeyEvent, typing: bool) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if control => return Some(Action::Quit),
        KeyCode::Char(_) if control => return None,
        _ => {}
    }
    if typing {
        return match key.code {
            KeyCode::Char(c) => Some(Action::Type(c)),
            KeyCode::Backspace => Some(Action::Erase),
            KeyCode::Enter => Some(Action::Keep),
            KeyCode::Esc => Some(Action::Discard),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Char(c @ '1'..='6') => Action::Show(Tab::ALL[c as usize - '1' as usize]),
        KeyCode::Tab => Action::NextTab(1),
        KeyCode::BackTab => Action::NextTab(-1),
        KeyCode::Down | KeyCode::Char('j') => Action::Move(1),
        KeyCode::Up | KeyCode::Char('k') => Action::Move(-1),
        KeyCode::PageDown => Action::Page(1),
        KeyCode::PageUp => Action::Page(-1),
        KeyCode::Home | KeyCode::Char('g') => Action::First,
        KeyCode::End | KeyCode::Char('G') => Action::Last,
        KeyCode::Right | KeyCode::Char('>' | 's') => Action::SortBy(1),
        KeyCode::Left | KeyCode::Char('<' | 'S') => Action::SortBy(-1),
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Char('w') => Action::Wide,
        KeyCode::Char(' ') => Action::Pause,
        KeyCode::Char('t') => Action::Tenant(1),
        KeyCode::Char('T') => Action::Tenant(-1),
        KeyCode::Char('?' | 'h') => Action::Help,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Esc => Action::Back,
        _ => return None,
    })
}

// === impl State ===

impl State {
    pub(super) fn new(tab: Tab, tenant: Option<String>, wide: bool) -> Self {
        let choices = Tab::ALL.map(|tab| Choice { sort: first_sort(tab), selected: 0, offset: 0 });
        Self {
            tab,
            choices,
            filter: String::new(),
            former: None,
            help: false,
            wide,
            paused: false,
            tenant,
            ended: false,
            page: 1,
        }
    }

    pub(super) fn typing(&self) -> bool {
        self.former.is_some()
    }

    pub(super) fn sort(&self) -> Sort {
        self.choice().sort
    }

    /// Does what a key asks for, on the table that is shown; `tenants` are those that there are.
    pub(super) fn apply(&mut self, action: Action, table: &Table, tenants: &[String]) {
        let rows = table.view(self.sort(), &self.filter).len();
        let page = self.page;
        match action {
            Action::Quit => self.ended = true,
            Action::Show(tab) => self.tab = tab,
            Action::NextTab(by) => self.tab = self.tab.moved(by),
            Action::Move(by) => self.select(rows, by),
            Action::Page(by) => self.select(rows, by * page as isize),
            Action::First => self.choice_mut().selected = 0,
            Action::Last => self.choice_mut().selected = rows.saturating_sub(1),
            Action::SortBy(by) => self.sort_by(table, by),
            Action::Reverse => {
                let sort = &mut self.choice_mut().sort;
                sort.descending = !sort.descending;
            }
            Action::Wide => self.wide = !self.wide,
            Action::Pause => self.paused = !self.paused,
            Action::Tenant(by) => self.choose_tenant(tenants, by),
            Action::Help => self.help = !self.help,
            Action::Back if self.help => self.help = false,
            Action::Back => self.filter.clear(),
            Action::Filter => self.former = Some(self.filter.clone()),
            Action::Type(c) if self.filter.chars().count() < LONGEST_FILTER => self.filter.push(c),
            Action::Type(_) => {}
            Action::Erase => drop(self.filter.pop()),
            Action::Keep => self.former = None,
            Action::Discard => self.filter = self.former.take().unwrap_or_default(),
        }
    }

    /// The rows to draw of `rows`, where `page` fit: the first one, and the selected one.
    pub(super) fn window(&mut self, rows: usize, page: usize) -> (usize, usize) {
        let page = page.max(1);
        self.page = page;
        let choice = self.choice_mut();
        choice.selected = choice.selected.min(rows.saturating_sub(1));
        let last = rows.saturating_sub(page);
        let lowest = (choice.selected + 1).saturating_sub(page);
        choice.offset = choice.offset.clamp(lowest, choice.selected.max(lowest)).min(last);
        (choice.offset, choice.selected)
    }

    fn choice(&self) -> Choice {
        self.choices[self.tab.index()]
    }

    fn choice_mut(&mut self) -> &mut Choice {
        &mut self.choices[self.tab.index()]
    }

    fn select(&mut self, rows: usize, by: isize) {
        let choice = self.choice_mut();
        choice.selected = choice.selected.saturating_add_signed(by).min(rows.saturating_sub(1));
    }

    fn sort_by(&mut self, table: &Table, by: isize) {
        let shown = table.shown(self.wide);
        let column = self.sort().column;
        let next = match shown.iter().position(|&of| of == column) {
            Some(at) => moved(at, by, shown.len()),
            None if by > 0 => 0,
            None => shown.len().saturating_sub(1),
        };
        let Some(&column) = shown.get(next) else { return };
        // Of numbers the greatest are wanted, of texts the first.
        let descending = table.columns.get(column).is_some_and(|column| column.is_number);
        self.choice_mut().sort = Sort { column, descending };
    }

    fn choose_tenant(&mut self, tenants: &[String], by: isize) {
        let at = self.tenant.as_ref().and_then(|tenant| tenants.iter().position(|of| of == tenant)).unwrap_or(0);
        if let Some(tenant) = tenants.get(moved(at, by, tenants.len())) {
            self.tenant = Some(tenant.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::table::{Cell, Column, Level, Row};

    fn table(rows: usize) -> Table {
        let row = |n: usize| Row {
            cells: vec![Cell::text(format!("row {n}")), Cell::number(Some(n as f64), n.to_string())],
            level: Level::Plain,
        };
        let columns = vec![Column::text("NAME"), Column::number("N")];
        Table { columns, rows: (0..rows).map(row).collect(), notes: Vec::new() }
    }

    /// Presses keys one after the other.
    fn press(state: &mut State, keys: &[KeyCode]) {
        for &code in keys {
            let key = KeyEvent::new(code, KeyModifiers::NONE);
            if let Some(action) = action(key, state.typing()) {
                state.apply(action, &table(20), &["a".to_owned(), "b".to_owned()]);
            }
        }
    }

    fn typed(text: &str) -> Vec<KeyCode> {
        text.chars().map(KeyCode::Char).collect()
    }

    fn fresh() -> State {
        State::new(Tab::Services, None, false)
    }

    #[test]
    fn numbers_and_tab_change_the_tab_around_the_ends() {
        let mut state = fresh();
        press(&mut state, &typed("3"));
        assert_eq!(state.tab, Tab::Partitions);
        press(&mut state, &[KeyCode::Tab, KeyCode::Tab, KeyCode::Tab, KeyCode::Tab]);
        assert_eq!(state.tab, Tab::Services);
        press(&mut state, &[KeyCode::BackTab]);
        assert_eq!(state.tab, Tab::Samples);
    }

    #[test]
    fn a_filter_is_typed_kept_discarded_and_removed() {
        let mut state = fresh();
        press(&mut state, &typed("/cartq"));
        assert!(state.typing() && !state.ended, "q is a letter here");
        press(&mut state, &[KeyCode::Backspace, KeyCode::Enter]);
        assert_eq!((&*state.filter, state.typing()), ("cart", false));
        press(&mut state, &[KeyCode::Char('/'), KeyCode::Char('s'), KeyCode::Esc]);
        assert_eq!(state.filter, "cart", "what was typed is discarded");
        press(&mut state, &[KeyCode::Esc]);
        assert_eq!(state.filter, "");
        press(&mut state, &[KeyCode::Char('/')]);
        press(&mut state, &typed(&"x".repeat(2 * LONGEST_FILTER)));
        assert_eq!(state.filter.len(), LONGEST_FILTER);
    }

    #[test]
    fn every_tab_has_its_own_sort_and_selection() {
        let mut state = fresh();
        let first = state.sort();
        assert_eq!(first, Sort { column: 1, descending: true });
        press(&mut state, &typed("r"));
        assert_eq!(state.sort(), Sort { column: 1, descending: false });
        press(&mut state, &typed("s"));
        assert_eq!(state.sort(), Sort { column: 0, descending: false }, "around the end; texts ascend");
        press(&mut state, &typed("<jj2"));
        assert_eq!(state.sort(), first_sort(Tab::Edges));
        assert_eq!(state.window(20, 5), (0, 0));
        press(&mut state, &typed("1"));
        assert_eq!((state.sort(), state.window(20, 5)), (first, (0, 2)));
    }

    #[test]
    fn the_window_follows_the_selection_and_rows_that_vanish() {
        let mut state = fresh();
        assert_eq!(state.window(20, 5), (0, 0));
        press(&mut state, &[KeyCode::End]);
        assert_eq!(state.window(20, 5), (15, 19));
        press(&mut state, &[KeyCode::PageUp]);
        assert_eq!(state.window(20, 5), (14, 14));
        assert_eq!(state.window(3, 5), (0, 2));
        assert_eq!(state.window(0, 5), (0, 0));
        press(&mut state, &[KeyCode::Up, KeyCode::Home]);
        assert_eq!(state.window(20, 0), (0, 0), "a terminal without room");
    }

    #[test]
    fn tenants_are_chosen_one_after_the_other() {
        let mut state = fresh();
        press(&mut state, &typed("t"));
        assert_eq!(state.tenant.as_deref(), Some("b"), "the first one was shown");
        press(&mut state, &typed("t"));
        assert_eq!(state.tenant.as_deref(), Some("a"));
        press(&mut state, &typed("T"));
        assert_eq!(state.tenant.as_deref(), Some("b"));
        let mut alone = fresh();
        alone.apply(Action::Tenant(1), &table(1), &[]);
        assert_eq!(alone.tenant, None);
    }

    #[test]
    fn q_and_control_c_end_it_and_releases_of_keys_do_nothing() {
        for (code, modifiers) in [('q', KeyModifiers::NONE), ('c', KeyModifiers::CONTROL)] {
            let mut state = fresh();
            let key = KeyEvent::new(KeyCode::Char(code), modifiers);
            state.apply(action(key, false).expect("an action"), &table(1), &[]);
            assert!(state.ended);
            assert_eq!(action(KeyEvent { kind: KeyEventKind::Release, ..key }, false), None);
        }
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(action(control, true), Some(Action::Quit), "also while a filter is typed");
    }
}
