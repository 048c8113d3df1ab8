//! What of the operations that were not synced a power cut leaves: a random part, within what file
//! systems do.
//!
//! - Content: each block of a file, a sector or a page, is on the disk as it was at some moment since
//!   the last sync, whatever the other blocks are. The file's size is, too: what it covers and no
//!   block fills is zeros.
//! - Names: of each directory, all changes up to some moment, and none after it. In half of the cuts
//!   that moment is the same for all directories, as with a journal of metadata.

use std::mem;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::image::{FileOp, Image, NodeKind};

/// What a disk writes as a whole.
const SECTOR: usize = 512;
/// What the page cache writes as a whole, as long as the power is on.
const PAGE: usize = 4096;

impl Image {
    /// Makes a random part of what was not synced durable; the rest never happened.
    pub(super) fn keep_parts(&mut self, draw: &mut StdRng) {
        let changes = self.nodes.iter().flat_map(|(kind, _)| match kind {
            NodeKind::Folder(folder) => &folder.pending[..],
            _ => &[],
        });
        let moments: Vec<u64> = changes.map(|(at, _)| *at).collect();
        let journal = draw.random_bool(0.5).then(|| moment(&moments, draw));
        for (kind, _) in &mut self.nodes {
            match kind {
                NodeKind::File(file) => {
                    let pending = mem::take(&mut file.pending);
                    let ops: Vec<FileOp> = pending.into_iter().map(|(_, op)| op).collect();
                    keep_blocks(&mut file.durable, &ops, draw);
                }
                NodeKind::Folder(folder) => {
                    let moments: Vec<u64> = folder.pending.iter().map(|(at, _)| *at).collect();
                    let before = journal.unwrap_or_else(|| moment(&moments, draw));
                    folder.sync(before);
                    folder.pending.clear();
                }
                NodeKind::Link(_) => {}
            }
        }
    }
}

/// Draws the moment before which changes are kept. Those of one operation, as the two of a rename,
/// are of one moment.
fn moment(moments: &[u64], draw: &mut StdRng) -> u64 {
    let at = draw.random_range(0..=moments.len());
    moments.get(at).copied().unwrap_or(u64::MAX)
}

/// Draws a number of operations, of `count`: often none or all.
fn drawn(count: usize, draw: &mut StdRng) -> usize {
    match draw.random_range(0..3) {
        0 => 0,
        1 => count,
        _ => draw.random_range(0..=count),
    }
}

fn keep_blocks(content: &mut Vec<u8>, ops: &[FileOp], draw: &mut StdRng) {
    if ops.is_empty() {
        return;
    }
    let mut sizes = vec![content.len()];
    for (n, op) in ops.iter().enumerate() {
        let size = sizes[n];
        sizes.push(match op {
            FileOp::Write(from, data) => size.max(from + data.len()),
            FileOp::Truncate(bytes) => *bytes,
            FileOp::Extend(bytes) => size.max(*bytes),
            FileOp::Zero(..) => size,
        });
    }
    let size = sizes[drawn(ops.len(), draw)];
    let most = sizes.iter().copied().max().unwrap_or(0);
    content.resize(most, 0);
    let block = match draw.random_bool(0.5) {
        true => SECTOR,
        false => PAGE,
    };
    // How many of the operations each block has seen.
    let blocks = 0..most.div_ceil(block);
    let seen: Vec<usize> = blocks.map(|_| drawn(ops.len(), draw)).collect();
    for (n, op) in ops.iter().enumerate() {
        let (from, to) = match op {
            FileOp::Write(from, data) => (*from, from + data.len()),
            FileOp::Truncate(bytes) => (*bytes, most),
            FileOp::Extend(_) => continue,
            FileOp::Zero(from, bytes) => (*from, (from + bytes).min(sizes[n])),
        };
        let mut at = from;
        while at < to {
            let end = to.min((at / block + 1) * block);
            if seen[at / block] > n {
                match op {
                    FileOp::Write(_, data) => {
                        content[at..end].copy_from_slice(&data[at - from..end - from]);
                    }
                    _ => content[at..end].fill(0),
                }
            }
            at = end;
        }
    }
    content.truncate(size);
}
