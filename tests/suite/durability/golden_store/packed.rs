//! A data folder as it lies in the repository: each of its files compressed, without those that hold
//! nothing of the sessions.

use std::fs;
use std::path::{Path, PathBuf};

use async_compression::Level;
use async_compression::tokio::bufread::{GzipDecoder, GzipEncoder};
use tokio::io::AsyncReadExt as _;

/// What the ends of compressed files' names are.
const PACKED: &str = ".gz";
/// What a daemon makes anew, or does without: among it paths of the machine, and space for a full disk.
const LEFT_OUT: &[&str] = &["LOCK", "RESERVE", "CLOCK", "last-good", "cache", "configs"];
/// The beginnings of the names of RocksDB's own reports and settings.
const ROCKSDB_LEFT_OUT: &[&str] = &["LOG", "OPTIONS"];

const OURS: &str = "the folders are ours";

/// Packs the data folder `from` into `to`; of the plugins' components only `component`.
pub(super) async fn pack(from: &Path, to: &Path, component: &[u8]) {
    for (path, bytes) in files(from) {
        let name = path.file_name().expect("a file has a name");
        let name = name.to_string_lossy();
        let left_out = path
            .iter()
            .any(|part| LEFT_OUT.iter().any(|out| part == *out))
            || ROCKSDB_LEFT_OUT.iter().any(|out| name.starts_with(out));
        if left_out || (path.starts_with("components") && bytes != component) {
            continue;
        }
        let mut packed = Vec::new();
        let mut encoder = GzipEncoder::with_quality(&bytes[..], Level::Best);
        encoder
            .read_to_end(&mut packed)
            .await
            .expect("memory is written");
        let target = to.join(path.with_file_name(format!("{name}{PACKED}")));
        fs::create_dir_all(target.parent().expect("it is below a folder")).expect(OURS);
        fs::write(target, packed).expect(OURS);
    }
}

/// Unpacks a folder.
pub(super) async fn unpack(from: &Path, to: &Path) {
    for (path, packed) in files(from) {
        let name = path.file_name().expect("a file has a name");
        let name = name.to_string_lossy();
        let Some(name) = name.strip_suffix(PACKED) else {
            continue;
        };
        let mut bytes = Vec::new();
        let mut decoder = GzipDecoder::new(&packed[..]);
        let read = decoder.read_to_end(&mut bytes).await;
        read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let target = to.join(path.with_file_name(name));
        fs::create_dir_all(target.parent().expect("it is below a folder")).expect(OURS);
        fs::write(target, bytes).expect(OURS);
    }
}

/// Returns the files of a folder, by their paths in it, with their content.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(folder.join(&inner)).expect(OURS) {
            let entry = entry.expect(OURS);
            let path = inner.join(entry.file_name());
            match entry.file_type().expect(OURS).is_dir() {
                true => folders.push(path),
                false => found.push((path, fs::read(entry.path()).expect(OURS))),
            }
        }
    }
    found
}
