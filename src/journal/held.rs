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

    /// Whether the undos are no longer where they were.
    pub(crate) fn is_removed(&self) -> bool {
        self.run.open_file(File::Undo.name()).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
    }

    /// Writes what is missing of the journal back to where it was. Whoever wrote the journal must write no more.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) fn put_back(&mut self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(self.run.path())?;
        // The undos last: a run is known by that file.
        for (kind, held) in self.files.iter_mut().rev() {
            if self.run.open_file(kind.name()).is_ok() {
                continue;
            }
            held.rewind()?;
            let mut anew = self.run.create_file(kind.name())?;
            io::copy(held, &mut anew)?;
            anew.sync_all()?;
        }
        self.run.sync()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_removed_of_a_journal_is_put_back_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let run = RunDir::create(place.path(), "test").unwrap();
        for kind in [File::Undo, File::Events] {
            run.create_file(kind.name()).unwrap().write_all(kind.name().as_bytes()).unwrap();
        }
        let mut held = Held::open(&run).unwrap();
        let is_whole = || {
            [File::Undo, File::Events]
                .iter()
                .all(|kind| fs::read_to_string(run.path().join(kind.name())).is_ok_and(|text| text == kind.name()))
        };
        assert!(!held.is_removed());
        run.remove_file(File::Undo.name()).unwrap();
        assert!(held.is_removed());
        held.put_back().unwrap();
        assert!(!held.is_removed() && is_whole());
        fs::remove_dir_all(place.path().join(run.id())).unwrap();
        assert!(held.is_removed());
        held.put_back().unwrap();
        assert!(is_whole());
        run.vet().unwrap();
    }
}
