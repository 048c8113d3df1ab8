//! A folder on a file system that does not answer, as on a network whose server is gone: calls for what is
//! in it do not return.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// See the [module](self). It answers again, with errors, once this is dropped, and is a plain folder then.
#[derive(Debug)]
pub struct HungMount {
    folder: PathBuf,
    /// The side of the server, which reads no requests.
    server: Option<File>,
}

impl HungMount {
    /// Mounts one over a folder, or returns why that may not be done here: it takes root and FUSE.
    fn over(folder: &Path) -> io::Result<Self> {
        let server = File::options().read(true).write(true).open("/dev/fuse")?;
        let options = "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other";
        let output = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o", options, "hung"])
            .arg(folder)
            .stdin(Stdio::from(server.try_clone()?))
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr)));
        }
        Ok(Self {
            folder: folder.to_owned(),
            server: Some(server),
        })
    }

    /// Mounts one over a folder. Says that the test is skipped if that may not be done here.
    pub fn over_or_skip(folder: &Path) -> Option<Self> {
        let mount = Self::over(folder);
        let skipped =
            |error| eprintln!("skipped: this machine mounts no FUSE for this user ({error})");
        mount.map_err(skipped).ok()
    }
}

impl Drop for HungMount {
    fn drop(&mut self) {
        // Its end fails all calls that wait.
        self.server.take();
        let unmounted = Command::new("umount").arg("-l").arg(&self.folder).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "it is ours");
    }
}
