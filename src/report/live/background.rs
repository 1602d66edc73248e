//! The live display on a thread of its own. Who reads it may stop reading (a terminal that is held with Ctrl-S, a pager
//! on a pipe), which blocks whoever writes; a run must go on all the same, and renew its guardian's lease.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use super::Live;
use crate::event::Event;
use crate::progress::Told;
use crate::steady_state::Unsteady;

/// How long the end of a display is waited for. A reader who reads is far faster.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A live display that never makes anybody wait for its reader. What is not read yet is kept, as a run keeps all that
/// it records.
pub struct Background {
    /// `None` once nothing more is to be shown.
    says: Option<Sender<Said>>,
    /// Closed once everything is shown.
    shown: Receiver<()>,
}

/// What [`Told`] tells, to be shown later.
enum Said {
    Event(Event),
    Note(String),
    Unsteady(Unsteady),
}

impl Background {
    /// A display that `live` makes on its thread.
    ///
    /// # Errors
    /// If there can be no further thread.
    pub fn of(live: impl FnOnce() -> Live + Send + 'static) -> io::Result<Self> {
        let (says, said) = mpsc::channel::<Said>();
        let (end, shown) = mpsc::channel();
        std::thread::Builder::new().name("display".to_owned()).spawn(move || {
            let _end = end;
            let mut live = live();
            for said in said {
                live.told(match &said {
                    Said::Event(event) => Told::Event(event),
                    Said::Note(text) => Told::Note(text),
                    Said::Unsteady(unsteady) => Told::Unsteady(unsteady),
                });
            }
            live.finish();
        })?;
        Ok(Self { says: Some(says), shown })
    }

    /// Shows something that a run reports, soon.
    pub fn told(&mut self, told: Told<'_>) {
        let said = match told {
            Told::Event(event) => Said::Event(event.clone()),
            Told::Note(text) => Said::Note(text.to_owned()),
            Told::Unsteady(unsteady) => Said::Unsteady(unsteady.clone()),
            Told::Leaving => return self.finish(),
        };
        if let Some(says) = &self.says {
            // It fails only if the display has panicked, which must not end a run.
            let _ = says.send(said);
        }
    }

    /// Removes the redrawn lines, so that other output can follow, and waits until everything is shown, or for a moment
    /// if nobody reads. Nothing is shown after this.
    pub fn finish(&mut self) {
        if self.says.take().is_some() {
            let _ = self.shown.recv_timeout(LAST_LINES);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A stream that takes nothing as long as its lock is held, and whose text can be read afterwards.
    #[derive(Clone, Default)]
    struct Held(Arc<Mutex<()>>, Arc<Mutex<Vec<u8>>>);

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _taken = self.0.lock().unwrap();
            self.1.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn shown(out: &Held) -> Vec<String> {
        String::from_utf8(out.1.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn nobody_waits_for_a_reader_who_does_not_read_and_nothing_is_lost() {
        let out = Held::default();
        let held = out.0.lock().unwrap();
        let plain = out.clone();
        let mut live = Background::of(|| Live::plain(plain, true)).unwrap();
        // On one thread all of this would wait for the lock, for ever.
        live.told(Told::Note("one"));
        live.told(Told::Note("two"));
        live.finish();
        live.told(Told::Note("after the end"));
        assert!(shown(&out).is_empty());
        drop(held);
        assert!(live.shown.recv().is_err(), "it is closed once everything is shown");
        let lines = shown(&out);
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[1].ends_with("one") && lines[2].ends_with("two"), "{lines:?}");
        assert_eq!((&*lines[0], &*lines[3]), ("::group::kchaos run", "::endgroup::"));
    }

    #[test]
    fn at_its_end_everything_is_shown_already() {
        let out = Held::default();
        let plain = out.clone();
        let mut live = Background::of(|| Live::plain(plain, false)).unwrap();
        live.told(Told::Note("one"));
        live.told(Told::Leaving);
        assert_eq!(shown(&out).len(), 1);
    }
}
