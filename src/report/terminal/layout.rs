//! Lines and columns of styled text in a given width.
//!
//! This is written here because the table crate that was tried breaks long names (settings, taints, paths) in the
//! middle of a word, and can only style whole cells. Foreign text enters only through [`Page::text`], [`Page::line`]
//! and [`Text`], and all of them make it safe.

use std::collections::VecDeque;

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::report::escape;

pub(super) const PLAIN: Style = Style::new();

const INDENT: usize = 2;
const GAP: usize = 2;

/// A paragraph of foreign text in one style, made safe.
#[derive(Debug, Clone)]
pub(super) struct Text {
    style: Style,
    text: String,
    /// It is never wrapped, however long it is.
    whole: bool,
}

impl Text {
    pub fn new(style: Style, foreign: &str) -> Self {
        Self { style, text: escape::safe(foreign).into_owned(), whole: false }
    }

    /// A command or a path, in one line, so that it can be copied: a terminal breaks what is too long without adding
    /// anything to it.
    pub fn to_copy(foreign: &str) -> Self {
        Self { whole: true, ..Self::plain(foreign) }
    }

    pub fn plain(foreign: &str) -> Self {
        Self::new(PLAIN, foreign)
    }
}

/// Paragraphs, one below the other.
pub(super) type Cell = Vec<Text>;

/// A cell of one plain paragraph.
pub(super) fn cell(foreign: &str) -> Cell {
    vec![Text::plain(foreign)]
}

/// A cell of one paragraph in a style.
pub(super) fn styled(style: Style, foreign: &str) -> Cell {
    vec![Text::new(style, foreign)]
}

/// The text so far, line by line, in a given width.
pub(super) struct Page {
    out: String,
    width: usize,
}

impl Page {
    pub fn new(width: u16) -> Self {
        Self { out: String::new(), width: usize::from(width.clamp(60, 160)) }
    }

    pub fn finish(self) -> String {
        self.out
    }

    pub fn blank(&mut self) {
        self.out.push('\n');
    }

    /// A heading of pieces in different styles. Continuation lines are indented.
    pub fn line(&mut self, pieces: &[(Style, &str)]) {
        let mut used = 0;
        for (n, (style, foreign)) in pieces.iter().filter(|(_, foreign)| !foreign.is_empty()).enumerate() {
            let safe = escape::safe(foreign);
            let mut words = wrap(&safe, (self.width - INDENT).saturating_sub(used).max(1), self.width - INDENT);
            let first = words.pop_front().unwrap_or_default();
            if n > 0 {
                self.out.push_str("  ");
            }
            self.out.push_str(&paint(*style, &first));
            used += first.width() + 2;
            for more in words {
                self.out.push('\n');
                self.out.push_str(&" ".repeat(INDENT));
                self.out.push_str(&paint(*style, &more));
                used = INDENT + more.width() + 2;
            }
        }
        self.blank();
    }

    /// A paragraph, indented.
    pub fn text(&mut self, style: Style, foreign: &str) {
        self.rows(vec![vec![styled(style, foreign)]], &[100]);
    }

    /// Columns of cells.
    ///
    /// Each column is as wide as its content. If there is not enough room for all, columns that need more than their
    /// `share` (percent of the width) are wrapped. A column with a share of 0 is never wrapped. A column without any
    /// content is left out.
    pub fn rows(&mut self, rows: Vec<Vec<Cell>>, shares: &[usize]) {
        let widths = widths(&rows, shares, self.width - INDENT);
        for row in rows {
            let cells: Vec<Vec<(Style, String)>> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| {
                    let lines = |t: &Text| match t.whole {
                        true => vec![(t.style, t.text.clone())],
                        false => wrap(&t.text, *width, *width).into_iter().map(|line| (t.style, line)).collect(),
                    };
                    cell.iter().flat_map(lines).collect()
                })
                .collect();
            for n in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
                let mut line = String::new();
                let mut missing = INDENT;
                for (cell, width) in cells.iter().zip(&widths) {
                    let (style, text) = cell.get(n).map_or((PLAIN, ""), |(style, text)| (*style, text.as_str()));
                    if !text.is_empty() {
                        line.push_str(&" ".repeat(missing));
                        line.push_str(&paint(style, text));
                        missing = 0;
                    }
                    // An empty column takes no room.
                    missing += width - text.width().min(*width) + if *width == 0 { 0 } else { GAP };
                }
                self.out.push_str(&line);
                self.blank();
            }
        }
    }
}

/// Safe text in a style.
fn paint(style: Style, safe: &str) -> String {
    if style == PLAIN || safe.is_empty() { safe.to_owned() } else { format!("{style}{safe}{style:#}") }
}

/// The width of each column, so that all columns and the gaps between them fit.
fn widths(rows: &[Vec<Cell>], shares: &[usize], width: usize) -> Vec<usize> {
    let content = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).flatten().map(|t| t.text.width()).max().unwrap_or(0)
    };
    let content: Vec<usize> = (0..shares.len()).map(content).collect();
    let never: usize = content.iter().zip(shares).filter(|(_, share)| **share == 0).map(|(c, _)| c).sum();
    let gaps = content.iter().filter(|c| **c > 0).count().saturating_sub(1) * GAP;
    let mut room = width.saturating_sub(gaps + never).max(shares.len() * 8);
    let mut widths: Vec<Option<usize>> =
        content.iter().zip(shares).map(|(c, share)| (*share == 0).then_some(*c)).collect();
    // A column that needs less than its share gives the rest to the others, until no column does any more.
    loop {
        let open: Vec<usize> = (0..shares.len()).filter(|n| widths[*n].is_none()).collect();
        let total: usize = open.iter().map(|n| shares[*n]).sum();
        let Some(modest) = open.iter().copied().find(|n| content[*n] <= room * shares[*n] / total) else {
            return (0..shares.len()).map(|n| widths[n].unwrap_or_else(|| room * shares[n] / total)).collect();
        };
        widths[modest] = Some(content[modest]);
        room -= content[modest];
    }
}

