//! Where scenarios come from: files, and those compiled in. A file takes precedence over a built-in scenario of the
//! same name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::diagnostic::{nearest, quoted};
use super::load::{MAX_FILE, load};
use super::{Name, Scenario};
use crate::error::{Error, Result};
use crate::file;

/// Directory below the current one whose files are found by name.
const DIRECTORY: &str = "scenarios";
/// The built-in scenarios.
const BUILTIN: &[(&str, &str)] = &[
    ("apiserver-crash", include_str!("../../scenarios/apiserver-crash.yaml")),
    ("ha", include_str!("../../scenarios/ha.yaml")),
    ("kubelet-fault", include_str!("../../scenarios/kubelet-fault.yaml")),
    ("node-shutdown", include_str!("../../scenarios/node-shutdown.yaml")),
    ("operator-error", include_str!("../../scenarios/operator-error.yaml")),
    ("partition", include_str!("../../scenarios/partition.yaml")),
    ("services-crash", include_str!("../../scenarios/services-crash.yaml")),
    ("storage-lost", include_str!("../../scenarios/storage-lost.yaml")),
    ("volume-lost", include_str!("../../scenarios/volume-lost.yaml")),
];

/// Name and text of each built-in scenario.
pub fn builtin() -> &'static [(&'static str, &'static str)] {
    BUILTIN
}

/// Finds a scenario by path or by name, and loads it. Returns its name for messages, and the scenario.
///
/// # Errors
/// If there is no such scenario, if it can't be read, or with everything that is wrong with it.
pub fn open(name_or_path: &str) -> Result<(String, Scenario)> {
    let (source, text) = find(name_or_path)?;
    let scenario = load(&source, &text)?;
    Ok((source, scenario))
}

/// Splits `SCENARIO/VARIANT`, where SCENARIO is a name or a file. If `name` as a whole is a path, it has no variant.
pub fn split_variant(name: &str) -> (&str, Option<&str>) {
    let path = Path::new(name);
    match name.rsplit_once('/') {
        _ if path.is_file() => (name, None),
        // A directory is no scenario. The message about it names it as a whole.
        Some((scenario, _)) if path.is_dir() && !builtin().iter().any(|(name, _)| *name == scenario) => (name, None),
        // A last part with a dot is not a variant: it is a file that does not exist.
        Some((_, last)) if last.contains('.') => (name, None),
        Some((scenario, variant)) => (scenario, Some(variant)),
        None => (name, None),
    }
}

/// Finds a scenario by path, or by name: first `scenarios/NAME.yaml` below the current directory, then the built-in
/// scenarios. Returns its name for messages, and its bytes.
///
/// # Errors
/// If there is no such scenario, or it can't be read. A file larger than a scenario may be is cut off just beyond the
/// limit, so that [`load`](super::load()) refuses it.
pub fn find(name_or_path: &str) -> Result<(String, Vec<u8>)> {
    find_in(Path::new(DIRECTORY), name_or_path)
}

fn find_in(directory: &Path, name_or_path: &str) -> Result<(String, Vec<u8>)> {
    // A name has neither a slash nor a dot, so it can't be mistaken for a path or lead out of the directory.
    let Ok(name) = name_or_path.parse::<Name>() else {
        let path = Path::new(name_or_path);
        if path.exists() {
            return read(path);
        }
        let error = Error::usage(format!("there is no scenario file {}", quoted(name_or_path)));
        if let (of, Some(_)) = split_variant(name_or_path)
            && BUILTIN.iter().any(|(name, _)| *name == of)
        {
            return Err(error.next(format!("of a scenario, name the whole: {of}")));
        }
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or(name_or_path);
        return Err(error.next(suggestion(directory, name_or_path, stem)));
    };
    let builtin = builtin().iter().find(|(builtin, _)| name == *builtin);
    let file = directory.join(format!("{name}.yaml"));
    if file.exists() {
        let found = read(&file)?;
        // A copy of the built-in scenario goes by its name, by which it is found from anywhere.
        if builtin.is_none_or(|(_, text)| text.as_bytes() != found.1) {
            return Ok(found);
        }
    }
    match builtin {
        Some((name, text)) => Ok(((*name).to_owned(), text.as_bytes().to_vec())),
        None if Path::new(name_or_path).is_dir() => read(Path::new(name_or_path)),
        None => {
            Err(Error::usage(format!("there is no scenario {}", quoted(&name)))
                .next(suggestion(directory, &name, &name)))
        }
    }
}

