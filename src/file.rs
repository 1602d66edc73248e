//! Reading files that a user names, whatever they turn out to be.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// The text of a file that has at most so many bytes.
///
/// # Errors
/// If it can't be read, is no regular file, is larger or is not UTF-8.
pub fn read(path: &Path, largest: u64) -> io::Result<String> {
    let text = beginning(path, largest + 1)?;
    if text.len() as u64 > largest {
        return Err(io::Error::other(format!("it is larger than {} KiB", largest >> 10)));
    }
    String::from_utf8(text).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

/// The first bytes of a file, so many or all.
///
/// Whatever is no regular file may have no end, or make the reader wait for ever: it is opened without waiting, and looked at once it is open.
///
/// # Errors
/// If it can't be read or is no regular file.
pub fn beginning(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    Ok(text)
}
