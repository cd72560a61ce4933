//! MD5 (RFC 1321), which `hashmod` divides series by in Prometheus. Not for anything that must be hard to find.

/// By how much each round of four steps turns.
const TURNS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
const BLOCK: usize = 64;
/// Where the length stands in the last block.
const LENGTH_AT: usize = 56;

/// The last eight bytes of the digest as a number, which is what Prometheus takes.
pub(super) fn tail(text: &[u8]) -> u64 {
    let [_, _, c, d] = digest(text);
    u64::from(c.swap_bytes()) << 32 | u64::from(d.swap_bytes())
}

/// The digest as four words, the first byte of each the least significant one.
fn digest(text: &[u8]) -> [u32; 4] {
    let mut padded = text.to_vec();
    padded.push(0x80);
    while padded.len() % BLOCK != LENGTH_AT {
        padded.push(0);
    }
    padded.extend_from_slice(&(text.len() as u64).wrapping_mul(8).to_le_bytes());
    let (blocks, _) = padded.as_chunks::<BLOCK>();
    blocks.iter().fold(START, mix)
}

fn mix(state: [u32; 4], block: &[u8; BLOCK]) -> [u32; 4] {
    let (words, _) = block.as_chunks::<4>();
    let words: Vec<u32> = words.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    let [mut a, mut b, mut c, mut d] = state;
    for step in 0..BLOCK {
        let (function, word) = match step / 16 {
            0 => ((b & c) | (!b & d), step),
            1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
            2 => (b ^ c ^ d, (3 * step + 5) % 16),
            _ => (c ^ (b | !d), (7 * step) % 16),
        };
        let sum = a.wrapping_add(function).wrapping_add(constant(step)).wrapping_add(words[word]);
        (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left(TURNS[step / 16][step % 4])));
    }
    let mixed = [a, b, c, d];
    std::array::from_fn(|i| state[i].wrapping_add(mixed[i]))
}

/// The whole part of 2^32 times the sine of `step + 1`, without its sign.
fn constant(step: usize) -> u32 {
    const POWER: f64 = 4_294_967_296.0;
    (((step + 1) as f64).sin().abs() * POWER) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_rfc() {
        let long = "1234567890".repeat(8);
        for (text, expected) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "d174ab98d277d9f5a5611c2c9f419d9f"),
            (&long, "57edf4a22be3c955ac49da2e2107b67a"),
        ] {
            let hex: String = digest(text.as_bytes()).iter().map(|word| format!("{:08x}", word.swap_bytes())).collect();
            assert_eq!(hex, expected, "{text:?}");
            assert_eq!(format!("{:016x}", tail(text.as_bytes())), expected.split_at(16).1, "{text:?}");
        }
    }
}