fn read(path: &Path) -> Result<(String, Vec<u8>)> {
    let shown = path.display().to_string();
    let failed = |why: String| Error::usage(format!("can't read {}: {why}", quoted(&shown)));
    if !path.metadata().map_err(|e| failed(e.to_string()))?.is_file() {
        let next = if path.is_dir() {
            format!("give the files in it: {}/*.yaml", shown.trim_end_matches('/'))
        } else {
            "give the path of a scenario file, or the name of a scenario".to_owned()
        };
        return Err(failed("it is not a file".to_owned()).next(next));
    }
    let limit = u64::try_from(MAX_FILE).unwrap_or(u64::MAX).saturating_add(1);
    let text = file::beginning(path, limit).map_err(|e| failed(e.to_string()))?;
    Ok((shown, text))
}

/// What stands where a scenario should, and in which built-in ones it is found: a variant, or a sentence of the page.
fn meant(name: &str) -> Option<String> {
    let all = builtin().iter().filter_map(|(of, text)| load(of, text.as_bytes()).ok());
    let (mut variants, mut tested) = (Vec::new(), Vec::new());
    for scenario in all {
        let of = &scenario.scenario;
        if scenario.variants.iter().any(|variant| variant.name.as_str() == name) {
            variants.push(format!("`{of}/{name}`"));
        }
        let is_meant =
            |sentence: &str| sentence.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if name.contains('.') && scenario.claims.iter().any(|claim| is_meant(&claim.sentence)) {
            tested.push(format!("`{of}`"));
        }
    }
    match (variants.is_empty(), tested.is_empty()) {
        (false, _) => Some(format!("it is a variant: {}", variants.join(", "))),
        (true, false) => Some(format!("it is a sentence of the page, tested by {}", tested.join(", "))),
        (true, true) => None,
    }
}

/// What to do about a scenario that does not exist, as it was given and as a name.
fn suggestion(directory: &Path, given: &str, wrong: &str) -> String {
    if let Some(meant) = meant(given) {
        return meant;
    }
    let mut names: BTreeSet<String> = builtin().iter().map(|(name, _)| (*name).to_owned()).collect();
    let entries = directory.read_dir().into_iter().flatten().flatten().map(|e| PathBuf::from(e.file_name()));
    names.extend(
        entries
            .filter(|f| f.extension().is_some_and(|e| e == "yaml"))
            .filter_map(|f| Some(f.file_stem()?.to_str()?.parse::<Name>().ok()?.to_string()))
            .filter(|name| name != "page"),
    );
    let file = format!("{wrong}.yaml");
    match nearest(wrong, names.iter().map(String::as_str)) {
        _ if Path::new(&file).is_file() => format!("`{file}` is here; give the name of the file"),
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("`kchaos list` shows them: {}", names.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_wins_over_the_built_in_scenario_of_the_same_name() {
        let dir = tempfile::tempdir().unwrap();
        let built_in = find_in(dir.path(), "node-shutdown").unwrap();
        assert_eq!(built_in.0, "node-shutdown");
        std::fs::write(dir.path().join("node-shutdown.yaml"), "mine").unwrap();
        let (source, text) = find_in(dir.path(), "node-shutdown").unwrap();
        assert!(source.ends_with("node-shutdown.yaml"), "{source}");
        assert_eq!(text, b"mine");
    }

    #[test]
    fn an_unknown_name_suggests_the_nearest_of_files_and_built_in_ones() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("my-app.yaml"), "").unwrap();
        assert!(
            find_in(dir.path(), "node-shutdwon").unwrap_err().to_string().contains("did you mean `node-shutdown`?")
        );
        assert!(find_in(dir.path(), "myapp").unwrap_err().to_string().contains("did you mean `my-app`?"));
        assert!(
            find_in(dir.path(), "./node-shutdown.yml")
                .unwrap_err()
                .to_string()
                .contains("did you mean `node-shutdown`?")
        );
        assert!(find_in(dir.path(), "zzzzzz").unwrap_err().to_string().contains("my-app, node-shutdown"));
    }

    #[test]
    fn only_regular_files_are_read_and_not_beyond_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        assert!(find_in(dir.path(), path).unwrap_err().to_string().contains("not a file"));
        assert!(find_in(dir.path(), "/dev/zero").unwrap_err().to_string().contains("not a file"));
        let big = dir.path().join("big.yaml");
        std::fs::write(&big, vec![b'#'; 10 << 20]).unwrap();
        assert_eq!(find_in(dir.path(), big.to_str().unwrap()).unwrap().1.len(), MAX_FILE + 1);
    }
}
