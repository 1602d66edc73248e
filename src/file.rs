//! Reads files that a user names. They may turn out to be anything.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Reads the text of a file of at most `largest` bytes.
///
/// # Errors
/// If the file can't be read, is not a regular file, is larger than `largest` or is not UTF-8.
pub fn read(path: &Path, largest: u64) -> io::Result<String> {
    let text = beginning(path, largest + 1)?;
    if text.len() as u64 > largest {
        return Err(io::Error::other(format!("it is larger than {} KiB", largest >> 10)));
    }
    String::from_utf8(text).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

/// Reads the first `bytes` bytes of a file, or all of a shorter one.
///
/// A path that is not a regular file may never end or block the reader for ever. So the file is opened without
/// blocking, and its type is checked on the open file.
///
/// # Errors
/// If the file can't be read or is not a regular file.
pub fn beginning(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    Ok(text)
}
