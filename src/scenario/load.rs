//! Turns the bytes of a file into a scenario, or into everything that is wrong with it.
//!
//! The bytes may be anything. Time and memory are bounded by the size of the file, which is itself bounded. Errors of
//! form (not text, not YAML, not the shape of a scenario) are reported alone, since the rest can't be understood after
//! one. Errors of meaning are reported all at once.

use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{MergeKeyPolicy, budget, from_str_with_options, options};

use super::diagnostic::{Diagnostics, Problem, is_visible, position};
use super::{Scenario, check, shape, tree};

/// Largest scenario file, in bytes. The largest built-in one has less than a tenth of it.
pub const MAX_FILE: usize = 128 * 1024;

/// Reads a scenario.
///
/// `source` is the file's name in messages. If it is a file name, the scenario must have the same name.
///
/// # Errors
/// Everything that is wrong with the file, with line and column.
pub fn load(source: &str, text: &[u8]) -> Result<Scenario, Diagnostics> {
    let text = decode(source, text)?;
    let failed = |problems| Diagnostics::new(source, text, problems);
    let root = tree::parse(text).map_err(|p| failed(vec![p]))?;
    let options = options! {
        budget: budget! { max_documents: 1, max_anchors: 0, max_aliases: 0 },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    let mut scenario: Scenario =
        from_str_with_options(text, options).map_err(|e| failed(vec![shape::explain(&e, text, &root)]))?;
    let problems = check::problems(&scenario, source, text, &root);
    if !problems.is_empty() {
        return Err(failed(problems));
    }
    for (claim, node) in scenario.claims.iter_mut().zip(root.field("claims").items()) {
        claim.line = u32::try_from(position(text, node.span.start).0).unwrap_or(u32::MAX);
    }
    Ok(scenario)
}

/// The bytes as text, without a byte order mark.
fn decode<'a>(source: &str, bytes: &'a [u8]) -> Result<&'a str, Diagnostics> {
    let failed = |shown: &str, problem| Diagnostics::new(source, shown, vec![problem]);
    if bytes.len() > MAX_FILE {
        let shown = String::from_utf8_lossy(&bytes[..200]);
        let problem = Problem::new(0..0, format!("the file is larger than {} KiB", MAX_FILE / 1024));
        return Err(failed(&shown, problem.help("a scenario fits on a screen or two; is this the right file?")));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let problem = match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Problem::new(at..at, "the file is UTF-16, not UTF-8"),
            _ => Problem::new(at..at + '\u{fffd}'.len_utf8(), "the file is not UTF-8 text")
                .label(format!("byte 0x{:02x} is no part of a character", bytes.get(at).copied().unwrap_or(0))),
        };
        failed(&String::from_utf8_lossy(bytes), problem.help("save it as UTF-8"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.char_indices().find(|(_, c)| !is_visible(*c) && !matches!(c, '\n' | '\r' | '\t')) {
        None => Ok(text),
        Some((at, c)) => {
            let problem =
                Problem::new(at..at + c.len_utf8(), format!("an invisible character, U+{:04X}", u32::from(c)));
            let help =
                "it would make the file, or what is printed of it, read differently from what it says; remove it";
            Err(failed(text, problem.label("here").help(help)))
        }
    }
}
