//! Standard error, which makes nobody wait. Its reader may stop reading: a terminal that is held with Ctrl-S, a pager on a
//! pipe that nobody turns over. Whoever writes would wait then, and a run would renew no lease, take no samples and hear
//! no signals. So a thread of its own writes, in order. It is waited for only where other output follows, and at the end.
//!
//! What is not read yet is kept, as a run keeps all that it records.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// The thread that writes to standard error; `None` if there can be none.
static WRITER: OnceLock<Option<Writer>> = OnceLock::new();

/// Standard error as a stream. Each write is one piece, with nothing of others in between.
#[derive(Debug, Clone, Copy)]
pub struct StandardError {
    strips_colour: bool,
}

impl StandardError {
    /// Takes everything as it is.
    pub fn raw() -> Self {
        Self { strips_colour: false }
    }

    /// Leaves out colours where they are not wanted.
    pub fn text() -> Self {
        Self { strips_colour: !is_coloured() }
    }
}

impl Write for StandardError {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let piece = if self.strips_colour { anstream::adapter::strip_bytes(text).into_vec() } else { text.to_vec() };
        match WRITER.get_or_init(|| Writer::of(io::stderr()).ok()) {
            Some(writer) => writer.write(piece),
            // Without a thread there is nothing but to wait.
            None => io::stderr().write_all(&piece)?,
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRawFd for StandardError {
    fn as_raw_fd(&self) -> RawFd {
        io::stderr().as_raw_fd()
    }
}

/// Whether colours are wanted on standard error.
pub fn is_coloured() -> bool {
    anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
}

/// Writes a line. If that fails, nobody is left to whom it could be told.
pub fn line(text: &str) {
    let _ = StandardError::text().write_all(format!("{text}\n").as_bytes());
}

/// Waits until everything is written, so that what follows elsewhere is read after it.
pub fn settle() {
    if let Some(Some(writer)) = WRITER.get() {
        writer.settle(None);
    }
}

/// The same for a process that has to end: it waits no longer than this.
pub fn settle_within(patience: Duration) {
    if let Some(Some(writer)) = WRITER.get() {
        writer.settle(Some(patience));
    }
}

/// A stream with a thread that writes to it.
struct Writer(Sender<Message>);

enum Message {
    Piece(Vec<u8>),
    /// Is dropped once all pieces before it are written.
    Mark(Sender<()>),
}

impl Writer {
    fn of(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (says, said) = mpsc::channel();
        std::thread::Builder::new().name("standard error".to_owned()).spawn(move || write_all(out, &said))?;
        Ok(Self(says))
    }

    fn write(&self, piece: Vec<u8>) {
        // It fails only if the thread has panicked, which must not end anything else.
        let _ = self.0.send(Message::Piece(piece));
    }

    fn settle(&self, patience: Option<Duration>) {
        let (mark, written) = mpsc::channel();
        if self.0.send(Message::Mark(mark)).is_err() {
            return;
        }
        // Nothing is ever sent: it ends when the mark is dropped.
        match patience {
            Some(patience) => _ = written.recv_timeout(patience),
            None => _ = written.recv(),
        }
    }
}

fn write_all(mut out: impl Write, said: &Receiver<Message>) {
    while let Ok(first) = said.recv() {
        let (mut text, mut marks) = (Vec::new(), Vec::new());
        for message in std::iter::once(first).chain(said.try_iter()) {
            match message {
                Message::Piece(piece) => text.extend(piece),
                Message::Mark(mark) => marks.push(mark),
            }
        }
        // A reader who has gone away is no reason to end anything.
        let _ = out.write_all(&text);
        drop(marks);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A stream that takes nothing as long as its first lock is held.
    #[derive(Clone, Default)]
    struct Held(Arc<Mutex<()>>, Arc<Mutex<String>>);

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _taken = self.0.lock().unwrap();
            self.1.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_who_does_not_read_and_nothing_is_lost() {
        let out = Held::default();
        let writer = Writer::of(out.clone()).unwrap();
        let held = out.0.lock().unwrap();
        for piece in ["one\n", "two\n", "three\n"] {
            writer.write(piece.into());
        }
        writer.settle(Some(Duration::from_millis(50)));
        assert_eq!(*out.1.lock().unwrap(), "");
        drop(held);
        writer.settle(None);
        assert_eq!(*out.1.lock().unwrap(), "one\ntwo\nthree\n");
    }

    #[test]
    fn a_stream_that_fails_fails_nobody() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let writer = Writer::of(Full).unwrap();
        for _ in 0..2 {
            writer.write("lost".into());
            writer.settle(None);
        }
    }
}
