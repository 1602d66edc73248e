//! The border for foreign text: text from a cluster, a log or a scenario file, on its way to a terminal, a CI log, XML
//! or Markdown.
//!
//! This module takes any text and returns text without anything that a terminal, a log viewer or a CI runner would
//! obey. Nothing is dropped: characters that can't be shown as they are become escapes such as `\u{1b}`, so that a
//! reader sees that they were there.

use std::borrow::Cow;
use std::fmt::Write;

/// Makes foreign text safe.
///
/// Control characters (C0 with tab and newlines, DEL, C1), bidirectional controls, line separators, invisible
/// characters and non-characters become visible escapes. The command prefixes of CI runners (`::error`, `##[group]`)
/// are broken up, wherever a line break may later fall.
pub fn safe(text: &str) -> Cow<'_, str> {
    if !text.chars().any(unsafe_char) && !text.contains("::") && !text.contains("##") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut before = '\0';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let starts_word = chars.peek().is_none_or(|next| next.is_ascii_alphabetic() || *next == '[');
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if unsafe_char(c) => push_escape(&mut out, c),
            // `fe80::1` stays as it is: no runner has commands that begin with a digit.
            ':' | '#' if before == c && starts_word => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
        before = c;
    }
    Cow::Owned(out)
}

fn push_escape(out: &mut String, c: char) {
    // Writing to a String can't fail.
    let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
}

/// Whether a terminal obeys the character, or it reorders the text shown, or it shows nothing at all.
fn unsafe_char(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
        || u32::from(c) & 0xfffe == 0xfffe
        || matches!(c, '\u{fdd0}'..='\u{fdef}')
}

/// Foreign text for a Markdown document, outside of code and not at the start of a line. It is safe, and shown
/// literally instead of being read as markup.
pub fn markdown(text: &str) -> String {
    let safe = safe(text);
    let mut out = String::with_capacity(safe.len() + 16);
    for c in safe.chars() {
        match c {
            // Entities, not backslashes: a backslash before a pipe is read differently inside and outside of tables.
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '|' => out.push_str("&#124;"),
            '`' => out.push_str("&#96;"),
            // An `@name` or `#12` must not notify or link.
            '@' => out.push_str("&#64;"),
            '\\' | '*' | '_' | '[' | ']' | '#' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// JSON text that is also safe to print: characters that a terminal would obey become `\uXXXX`, which any JSON reader
/// decodes.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // serde_json has escaped C0 inside strings; the remaining newlines are the layout of the document.
        if c == '\n' || !unsafe_char(c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// Foreign text for a GitHub workflow command: for its message or, with `property`, for one of its properties.
pub fn workflow(text: &str, property: bool) -> String {
    let escaped = safe(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    if property { escaped.replace(':', "%3A").replace(',', "%2C") } else { escaped }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn harmless_text_is_left_alone() {
        for text in
            ["node.kubernetes.io/unreachable:NoExecute", "9.9–16.0 s ✓", "fe80::1", "::1", "a # b", "日本語", ""]
        {
            assert_eq!(safe(text), text);
        }
    }

    #[test]
    fn what_a_terminal_obeys_is_made_visible() {
        assert_eq!(safe("\u{1b}]52;c;aGk=\u{7}"), r"\u{1b}]52;c;aGk=\u{7}");
        assert_eq!(safe("\u{9b}2A\r\nx\ty"), r"\u{9b}2A\r\nx\ty");
        assert_eq!(safe("user\u{202e}nimda\u{2066}"), r"user\u{202e}nimda\u{2066}");
        assert_eq!(safe("a\u{ffff}b\u{feff}"), r"a\u{ffff}b\u{feff}");
    }

    #[test]
    fn what_a_ci_runner_obeys_is_broken_up() {
        assert_eq!(safe("::set-output name=x::y"), r":\:set-output name=x:\:y");
        assert_eq!(safe("##[error]boo ##teamcity[x]"), r"#\#[error]boo #\#teamcity[x]");
        assert_eq!(safe(":::error::"), r"::\:error:\:");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({"a\u{202e}": "\u{9b}\u{e0041}\u{1b}\n"});
        let text = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.chars().all(|c| c == '\n' || !unsafe_char(c)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_workflow_command_has_one_line_and_its_own_properties() {
        assert_eq!(workflow("50 %\nboo", false), r"50 %25\nboo");
        assert_eq!(workflow("a:b,c", true), "a%3Ab%2Cc");
    }

    proptest! {
        #[test]
        fn safe_text_has_only_printable_characters(text in any::<String>()) {
            let safe = safe(&text);
            prop_assert!(!safe.chars().any(unsafe_char), "{safe:?}");
        }

        #[test]
        fn no_line_break_can_make_a_command_of_safe_text(text in "[:#a\\[ \\\\]{0,12}") {
            let safe = safe(&text);
            for (at, _) in safe.char_indices() {
                let line = &safe[at..];
                for prefix in ["::a", "##a", "##["] {
                    prop_assert!(!line.starts_with(prefix), "{safe}");
                }
            }
        }
    }
}
