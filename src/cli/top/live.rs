//! The view on a terminal: it draws, reads keys, and gives the terminal back, however it ends.

use std::io::{self, IsTerminal as _, Stdout};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::draw::draw;
use super::rows::table;
use super::source::Source;
use super::state::{State, action};

/// How long it waits for a key before it looks at signals.
const POLL: Duration = Duration::from_millis(100);
/// How often numbers are read again, at most.
const EVERY: Duration = Duration::from_secs(1);
/// Reading takes no more than this part of the time, however large the map is.
const SPARE: u32 = 10;

/// The terminal has been taken and not been given back.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal while it is drawn on. Dropping it gives it back.
struct Screen(Terminal<CrosstermBackend<Stdout>>);

/// Whether there is a terminal to draw on and to read keys from.
pub(super) fn is_possible() -> bool {
    io::stdout().is_terminal() && io::stdin().is_terminal()
}

/// Signals that end the view. A second one ends nothing more: the terminal has to be given back first.
pub(super) fn stop_signal() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::<AtomicBool>::default();
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Draws until it is ended by a key, a signal, or a panic of any thread.
///
/// # Errors
/// When the terminal cannot be used, or a thread has panicked.
pub(super) fn run(source: &mut Source, mut state: State, stop: &AtomicBool) -> io::Result<()> {
    let colors = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let panicked = give_back_on_panic();
    let mut screen = Screen::new()?;
    let mut snapshot = source.snapshot(state.tenant.as_deref(), &[state.tab]);
    let mut next = Instant::now() + EVERY;
    while !state.ended && !stop.load(Ordering::Relaxed) && !panicked.load(Ordering::Relaxed) {
        let shown = table(&snapshot, state.tab);
        screen.0.draw(|frame| draw(frame, &mut state, &snapshot, &shown, colors))?;
        let before = (state.tab, state.tenant.clone());
        let left = next.saturating_duration_since(Instant::now()).min(POLL);
        // All keys that are there, and then one picture.
        let mut wait = left;
        while event::poll(wait)? {
            wait = Duration::ZERO;
            if let Event::Key(key) = event::read()?
                && let Some(action) = action(key, state.typing())
            {
                state.apply(action, &shown, &snapshot.tenants);
            }
            if (state.tab, &state.tenant) != (before.0, &before.1) {
                break;
            }
        }
        let changed = (state.tab, &state.tenant) != (before.0, &before.1);
        if changed || (!state.paused && Instant::now() >= next) {
            let began = Instant::now();
            snapshot = source.snapshot(state.tenant.as_deref(), &[state.tab]);
            next = Instant::now() + EVERY.max(began.elapsed() * SPARE);
        }
    }
    drop(screen);
    if panicked.load(Ordering::Relaxed) {
        return Err(io::Error::other("a thread has panicked: its message is above; please report it"));
    }
    Ok(())
}

/// Before the message of a panic the terminal is given back, or else nothing of it could be read. Returns whether there was one.
fn give_back_on_panic() -> Arc<AtomicBool> {
    let panicked = Arc::<AtomicBool>::default();
    let (flag, former) = (Arc::clone(&panicked), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        flag.store(true, Ordering::Relaxed);
        give_back();
        former(info);
    }));
    panicked
}

/// Once: leaving the alternate screen moves the cursor, and a message may stand there.
fn give_back() {
    if !TAKEN.swap(false, Ordering::Relaxed) {
        return;
    }
    // A terminal that is gone needs nothing.
    disable_raw_mode().unwrap_or_default();
    execute!(io::stdout(), LeaveAlternateScreen, Show).unwrap_or_default();
}

// === impl Screen ===

impl Screen {
    fn new() -> io::Result<Self> {
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::Relaxed);
        let begun = execute!(io::stdout(), EnterAlternateScreen);
        let terminal = begun.and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        terminal.map(Self).inspect_err(|_| give_back())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}
