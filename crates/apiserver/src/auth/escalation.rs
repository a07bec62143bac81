//! Nobody may grant what he does not hold: the check on writes of roles and bindings. Pure over rules; asks nothing.

use super::rbac::Rule;
use std::collections::BTreeSet;

/// The atoms of `wanted` that `owned` does not cover, as Kubernetes prints them, sorted; empty if all is covered.
#[must_use]
pub fn missing(owned: &[Rule], wanted: &[Rule]) -> Vec<String> {
    let lacking: Vec<Rule> =
        wanted.iter().flat_map(atoms).filter(|atom| !owned.iter().any(|rule| covers(rule, atom))).collect();
    compact(lacking).iter().map(describe).collect::<BTreeSet<_>>().into_iter().collect()
}

/// One verb, one group, one resource, at most one name.
fn atoms(rule: &Rule) -> Vec<Rule> {
    let mut out = Vec::new();
    for verb in &rule.verbs {
        for url in &rule.non_resource_urls {
            let atom = Rule { verbs: vec![verb.clone()], non_resource_urls: vec![url.clone()], ..Rule::default() };
            out.push(atom);
        }
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let base = Rule {
                    verbs: vec![verb.clone()],
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..Rule::default()
                };
                if rule.resource_names.is_empty() {
                    out.push(base);
                } else {
                    out.extend(
                        rule.resource_names.iter().map(|n| Rule { resource_names: vec![n.clone()], ..base.clone() }),
                    );
                }
            }
        }
    }
    out
}

fn covers(owner: &Rule, atom: &Rule) -> bool {
    let all = |own: &[String], want: &[String]| own.iter().any(|o| o == "*") || want.iter().all(|w| own.contains(w));
    let resources = owner.resources.iter().any(|o| o == "*")
        || atom.resources.iter().all(|want| {
            owner.resources.contains(want)
                || want.split_once('/').is_some_and(|(_, sub)| owner.resources.iter().any(|o| o == &format!("*/{sub}")))
        });
    let names = owner.resource_names.is_empty()
        || (!atom.resource_names.is_empty() && atom.resource_names.iter().all(|n| owner.resource_names.contains(n)));
    let urls = atom.non_resource_urls.iter().all(|want| {
        owner
            .non_resource_urls
            .iter()
            .any(|o| o == want || o == "*" || o.strip_suffix('*').is_some_and(|p| want.starts_with(p)))
    });
    all(&owner.verbs, &atom.verbs) && all(&owner.api_groups, &atom.api_groups) && resources && names && urls
}

/// Joins atoms that differ only in the verb, as Kubernetes does before it prints.
fn compact(atoms: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for atom in atoms {
        let simple = atom.resources.len() == 1 && atom.api_groups.len() == 1;
        let same = |r: &&mut Rule| {
            r.resources == atom.resources && r.api_groups == atom.api_groups && r.resource_names == atom.resource_names
        };
        match out.iter_mut().find(same) {
            Some(rule) if simple => {
                for verb in atom.verbs {
                    if !rule.verbs.contains(&verb) {
                        rule.verbs.push(verb);
                    }
                }
            }
            _ => out.push(atom),
        }
    }
    out
}

fn describe(rule: &Rule) -> String {
    let mut parts = Vec::new();
    let mut part = |name: &str, list: &[String]| {
        if !list.is_empty() {
            let quoted: Vec<String> = list.iter().map(|v| format!("{v:?}")).collect();
            parts.push(format!("{name}:[{}]", quoted.join(" ")));
        }
    };
    part("APIGroups", &rule.api_groups);
    part("Resources", &rule.resources);
    part("NonResourceURLs", &rule.non_resource_urls);
    part("ResourceNames", &rule.resource_names);
    part("Verbs", &rule.verbs);
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Rule {
        let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        Rule { api_groups: own(groups), resources: own(resources), verbs: own(verbs), ..Rule::default() }
    }

    #[test]
    fn what_is_not_held_is_named() {
        let owned = [rule(&[""], &["pods", "*/scale"], &["get", "list"])];
        assert!(missing(&owned, &[rule(&[""], &["pods"], &["list"])]).is_empty());
        assert!(missing(&owned, &[rule(&[""], &["deployments/scale"], &["get"])]).is_empty());
        assert_eq!(
            missing(&owned, &[rule(&[""], &["pods", "secrets"], &["get", "delete"])]),
            [
                "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}",
                "{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"delete\"]}",
            ]
        );
    }
}
