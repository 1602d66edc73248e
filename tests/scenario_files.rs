//! Scenario files: the built-in ones load fast and fit their schema; each file in `tests/bad/` gives the diagnostics
//! beside it; and no bytes at all make the loader panic, hang or use too much memory.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kchaos::scenario::{self, MAX_FILE, Scenario, load};
use proptest::prelude::*;
use snapbox::{Assert, Data, assert::DEFAULT_ACTION_ENV};

const VALID: &str = include_str!("../scenarios/node-shutdown.yaml");

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn yaml_files(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(path(directory))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
}

fn snapshots() -> Assert {
    Assert::new().action_env(DEFAULT_ACTION_ENV)
}

/// A row of the comparison without a test would only be a claim.
#[test]
fn every_test_that_the_comparison_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    let mut folders = vec![root.join("tests"), root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "rs") => {
                    sources += &fs::read_to_string(path).unwrap();
                }
                false => {}
            }
        }
    }
    let page = fs::read_to_string(root.join("docs/comparison.md")).unwrap();
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_…".contains(c);
    // An unquoted word with two underscores or more is the name of a test; `…` in it stands for any text.
    let unquoted = page.split('`').step_by(2);
    let words = unquoted.flat_map(|text| text.split(|c: char| !word(c)));
    let names: Vec<&str> = words.filter(|name| name.matches('_').count() > 1).collect();
    assert!(names.len() > 20, "{names:?}");
    let missing: Vec<_> =
        names.iter().filter(|name| !name.split('…').all(|part| sources.contains(part.trim_matches('_')))).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Processor time of a call: the cost of the code, without what else the machine does.
fn cpu(f: impl FnOnce()) -> Duration {
    let now = || Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime)).unwrap();
    let start = now();
    f();
    now() - start
}

#[test]
fn every_built_in_scenario_loads_and_is_what_lies_on_disk() {
    let on_disk: Vec<String> = yaml_files("scenarios")
        .iter()
        .map(|p| p.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "page")
        .collect();
    let built_in: Vec<&str> = scenario::builtin().iter().map(|(name, _)| *name).collect();
    assert_eq!(built_in, on_disk, "src/scenario/library.rs lists them in the order of their names");
    for (name, text) in scenario::builtin() {
        let scenario = load(name, text.as_bytes()).unwrap_or_else(|d| panic!("{d}"));
        assert_eq!(scenario.scenario, *name);
    }
}

