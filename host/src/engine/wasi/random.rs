//! The guest's randomness, derived from the turn's seed, so that a replayed turn draws the same
//! numbers. It is SHA-256 over seed and counter, which no crate upgrade can change while a turn is
//! open.

use sha2::{Digest as _, Sha256};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

/// The maximum number of bytes that one call returns.
const DRAW_MAX_BYTES: u64 = 1 << 20;

/// A byte stream that is determined by its seed.
pub(in crate::engine) struct Entropy {
    seed: u64,
    blocks: u64,
    block: [u8; 32],
    /// The number of bytes of `block` that have been used.
    used: usize,
}

impl Entropy {
    pub(in crate::engine) fn new(seed: u64) -> Self {
        Self {
            seed,
            blocks: 0,
            block: [0; 32],
            used: 32,
        }
    }

    fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.used == self.block.len() {
                let mut hasher = Sha256::new();
                hasher.update(b"abide turn randomness");
                hasher.update(self.seed.to_le_bytes());
                hasher.update(self.blocks.to_le_bytes());
                self.block = hasher.finalize().into();
                self.blocks += 1;
                self.used = 0;
            }
            let n = out.len().min(self.block.len() - self.used);
            let (now, later) = out.split_at_mut(n);
            now.copy_from_slice(&self.block[self.used..self.used + n]);
            self.used += n;
            out = later;
        }
    }

    fn bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        if len > DRAW_MAX_BYTES {
            wasmtime::bail!(
                "the guest drew {len} random bytes at once; at most {DRAW_MAX_BYTES} are given"
            );
        }
        let mut bytes = vec![0; len as usize];
        self.fill(&mut bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

impl random::Host for Entropy {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.number())
    }
}

impl insecure::Host for Entropy {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.number())
    }
}

impl insecure_seed::Host for Entropy {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.number(), self.number()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_seed_s_and_nothing_else_s() {
        let mut whole = [0; 100];
        Entropy::new(7).fill(&mut whole);
        let mut pieces = [0; 100];
        let mut entropy = Entropy::new(7);
        for piece in pieces.chunks_mut(7) {
            entropy.fill(piece);
        }
        assert_eq!(whole, pieces);
        assert_ne!(Entropy::new(8).number(), Entropy::new(7).number());
        // Fixed values, because an open turn must draw the same bytes after an upgrade.
        assert_eq!(whole[..4], [140, 87, 132, 188]);
    }

    #[test]
    fn one_draw_is_bounded() {
        assert!(Entropy::new(7).bytes(DRAW_MAX_BYTES + 1).is_err());
    }
}
