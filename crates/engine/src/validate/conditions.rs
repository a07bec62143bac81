//! Rule: a `when` can be read once its tags are replaced.

use windlass_lang::{tags, when};

use super::object::{Placed, calls};
use super::report::Report;

pub(super) fn check(placed: &Placed<'_>, report: &mut Report<'_>) {
    for call in calls(placed.template, &placed.pointer) {
        let Some(text) = call.when.filter(|w| !w.is_empty()) else { continue };
        let at = format!("{}/when", call.pointer);
        if text.contains("{{=") {
            continue;
        }
        // What a tag will be is not known: a word of the same length stands for it, so that places stay right.
        // In quotes it is text, bare it is whatever fits, so only faults that no value could mend are reported.
        let mut filled = text.to_owned();
        for tag in tags::find(text) {
            let stand_in = "x".repeat(tag.range.len());
            filled.replace_range(tag.range, &stand_in);
        }
        if filled.contains("{{") {
            continue;
        }
        let parsed = when::Condition::parse(&filled);
        if let Ok(condition) = &parsed
            && tags::find(text).is_empty()
            && let Err(fault) = condition.value()
        {
            let message = format!("this `when` will fail: {}", fault.message);
            report.warning_in("argo::bad-when", &at, fault.range, message);
            report.help("text that is one value needs quotes");
        }
        if let Err(fault) = parsed {
            let message = format!("this `when` cannot be read: {}", fault.message.replace(&filled, text));
            // Argo reads it when its turn comes.
            let sign = filled.get(fault.range.clone()).unwrap_or_default().to_owned();
            report.warning_in("argo::bad-when", &at, fault.range, message);
            match sign.as_str() {
                "=" => report.help("did you mean `==`?"),
                _ if fault.message.starts_with("Invalid token") => report.help("text that is one value needs quotes"),
                _ => {}
            }
        }
    }
}