#[test]
fn claims_know_their_lines() {
    let scenario = load("node-shutdown", VALID.as_bytes()).unwrap();
    for claim in &scenario.claims {
        let line = VALID.lines().nth(claim.line as usize - 1).unwrap();
        assert_eq!(line.trim(), format!("- claim: {}", claim.claim));
    }
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_change_nothing() {
    let plain = load("node-shutdown", VALID.as_bytes()).unwrap();
    let windows = format!("\u{feff}{}", VALID.replace('\n', "\r\n"));
    let windows = load("node-shutdown", windows.as_bytes()).unwrap_or_else(|d| panic!("{d}"));
    assert_eq!(format!("{plain:?}"), format!("{windows:?}"));
}

// ---- the guide

const GUIDE: &str = include_str!("../docs/scenarios.md");

#[test]
fn the_guides_example_is_a_scenario() {
    let example = GUIDE.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    load("my-service.yaml", example.as_bytes()).unwrap_or_else(|d| panic!("{d}"));
}

#[test]
fn the_guide_has_every_window_and_every_probe() {
    let schema = scenario::schema();
    let mut names: Vec<&str> = schema["$defs"]["WindowName"]["oneOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["const"].as_str().unwrap())
        .collect();
    let probes = schema["$defs"]["ProbeSpec"]["oneOf"].as_array().unwrap();
    names.extend(probes.iter().flat_map(|p| p["properties"].as_object().unwrap().keys()).map(String::as_str));
    assert!(names.len() > 20, "{names:?}");
    let rows: String = GUIDE.lines().filter(|line| line.starts_with('|')).collect();
    let missing: Vec<_> = names.iter().filter(|name| !rows.contains(&format!("`{name}"))).collect();
    assert!(missing.is_empty(), "docs/scenarios.md says nothing of {missing:?}");
}

// ---- the corpus of bad files

#[test]
fn every_bad_file_gives_the_diagnostics_beside_it() {
    let files = yaml_files("tests/bad");
    assert!(files.len() >= 40, "{} files", files.len());
    for file in files {
        let name = format!("tests/bad/{}", file.file_name().unwrap().to_str().unwrap());
        let diagnostics = load(&name, &fs::read(&file).unwrap()).err().unwrap_or_else(|| panic!("{name} loads"));
        let shown = format!("{diagnostics}\n");
        // Exactly as written, without snapbox' wildcards: brackets belong to the text.
        snapshots().eq(Data::text(shown).raw(), Data::read_from(&file.with_extension("stderr"), None).raw());
    }
}

#[test]
fn each_bad_file_breaks_one_thing() {
    for file in yaml_files("tests/bad") {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let diagnostics = load(&name, &fs::read(&file).unwrap()).unwrap_err();
        if name != "several-at-once.yaml" {
            assert_eq!(diagnostics.len(), 1, "{name}:\n{diagnostics}");
        }
    }
}

#[test]
fn all_errors_of_meaning_come_at_once_in_the_order_of_the_file() {
    let text = fs::read(path("tests/bad/several-at-once.yaml")).unwrap();
    let diagnostics = load("tests/bad/several-at-once.yaml", &text).unwrap_err();
    let lines: Vec<usize> = diagnostics.problems().map(|(line, ..)| line).collect();
    assert_eq!(lines, [9, 12, 14, 17], "{diagnostics}");
}

#[test]
fn ten_mebibytes_are_refused_without_being_read() {
    let big = VALID.repeat((10 << 20) / VALID.len());
    let mut diagnostics = None;
    let took = cpu(|| diagnostics = load("big.yaml", big.as_bytes()).err());
    assert!(took < Duration::from_millis(100), "{took:?}");
    let shown = diagnostics.unwrap().to_string();
    assert!(shown.contains("larger than") && shown.len() < 1000, "{shown}");
}

#[test]
fn a_name_of_64_kib_is_refused_in_a_few_lines() {
    let text = VALID.replace("scenario: node-shutdown", &format!("scenario: {}", "x".repeat(64 << 10)));
    let shown = load("long", text.as_bytes()).unwrap_err().to_string();
    assert!(shown.contains("at most") && shown.len() < 2000, "{} bytes", shown.len());
}

#[test]
fn colour_is_used_only_when_asked_for() {
    let diagnostics = load("bad", b"[").unwrap_err();
    assert!(!diagnostics.render(false).contains('\u{1b}'));
    assert!(diagnostics.render(true).contains('\u{1b}'));
}

#[test]
fn a_thousand_errors_are_cut_short() {
    let mut text = VALID.to_owned();
    for i in 0..50 {
        let probe = "probe: {pods: {of: nothing}}, always: {equals: 0}, during: fault";
        let _ = writeln!(text, "  - {{claim: c{i}, sentence: no.such{i}, says: s, {probe}}}");
    }
    let diagnostics = load("many", text.as_bytes()).unwrap_err();
    assert_eq!(diagnostics.len(), 100);
    let shown = diagnostics.to_string();
    assert_eq!(shown.matches("error: ").count(), 20);
    assert!(shown.ends_with("and 80 more"), "{shown}");
}

// ---- the schema

#[test]
fn the_committed_schema_is_fresh() {
    let fresh = format!("{}\n", serde_json::to_string_pretty(&scenario::schema()).unwrap());
    snapshots().eq(Data::text(fresh).raw(), Data::read_from(&path("scenarios/schema.json"), None).raw());
}

#[test]
fn every_scenario_fits_the_schema_and_names_it() {
    let validator = jsonschema::validator_for(&scenario::schema()).unwrap();
    for file in yaml_files("scenarios").into_iter().chain(yaml_files("tests/minimal")) {
        if file.file_stem().unwrap() == "page" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let schema = text.lines().next().and_then(|l| l.strip_prefix("# yaml-language-server: $schema=")).unwrap();
        assert!(file.parent().unwrap().join(schema).is_file(), "{}: {schema}", file.display());
        let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", file.display());
    }
}

#[test]
fn the_schema_refuses_what_it_can() {
    let validator = jsonschema::validator_for(&scenario::schema()).unwrap();
    let refused = |from: &str, to: &str| {
        assert!(VALID.contains(from));
        let value: serde_json::Value = serde_saphyr::from_str(&VALID.replacen(from, to, 1)).unwrap();
        assert!(!validator.is_valid(&value), "{to}");
    };
    refused("sentence: node.pods-stop", "sentence: node.pods-stops");
    refused("claim: processes-gone", "claim: -rf");
    refused("during: fault", "during: falt");
    refused("unchanged: true", "unchanged: false");
    refused("{role: worker}", "{role: worker, size: 3}");
    refused("variants: [power-off, stop, pause, restart-loop]", "variants: []");
    refused("restart: Never", "restart: ~");
    refused("says: a pod on the node", "arm: ~\n    says: a pod on the node");
    refused("{role: worker}", "{}");
}

// ---- anything at all

/// Loads, and renders what is wrong. Both must end soon.
fn survives(text: &[u8]) -> Result<Scenario, String> {
    let mut loaded = Err(String::new());
    let took = cpu(|| {
        loaded = load("fuzz.yaml", text).map_err(|d| {
            assert!(d.len() >= 1 && d.problems().count() == d.len());
            d.render(true)
        });
    });
    assert!(took < Duration::from_secs(1), "{took:?}");
    if let Err(shown) = &loaded {
        assert!(shown.len() < 200_000, "{} bytes of diagnostics", shown.len());
    }
    loaded
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("&a ".to_owned()),
        Just("*a".to_owned()),
        Just("<<: ".to_owned()),
        Just("- ".to_owned()),
        Just("\n".to_owned()),
        Just("\t".to_owned()),
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("]: ".to_owned()),
        Just("!!str ".to_owned()),
        Just("|2\n ".to_owned()),
        Just("---\n".to_owned()),
        Just("? ".to_owned()),
        Just("\"\\u00".to_owned()),
        Just("claims:\n".to_owned()),
        Just("probe: {pods: ".to_owned()),
        "[ a-z:]{0,9}",
        "\\PC{0,4}",
    ];
    prop::collection::vec(piece, 0..60).prop_map(|v| v.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = survives(&bytes);
    }

    #[test]
    fn yaml_like_text_never_panics(text in pieces()) {
        let _ = survives(text.as_bytes());
    }

    #[test]
    fn mutated_valid_files_never_panic(cuts in prop::collection::vec((0usize..8000, 0usize..40, pieces()), 1..6)) {
        let mut text = VALID.to_owned();
        for (at, len, new) in cuts {
            let floor = |o: usize| (0..=o.min(text.len())).rev().find(|o| text.is_char_boundary(*o)).unwrap();
            let (from, to) = (floor(at), floor(at + len));
            text.replace_range(from..to, &new);
        }
        let _ = survives(text.as_bytes());
    }

    #[test]
    fn lines_in_another_order_never_panic(order in Just((0..VALID.lines().count()).collect::<Vec<_>>()).prop_shuffle(), keep in 0usize..200) {
        let lines: Vec<&str> = VALID.lines().collect();
        let text: Vec<&str> = order.iter().take(keep).map(|i| lines[*i]).collect();
        let _ = survives(text.join("\n").as_bytes());
    }
}

#[test]
fn files_made_to_be_slow_are_not() {
    let max = MAX_FILE - 1;
    let fill = |unit: &str| unit.repeat(max / unit.len());
    let head = "scenario: fuzz\nsummary: s\ntopology: single\ntargets: {v: {role: worker}}\nvariants: [{name: a, fault: {pause: {node: v}}}]\nclaims:\n";
    let claim = "- {claim: c, sentence: x, says: s, probe: {pods: {of: x}}, always: {equals: 0}, during: fault}\n";
    let many_keys: String = (0..max / 8).map(|i| format!("k{i}: 1\n")).collect();
    let mut claims = head.to_owned();
    while claims.len() + claim.len() < max {
        claims.push_str(claim);
    }
    for text in [
        fill("["),
        fill("{a: "),
        fill("- "),
        fill("? "),
        fill("&a "),
        fill("!"),
        fill("\""),
        fill("a: "),
        fill("a"),
        fill("\n"),
        fill("#"),
        fill("- a\n"),
        fill("'' "),
        fill("|\n "),
        fill("\u{a0}"),
        many_keys,
        claims,
        format!("{head}- {}", fill("x")),
    ] {
        let mut cut = text;
        cut.truncate(MAX_FILE);
        let _ = survives(cut.as_bytes());
    }
}
