//! A journal whose files are held open, by the guardian: they outlive the removal of their directory.

use std::fs;
use std::io::{self, Seek};
use std::os::unix::fs::DirBuilderExt;

use super::line::File;
use crate::run_dir::RunDir;

/// The files of a run's journal, open for reading.
#[derive(Debug)]
pub(crate) struct Held {
    run: RunDir,
    files: Vec<(File, fs::File)>,
}

impl Held {
    /// Opens the journal of a run.
    ///
    /// # Errors
    /// If a file of it can't be opened.
    pub(crate) fn open(run: &RunDir) -> io::Result<Self> {
        let open = |kind: File| io::Result::Ok((kind, run.open_file(kind.name())?));
        Ok(Self {
            run: run.clone(),
            files: [File::Undo, File::Events].into_iter().map(open).collect::<io::Result<_>>()?,
        })
    }

    /// Writes the journal back to where it was, if it is there no more. Returns whether it was not.
    ///
    /// # Errors
    /// If it can't be written. Whoever wrote the journal must write no more.
    pub(crate) fn put_back_if_removed(&mut self) -> io::Result<bool> {
        match self.run.open_file(File::Undo.name()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            there => return there.map(|_| false),
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(self.run.path())?;
        // The undos last: a run is known by that file.
        for (kind, held) in self.files.iter_mut().rev() {
            held.rewind()?;
            let mut anew = self.run.create_file(kind.name())?;
            io::copy(held, &mut anew)?;
            anew.sync_all()?;
        }
        self.run.sync()?;
        Ok(true)
    }
}
