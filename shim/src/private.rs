//! Creates files and folders that only this user may read: environments and logs contain secrets.
//!
//! Each is private from its creation. If the permissions were restricted afterwards, others could
//! open it in between.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The permission bits of everybody else.
const OTHERS: u32 = 0o077;

/// Creates a folder and its parents if they do not exist. An existing folder is made private,
/// because an older version created it readable.
pub fn folder(path: &Path) -> io::Result<()> {
    state_folder(path)?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & OTHERS != 0 {
        fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE))?;
    }
    Ok(())
}

/// Creates a folder and its parents if they do not exist. An existing folder is left as it is: it
/// belongs to whoever created it.
pub fn state_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// Opens a file for writing and truncates it.
pub fn file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)
}

/// Opens a file for appending.
pub fn appended(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(path)
}

/// Opens a file for overwriting its content.
pub fn overwritten(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(path)
}

/// Makes a file private that somebody else created.
pub fn take_over(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(FILE_MODE))
}

/// Reserves room on the disk by a file, which is overwritten or removed when the room is needed. If
/// there is not enough room, no file is left.
pub fn reserve(path: &Path, bytes: usize) -> io::Result<()> {
    // Spaces, because file systems need not allocate blocks for zeros. No sync: the reserve need
    // not survive a restart of the machine.
    let kept = file(path).and_then(|mut room| room.write_all(&vec![b' '; bytes]));
    kept.inspect_err(|_| {
        let _stays = fs::remove_file(path);
    })
}

/// The error with the path of the file, which the system's errors lack.
pub fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Deletes a file if it exists.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_private_and_what_was_not_becomes_so() {
        let root = tempfile::tempdir().unwrap();
        let (deep, old) = (root.path().join("a/b"), root.path().join("old"));
        folder(&deep).unwrap();
        assert_eq!((mode(&root.path().join("a")), mode(&deep)), (0o700, 0o700));
        drop(file(&deep.join("file")).unwrap());
        drop(appended(&deep.join("log")).unwrap());
        drop(overwritten(&deep.join("record")).unwrap());
        fs::write(deep.join("theirs"), "").unwrap();
        take_over(&deep.join("theirs")).unwrap();
        for name in ["file", "log", "record", "theirs"] {
            assert_eq!(mode(&deep.join(name)), 0o600, "{name}");
        }
        fs::create_dir(&old).unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o755)).unwrap();
        state_folder(&old).unwrap();
        assert_eq!(mode(&old), 0o755, "it is the user's");
        folder(&old).unwrap();
        assert_eq!(mode(&old), 0o700);
    }
}
