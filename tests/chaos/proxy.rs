//! The network between the workers and everything else: one link per broker, and one to the receiver. A link can be slow,
//! be cut, refuse, or hold what it carries back in either direction.
//!
//! What is held back is not lost: it arrives when the link heals, also when the sender has given up meanwhile. So a
//! request that its sender took for lost can still reach a broker, late, as on a real network.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the far end may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The most bytes that are carried at once.
const CHUNK: usize = 64 << 10;

/// What a link does to the bytes that pass it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weather {
    /// What the clients say stays on the way.
    pub hold_up: bool,
    /// What the server answers stays on the way.
    pub hold_down: bool,
    /// New connections are closed at once.
    pub refuse: bool,
    /// Each piece is late by this much.
    pub delay: Duration,
}

/// The direction of bytes.
#[derive(Debug, Clone, Copy)]
enum Way {
    Up,
    Down,
}

/// One way to one server. It lives as long as the process.
#[derive(Clone)]
pub struct Link {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    inside: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Default)]
struct Inside {
    weather: Weather,
    /// Both ends of every open connection.
    open: Vec<(u64, TcpStream, TcpStream)>,
    connections: u64,
}

// === impl Link ===

impl Link {
    /// Listens on a free port of loopback and carries everything to `target`.
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { target, inside: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || drop(shared.connect(stream)));
            }
        });
        Self { addr, shared }
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes the weather; connections stay.
    pub fn set(&self, weather: Weather) {
        self.shared.inside().weather = weather;
        self.shared.changed.notify_all();
    }

    /// Ends every connection, in the middle of whatever it carries.
    pub fn cut(&self) {
        for (_, a, b) in std::mem::take(&mut self.shared.inside().open) {
            // They may have ended by themselves.
            drop(a.shutdown(Shutdown::Both));
            drop(b.shutdown(Shutdown::Both));
        }
    }
}

// === impl Shared ===

impl Shared {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        if self.inside().weather.refuse {
            return Ok(());
        }
        let server = TcpStream::connect_timeout(&self.target, CONNECT_TIMEOUT)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let id = {
            let (a, b) = (client.try_clone()?, server.try_clone()?);
            let mut inside = self.inside();
            inside.connections += 1;
            let id = inside.connections;
            inside.open.push((id, a, b));
            id
        };
        let (shared, from, to) = (Arc::clone(self), server.try_clone()?, client.try_clone()?);
        let down = std::thread::spawn(move || shared.carry(Way::Down, from, to));
        self.carry(Way::Up, client, server);
        drop(down.join());
        self.inside().open.retain(|(open, ..)| *open != id);
        Ok(())
    }

    fn carry(&self, way: Way, mut from: TcpStream, mut to: TcpStream) {
        let mut chunk = vec![0; CHUNK];
        loop {
            // An error ends a connection as its end does.
            let n = from.read(&mut chunk).unwrap_or(0);
            self.pass(way);
            if n == 0 || to.write_all(&chunk[..n]).is_err() {
                break;
            }
        }
        drop(to.shutdown(Shutdown::Write));
        drop(from.shutdown(Shutdown::Read));
    }

    /// Returns when the weather lets bytes pass.
    fn pass(&self, way: Way) {
        let held = |inside: &mut Inside| match way {
            Way::Up => inside.weather.hold_up,
            Way::Down => inside.weather.hold_down,
        };
        let inside = self.changed.wait_while(self.inside(), held).unwrap_or_else(PoisonError::into_inner);
        let delay = inside.weather.delay;
        drop(inside);
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
    }
}
