//! Rule (warning): memoization without a ConfigMap, or with a key that no ConfigMap takes. Argo finds it when the step
//! runs. Keys that come from tags are left to the run.

use super::object::Placed;
use super::report::Report;

pub(super) fn check(placed: &Placed<'_>, report: &mut Report<'_>) {
    let Some(memoize) = &placed.template.memoize else { return };
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
    let age = memoize.max_age.as_deref().filter(|age| !age.is_empty() && !age.contains("{{"));
    if let Some(age) = age.filter(|age| crate::duration::parse_ms(age).is_none()) {
        report.warning("argo::bad-memoize", &format!("{at}/maxAge"), format!("`{age}` is no duration"));
        report.help("write `10s`, `5m` or `1h30m`");
    }
}
