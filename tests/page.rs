//! Every sentence of the page is tested by a claim, or is on the list of open sentences, with the reason.

use std::collections::BTreeSet;

use kchaos::page::{Page, Part};
use kchaos::scenario::{builtin, load};

/// Sentences that no claim cites yet. When a scenario covers a sentence, the test fails until the sentence leaves the
/// list.
const OPEN: &[(&str, &[&str])] = &[(
    "`kchaos diagnose` reads the page in this direction; it is not there yet",
    &[
        "list.nodes",
        "list.ready",
        "list.dump",
        "logs.apiserver",
        "logs.scheduler",
        "logs.controller-manager",
        "logs.kubelet",
        "logs.kube-proxy",
        "logs.journald",
    ],
)];

fn cited() -> BTreeSet<String> {
    builtin()
        .iter()
        .flat_map(|(name, text)| load(name, text.as_bytes()).unwrap_or_else(|d| panic!("{d}")).claims)
        .map(|claim| claim.sentence)
        .collect()
}

#[test]
fn the_page_is_complete_and_its_ids_are_unique() {
    let sentences = Page::get().sentences();
    let ids: BTreeSet<&str> = sentences.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids.len(), sentences.len());
    let count = |part| sentences.iter().filter(|s| s.part == part).count();
    assert_eq!(
        (count(Part::Procedure), count(Part::Cause), count(Part::Consequence), count(Part::Mitigation)),
        (9, 5, 19, 13)
    );
    for s in sentences {
        assert_eq!(s.id.starts_with("m."), s.is_mitigation(), "{}", s.id);
        let about_a_failure = matches!(s.part, Part::Consequence | Part::Mitigation);
        assert_eq!(s.of.is_some(), about_a_failure, "{}", s.id);
        assert!(!s.says.is_empty());
    }
}

#[test]
fn no_claim_cites_a_sentence_that_the_page_does_not_have() {
    for id in cited() {
        assert!(Page::get().sentence(&id).is_some(), "{id}");
    }
}

#[test]
fn every_sentence_is_cited_by_a_claim_or_open_and_never_both() {
    let open: Vec<&str> = OPEN.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
    let unique: BTreeSet<&str> = open.iter().copied().collect();
    assert_eq!(unique.len(), open.len(), "an id is open twice");
    for id in &open {
        assert!(Page::get().sentence(id).is_some(), "{id} is open, but not on the page");
    }
    let cited = cited();
    for sentence in Page::get().sentences() {
        let (is_cited, is_open) = (cited.contains(&sentence.id), unique.contains(sentence.id.as_str()));
        assert!(is_cited || is_open, "no claim cites {}", sentence.id);
        assert!(!(is_cited && is_open), "{} is covered now: remove it from the open list", sentence.id);
    }
}
