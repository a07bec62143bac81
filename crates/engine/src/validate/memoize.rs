//! Rule (warning): memoization without a ConfigMap, or with a key that no ConfigMap takes. Argo finds it when the step
//! runs. The same of the annotation `windlass.dev/cache`: what it says, and where it has no effect. Keys that come from tags are left to the run.

use windlass_model::labels;

use super::object::{Object, Placed};
use super::report::Report;

pub(super) fn check(placed: &Placed<'_>, report: &mut Report<'_>) {
    let template = placed.template;
    let of = [("annotations", &template.annotations), ("metadata/annotations", &template.metadata.annotations)];
    let own = of.into_iter().find_map(|(at, all)| all.get(labels::CACHE).map(|said| (at, said)));
    if let Some((at, said)) = own {
        let at = format!("{}/{at}/{}", placed.pointer, labels::CACHE.replace('/', "~1"));
        annotation(said, &at, report);
        if template.memoize.is_none() && said.trim() != "false" && !crate::memo::can_be_remembered(template) {
            report.warning(
                "windlass::bad-cache",
                &at,
                "only what a container makes can be remembered by what it is made of",
            );
            report.help("give the template a `memoize.key`, or annotate the templates that it calls");
        }
    }
    let Some(memoize) = &template.memoize else { return };
    if own.is_some_and(|(_, said)| said.trim() != "false") {
        age(memoize.max_age.as_deref(), &format!("{}/memoize/maxAge", placed.pointer), report);
        return;
    }
    let at = format!("{}/memoize", placed.pointer);
    let map = memoize.cache.as_ref().and_then(|c| c.config_map.as_ref());
    if map.is_none_or(|map| map.name.is_empty()) {
        report.warning("argo::bad-memoize", &at, "there is no ConfigMap to remember outputs in");
        report.help("write `cache: {configMap: {name: …}}`");
    }
    let key = memoize.key.as_str();
    let plain = |c: char| c.is_ascii_alphanumeric();
    let is_key = key.starts_with(plain) && key.chars().all(|c| plain(c) || c == '-');
    if !is_key && !key.contains("{{") {
        let message = format!("`{key}` cannot be a key: only letters, digits and `-`, and no `-` at the beginning");
        report.warning("argo::bad-memoize", &format!("{at}/key"), message);
    }
    age(memoize.max_age.as_deref(), &format!("{at}/maxAge"), report);
}

/// The annotation of a whole workflow.
pub(super) fn check_whole(object: &Object<'_>, report: &mut Report<'_>) {
    let place = "/metadata/annotations";
    let said = object.document.value.pointer(place).and_then(|all| all[labels::CACHE].as_str());
    if let Some(said) = said {
        annotation(said, &format!("{place}/{}", labels::CACHE.replace('/', "~1")), report);
    }
}

fn annotation(said: &str, at: &str, report: &mut Report<'_>) {
    let said = said.trim();
    if !matches!(said, "true" | "false") && crate::duration::parse_ms(said).is_none() {
        report.warning(
            "windlass::bad-cache",
            at,
            format!("`{said}` says neither whether outputs are remembered nor how long"),
        );
        report.help("write `\"true\"`, `\"false\"`, or how old they may be: `24h`");
    }
}

fn age(text: Option<&str>, at: &str, report: &mut Report<'_>) {
    let age = text.filter(|age| !age.is_empty() && !age.contains("{{"));
    if let Some(age) = age.filter(|age| crate::duration::parse_ms(age).is_none()) {
        report.warning("argo::bad-memoize", at, format!("`{age}` is no duration"));
        report.help("write `10s`, `5m` or `1h30m`");
    }
}
