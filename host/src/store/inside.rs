//! Whether one path is inside of another.

use std::io;
use std::path::Path;

/// Whether a path, which need not exist, is a folder that does, or inside of it.
pub(super) fn is_inside(path: &Path, folder: &Path) -> io::Result<bool> {
    let folder = folder.canonicalize()?;
    let path = std::path::absolute(path)?;
    let existing = path.ancestors().find_map(|above| above.canonicalize().ok());
    Ok(existing.is_some_and(|above| above.starts_with(folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_followed_through_links_as_far_as_it_exists() {
        let home = tempfile::tempdir().unwrap();
        let (folder, link) = (home.path().join("a"), home.path().join("l"));
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        for inside in [&folder, &link, &folder.join("b/c"), &link.join("b")] {
            assert!(is_inside(inside, &folder).unwrap(), "{}", inside.display());
        }
        for outside in [home.path().to_owned(), home.path().join("ab")] {
            assert!(!is_inside(&outside, &folder).unwrap());
        }
        assert!(is_inside(&folder, &home.path().join("none")).is_err());
    }
}
