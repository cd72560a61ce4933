//! The input of an attacker who knows the source of spanmill, and wants tables to be slow or counts to be wrong.
#![allow(dead_code, reason = "each user needs a part of it")]

use xxhash_rust::xxh3::xxh3_64;

/// The constants that hashes were once made with, without a seed.
const ODD: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

/// `count` texts of `len` bytes, at most 50, that have one XXH3-128 hash when they stand at byte `at` of what is hashed.
///
/// Two lanes of XXH3 are multiplied with their own high and low half, after a public secret was added. Where the high half
/// is that of the secret, the product is zero whatever the low half is; and what the low half adds to the sum, another
/// such lane takes away again.
pub(crate) fn texts_of_one_xxh3(count: u8, at: usize, len: usize) -> Vec<String> {
    assert!(count <= 50 && at < 190 && at + len > 530, "words 3 and 7 must lie in the text");
    let text = |n: u8| {
        let mut bytes = vec![b'x'; len];
        // The high halves of words 3 and 7 of the secret are UTF-8 with a byte before them.
        let mut put = |place: usize, what: &[u8]| bytes[place - at..place - at + what.len()].copy_from_slice(what);
        put(64 * 3, &[b'A' + n, b'b', b'c', 0xe1, 0xb7, 0xb3, 0x67, 0x1f]);
        put(64 * 7, &[b's' - n, b'q', b'r', 0xc2, 0x81, 0x3a, 0x26, 0x4c]);
        String::from_utf8(bytes).expect("UTF-8")
    };
    (0..count).map(text).collect()
}

/// A service, and span names that had one hash in the delta tables of a tenant: the first eight bytes made a factor zero,
/// and the next eight were lost with it.
pub(crate) fn names_of_one_old_hash(tenant: &str, count: usize) -> (String, Vec<String>) {
    let first = |service: &str| {
        let parts = [tenant, service].map(|part| [&[part.len() as u8], part.as_bytes()].concat());
        let state = xxh3_64(&[b"s".as_slice(), &parts.concat()].concat());
        String::from_utf8((state ^ ODD[0]).to_le_bytes().to_vec()).ok()
    };
    let found = (0..1_000_000).find_map(|n| {
        let service = format!("s{n}");
        Some((first(&service)?, service))
    });
    let (zero, service) = found.expect("one in 256 is ASCII");
    (service, (0..count).map(|n| format!("{zero}{n:08}.")).collect())
}

/// Trace IDs that had one hash among the pending edges, each with the same span ID.
pub(crate) fn traces_of_one_old_hash(count: u64) -> Vec<[u8; 16]> {
    let trace = |n: u64| [ODD[0].to_le_bytes(), (n + 1).to_le_bytes()].concat().try_into().expect("16 bytes");
    (0..count).map(trace).collect()
}
