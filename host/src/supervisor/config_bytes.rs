//! Config bytes in a sealed memory file (memfd): they cross process boundaries as one descriptor,
//! whatever their size, and no process can change them on the way.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

/// The maximum size of a config, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 16 * 1024 * 1024;

/// The bytes of a config, in a sealed memory file.
#[derive(Debug)]
pub struct ConfigBytes(OwnedFd);

impl ConfigBytes {
    /// Copies `bytes` into a memory file and seals it.
    ///
    /// # Errors
    /// If `bytes` exceed [`MAX_CONFIG_BYTES`], or the kernel has no memory or descriptor left.
    pub fn new(bytes: &[u8]) -> io::Result<Self> {
        if bytes.len() as u64 > MAX_CONFIG_BYTES {
            return Err(too_large(bytes.len() as u64));
        }
        let fd = memfd_create(
            "abide-config",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        let mut file = File::from(fd);
        file.write_all(bytes)?;
        fcntl_add_seals(&file, seals())?;
        Ok(Self(file.into()))
    }

    /// Takes ownership of a received descriptor.
    ///
    /// # Errors
    /// If it is not a memory file sealed against changes, or exceeds [`MAX_CONFIG_BYTES`].
    pub(super) fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let sealed = fcntl_get_seals(&fd).is_ok_and(|have| have.contains(seals()));
        if !sealed {
            return Err(io::Error::other("the config is not a sealed memory file"));
        }
        let file = File::from(fd);
        let length = file.metadata()?.len();
        if length > MAX_CONFIG_BYTES {
            return Err(too_large(length));
        }
        Ok(Self(file.into()))
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// If they cannot be read, which should not happen with a memory file.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let file = File::from(self.0.try_clone()?);
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        // Not `read`: the file position is shared with every process that holds the descriptor.
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Returns a second handle to the same bytes.
    ///
    /// # Errors
    /// If no descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }
}

impl AsFd for ConfigBytes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<ConfigBytes> for OwnedFd {
    fn from(bytes: ConfigBytes) -> Self {
        bytes.0
    }
}

fn seals() -> SealFlags {
    SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE
}

fn too_large(length: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("the config has {length} bytes, more than the {MAX_CONFIG_BYTES} allowed"),
    )
}
