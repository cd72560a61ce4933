//! An allocator that counts.
//!
//! The only place that needs `unsafe`: `GlobalAlloc` is unsafe to implement. This one hands every call on to the system's
//! allocator unchanged, so it promises what that one promises.
#![allow(dead_code, reason = "a test and a benchmark take what they need")]
#![allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait; see above")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// Counts what each thread asks for, so that tests on threads of their own do not disturb each other.
struct Counting;

/// Whether it counts: in tests always; a benchmark that takes the time does not want to pay for it.
static ON: AtomicBool = AtomicBool::new(cfg!(test));

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// What the thread holds.
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to `System` as it came, and its answer goes back as it is. Counting touches a thread-local cell
// that is initialized at compile time and has no destructor, so it neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(0, layout.size());
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        hold(-taken(layout.size()));
        // SAFETY: the caller keeps `dealloc`'s contract, and `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(layout.size(), new_size);
        // SAFETY: the caller keeps `realloc`'s contract, and `ptr` came from `System`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[inline]
fn count(before: usize, after: usize) {
    if ON.load(Ordering::Relaxed) {
        let _gone = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        hold(taken(after) - taken(before));
    }
}

#[inline]
fn hold(bytes: i64) {
    if ON.load(Ordering::Relaxed) {
        let _gone = BYTES.try_with(|n| n.set(n.get() + bytes));
    }
}

/// What glibc takes for so many bytes: a word of its own, in sixteens.
fn taken(bytes: usize) -> i64 {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) as i64 }
}

/// Begins to count, or ends it.
pub(crate) fn count_from_now_on(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

/// The bytes that what `make` returns holds.
pub(crate) fn held<T>(make: impl FnOnce() -> T) -> (T, i64) {
    let before = BYTES.get();
    let made = make();
    (made, BYTES.get() - before)
}

/// How often `work` allocates.
pub(crate) fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}
