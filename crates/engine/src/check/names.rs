//! The forms of names, in the words in which Argo refuses a wrong one. Knows no place: who asks says where it is.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use super::fill::PLACEHOLDER;

static FIELD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^[a-zA-Z0-9][-a-zA-Z0-9]*$").expect("invariant: a constant pattern"));
static PLACEHOLDERS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&format!("{PLACEHOLDER}[0-9]+")).expect("invariant: a constant pattern"));
static PARAMETER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{\{[-a-zA-Z0-9]+(\.[-a-zA-Z0-9_]+)*\}\}").expect("invariant: a constant pattern"));

/// What is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A parameter or an artifact.
    Value,
    /// Anything else: templates, tasks, containers.
    Field,
}

/// Every one of a list has a name, in the right form, and its own.
pub(super) fn list<'n>(names: impl Iterator<Item = &'n str>, form: Form) -> Result<(), String> {
    let mut seen = HashSet::new();
    for (i, name) in names.enumerate() {
        if name.is_empty() {
            return Err(format!("[{i}].name is required"));
        }
        let wrong = match form {
            Form::Value => value(name).map(str::to_owned),
            Form::Field => field(name),
        };
        if let Some(wrong) = wrong {
            return Err(format!("[{i}].name: '{name}' is invalid: {wrong}"));
        }
        if !seen.insert(name) {
            return Err(format!("[{i}].name '{name}' is not unique"));
        }
    }
    Ok(())
}

/// What is wrong with the name of a parameter or an artifact.
pub(super) fn value(name: &str) -> Option<&'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (name.is_empty() || !name.bytes().all(allowed)).then_some(
        "Parameter/Artifact name must consist of alpha-numeric characters, '_' or '-' e.g. my_param_1, MY-PARAM-1",
    )
}

/// What is wrong with any other name.
pub(super) fn field(name: &str) -> Option<String> {
    let mut wrong = Vec::new();
    if name.len() > 128 {
        wrong.push("must be no more than 128 characters");
    }
    if !FIELD.is_match(name) {
        wrong.push(
            "name must consist of alpha-numeric characters or '-', and must start with an alpha-numeric character \
             (e.g. My-name1-2, 123-NAME)",
        );
    }
    (!wrong.is_empty()).then(|| wrong.join(";"))
}

/// What is wrong with a step's name. What is not known yet counts as a letter.
pub(super) fn step(name: &str) -> Option<String> {
    match name.contains(PLACEHOLDER) {
        true => field(&PLACEHOLDERS.replace_all(name, "x")),
        false => field(name),
    }
}

/// Whether a tag is in it: what it will be is not known yet.
pub(super) fn is_parameter(text: &str) -> bool {
    text.contains("{{") && PARAMETER.is_match(text)
}