/// Breaks text into lines of at most `width` columns (the first line: `first`). It breaks between words if possible,
/// else after a mark inside a name (`-`, `/`, `=`, …), else anywhere.
fn wrap(text: &str, first: usize, width: usize) -> VecDeque<String> {
    let mut lines = VecDeque::from([String::new()]);
    let mut room = first;
    for word in words(text) {
        let mut word = word;
        loop {
            let line = lines.back_mut().unwrap_or_else(|| unreachable!("there is always a line"));
            let gap = usize::from(!line.is_empty());
            if line.width() + gap + word.width() <= room {
                if gap == 1 {
                    line.push(' ');
                }
                line.push_str(word);
                break;
            }
            // A word that fits into a line of its own is not broken.
            if word.width() > width {
                let cut = cut(word, room.saturating_sub(line.width() + gap), line.is_empty());
                if cut > 0 {
                    if gap == 1 {
                        line.push(' ');
                    }
                    line.push_str(&word[..cut]);
                    word = &word[cut..];
                } else if line.is_empty() {
                    // Not even one character fits (a wide one in a narrow column), so let it stick out.
                    let all = word.chars().next().map_or(0, char::len_utf8);
                    line.push_str(&word[..all]);
                    word = &word[all..];
                }
            }
            lines.push_back(String::new());
            room = width;
        }
    }
    lines
}

/// The words of a text. A number and its unit are one word, and so are an equals sign and the word after it: `9.1 s`,
/// `= 12s`.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut begin = 0;
    for (space, _) in text.match_indices(' ') {
        let (before, after) = (&text[begin..space], &text[space + 1..]);
        let next = after.split(' ').next().unwrap_or_default().trim_end_matches([',', ';', ':', ')', '.']);
        let unit = matches!(next, "s" | "ms" | "%") && before.ends_with(|c: char| c.is_ascii_digit());
        if !unit && before != "=" {
            words.push(before);
            begin = space + 1;
        }
    }
    words.push(&text[begin..]);
    words
}

/// Where to cut a long word so that its beginning fits: after the last mark that leaves a piece of decent length. Else
/// anywhere if it has the line to itself, and nowhere if it has not.
fn cut(word: &str, room: usize, alone: bool) -> usize {
    let (mut used, mut anywhere, mut mark) = (0, 0, 0);
    for (at, c) in word.char_indices() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        anywhere = at + c.len_utf8();
        if matches!(c, '-' | '/' | '=' | ':' | '.' | ',' | '_' | '}') {
            mark = anywhere;
        }
    }
    match word[..mark].width() * 3 >= room {
        true => mark,
        false if alone => anywhere,
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(page: Page) -> String {
        anstream::adapter::strip_str(&page.finish()).to_string()
    }

    #[test]
    fn words_are_kept_whole_and_names_break_at_their_marks() {
        assert_eq!(wrap("once the dead pod is withdrawn", 12, 12), ["once the", "dead pod is", "withdrawn"]);
        assert_eq!(wrap("node-monitor-grace-period", 15, 15), ["node-monitor-", "grace-period"]);
        assert_eq!(wrap("abcdefghij", 4, 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("from abc-test-single", 7, 9), ["from", "abc-test-", "single"]);
        assert_eq!(wrap("seen after 9.1 s", 14, 14), ["seen after", "9.1 s"]);
        assert_eq!(wrap("period = 12s", 9, 9), ["period", "= 12s"]);
    }

    #[test]
    fn columns_that_fit_are_not_wrapped() {
        let mut page = Page::new(60);
        page.rows(
            vec![vec![cell("✓"), cell("short"), cell("a rather long text that has to be broken into lines")]],
            &[0, 50, 50],
        );
        assert_eq!(plain(page), "  ✓  short  a rather long text that has to be broken into\n            lines\n");
    }

    #[test]
    fn what_is_to_be_copied_is_not_wrapped() {
        let command = "kchaos run node-shutdown/power-off --seed 1 --cluster a-cluster-of-a-long-name";
        let mut page = Page::new(60);
        page.rows(vec![vec![cell("again"), vec![Text::to_copy(command)]]], &[0, 100]);
        assert_eq!(plain(page), format!("  again  {command}\n"));
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_page(
            rows in prop::collection::vec(prop::collection::vec("[ -~é日]{0,80}", 3), 1..5),
            width in 60u16..130,
        ) {
            let mut page = Page::new(width);
            page.rows(rows.iter().map(|r| r.iter().map(|t| cell(t)).collect()).collect(), &[30, 40, 30]);
            for line in plain(page).lines() {
                prop_assert!(line.width() <= usize::from(width), "{}: {line}", line.width());
            }
        }

        #[test]
        fn wrapping_loses_nothing(text in "[ -~é日]{0,80}", width in 2usize..40) {
            let kept: String = wrap(&text, width, width).into_iter().collect::<String>().replace(' ', "");
            prop_assert_eq!(kept, text.replace(' ', ""));
        }
    }
}
