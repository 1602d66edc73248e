//! What a probe saw in the last seconds, as a band with one column for each second.

use std::collections::VecDeque;

use anstyle::{AnsiColor, Style};

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// Number of seconds that a band shows, one column each.
const WIDTH: usize = 40;

/// What a probe saw, second by second.
#[derive(Default, Clone)]
pub(super) struct Band {
    /// The seconds, oldest first.
    seconds: VecDeque<Look>,
    /// Number of the newest second.
    newest: u64,
    /// The last value, in words.
    pub last: String,
    /// What the last line about this probe told.
    pub told: Option<String>,
    /// How many changes the display has seen.
    pub changes: u32,
}

/// The result of the samples of one second: the worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    Nothing,
    Good,
    Bad,
}

impl Band {
    /// Adds a look to its second. Returns whether this completes an earlier second.
    pub fn push(&mut self, second: u64, look: Look) -> bool {
        if self.seconds.is_empty() {
            self.newest = second;
            self.seconds.push_back(look);
            return false;
        }
        let closed = second > self.newest;
        while self.newest < second {
            self.newest += 1;
            self.seconds.push_back(Look::Nothing);
            if self.seconds.len() > WIDTH {
                self.seconds.pop_front();
            }
        }
        let back = usize::try_from(self.newest - second.min(self.newest)).unwrap_or(usize::MAX);
        if let Some(at) = self.seconds.len().checked_sub(1 + back) {
            self.seconds[at] = self.seconds[at].max(look);
        }
        closed
    }

    /// The result of the last complete second.
    pub fn settled(&self) -> Option<Look> {
        let complete = *self.seconds.get(self.seconds.len().checked_sub(2)?)?;
        (complete != Look::Nothing).then_some(complete)
    }

    pub fn draw(&self, second: u64) -> String {
        let mut out = String::new();
        for column in 0..WIDTH {
            let back = u64::try_from(WIDTH - 1 - column).unwrap_or(0);
            let look = second
                .checked_sub(back)
                .and_then(|s| self.newest.checked_sub(s))
                .and_then(|behind| self.seconds.len().checked_sub(1 + usize::try_from(behind).ok()?))
                .and_then(|at| self.seconds.get(at).copied())
                .unwrap_or(Look::Nothing);
            match look {
                Look::Nothing => out.push('·'),
                Look::Good => out.push_str(&format!("{GOOD}▁{GOOD:#}")),
                Look::Bad => out.push_str(&format!("{BAD}█{BAD:#}")),
            }
        }
        out
    }
}
