//! `{{=…}}`: the bridge from a [`Scope`] to the language's evaluator. Knows names; evaluates nothing by itself.

use windlass_lang::tags::Evaluated;

use crate::scope::Scope;

/// The value of an expression at a place.
pub(crate) fn evaluate(_scope: &Scope<'_>, _text: &str) -> Evaluated {
    Evaluated::Unknown
}

/// The artifact an expression gives; nothing when it gives nothing.
pub(crate) fn artifact(_scope: &Scope<'_>, text: &str) -> Result<Option<windlass_model::Artifact>, String> {
    Err(format!("failed to evaluate expression: {text}"))
}

/// The truth of an expression.
pub(crate) fn holds(_scope: &Scope<'_>, text: &str) -> Result<bool, String> {
    Err(format!("failed to evaluate expression: {text}"))
}
