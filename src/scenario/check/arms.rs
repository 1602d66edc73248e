//! Checks of mitigations.
//!
//! A mitigation is a pair of arms whose claims exclude each other, so that the same behaviour can't uphold both. The
//! arms are compared in the same run, or in two runs: of a variant, and of the variant that it names as its control.

use std::collections::BTreeMap;

use super::Checker;
use crate::page::{Page, Sentence};
use crate::scenario::contradiction::exclude_each_other;
use crate::scenario::diagnostic::{Problem, listed};
use crate::scenario::{Arm, Claim, Name, Variant};

/// What a mitigation lacks in a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lack {
    Treatment,
    Control,
    Difference,
}

impl Checker<'_> {
    pub(super) fn arms(&mut self) {
        let mut by_sentence: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, claim) in self.scenario.claims.iter().enumerate() {
            let mitigation = Page::get().sentence(&claim.sentence).is_some_and(Sentence::is_mitigation);
            if mitigation && claim.arm.is_some() {
                by_sentence.entry(&claim.sentence).or_default().push(i);
            }
        }
        for (sentence, claims) in by_sentence {
            let mut lacks: BTreeMap<Lack, (usize, Vec<&Name>)> = BTreeMap::new();
            for variant in &self.scenario.variants {
                let here = |i: &&usize| self.claim(**i).variants.as_ref().is_none_or(|v| v.contains(&variant.name));
                let here: Vec<usize> = claims.iter().filter(here).copied().collect();
                if let Some((lack, i)) = self.lack_with_its_control(variant, &here, &claims) {
                    lacks.entry(lack).or_insert_with(|| (i, Vec::new())).1.push(&variant.name);
                }
            }
            for (lack, (i, variants)) in lacks {
                let problem = self.incomplete(sentence, lack, i, &variants);
                self.push(problem);
            }
        }
    }

    /// What a variant lacks, on its own or together with its control. A missing treatment is not reported for a
    /// control: that is a matter of the variant that names it.
    fn lack_with_its_control(&self, variant: &Variant, here: &[usize], claims: &[usize]) -> Option<(Lack, usize)> {
        let lack = self.lack(here)?;
        let about = |of: &Name| claims.iter().copied().filter(|i| self.claim(*i).is_about(of)).collect::<Vec<_>>();
        let names_it = |v: &&Variant| v.control.as_ref() == Some(&variant.name);
        let is_control = self.scenario.variants.iter().filter(names_it).any(|v| !about(&v.name).is_empty());
        match (lack.0, &variant.control) {
            (Lack::Control, Some(control)) => self.lack(&[here, &about(control)].concat()),
            (Lack::Treatment, _) if is_control => None,
            _ => Some(lack),
        }
    }

    fn claim(&self, i: usize) -> &Claim {
        &self.scenario.claims[i]
    }

    /// What the claims about one variant lack, and the claim to point at.
    fn lack(&self, claims: &[usize]) -> Option<(Lack, usize)> {
        let arm = |arm| claims.iter().copied().filter(move |i| self.claim(*i).arm == Some(arm));
        match (arm(Arm::Treatment).next(), arm(Arm::Control).next()) {
            (None, None) => None,
            (Some(i), None) => Some((Lack::Control, i)),
            (None, Some(i)) => Some((Lack::Treatment, i)),
            (Some(i), Some(_)) => {
                let differ = arm(Arm::Treatment).any(|t| {
                    let t = self.claim(t);
                    arm(Arm::Control)
                        .map(|c| self.claim(c))
                        .any(|c| t.probe.is_like(&c.probe) && exclude_each_other(t, c))
                });
                (!differ).then_some((Lack::Difference, i))
            }
        }
    }

    fn incomplete(&self, sentence: &str, lack: Lack, i: usize, variants: &[&Name]) -> Problem {
        let at = self.root.field("claims").item(i).field("sentence").span.clone();
        let all = variants.len() == self.scenario.variants.len();
        let place = match variants {
            _ if all => String::new(),
            [one] => format!(" in variant `{one}`"),
            several => format!(" in variants {}", listed(several.iter().map(|v| v.as_str()))),
        };
        match lack {
            Lack::Control => Problem::new(at, format!("`{sentence}` has no control claim{place}"))
                .label("with the mitigation, and compared with nothing")
                .help("add a claim with `arm: control` on what lacks the mitigation (a workload; of `m.ha/…` one API server, `api-of`; or a variant that is named as `control`): what goes wrong there?"),
            Lack::Treatment => Problem::new(at, format!("`{sentence}` has no treatment claim{place}"))
                .label("without the mitigation, and compared with nothing")
                .help("add a claim with `arm: treatment` on what has the mitigation: what goes right there?"),
            Lack::Difference => Problem::new(at, format!("the arms of `{sentence}` do not contradict each other{place}"))
                .label("both arms could be upheld by the same behaviour")
                .help(
                    "let a treatment and a control claim use the same kind of probe and overlapping windows, and expect the opposite: \
                     `always: {answers: true}` and `never: {answers: true}`",
                ),
        }
    }
}
