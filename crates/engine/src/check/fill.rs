//! A template with what it is given put in: values where they are known, placeholders where they are not. Everything that
//! is asked of a template's body is asked of this form of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use windlass_lang::expr::{Env, Expression, Value, evaluate_tag};
use windlass_lang::tags::Evaluated;
use windlass_model::{AnyString, Arguments, Artifact, Template};

use super::scope::Globals;
use super::{text, wire};

/// How a placeholder begins.
pub(super) const PLACEHOLDER: &str = "__argo__internal__placeholder-";

/// Makes placeholders, each different from all before.
#[derive(Debug, Default)]
pub(super) struct Placeholders(usize);

impl Placeholders {
    pub(super) fn next(&mut self) -> String {
        self.0 += 1;
        format!("{PLACEHOLDER}{}", self.0 - 1)
    }
}

/// What a template is called with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given<'g> {
    /// Whatever it asks for, known only later.
    Anything,
    /// These.
    These(&'g Arguments),
}

/// Whether everything a template asks for is given.
pub(super) fn supplied(template: &Template, given: Given<'_>) -> Result<(), String> {
    let Given::These(given) = given else { return Ok(()) };
    for parameter in &template.inputs.parameters {
        let (value, from) = match given.parameter(&parameter.name) {
            Some(given) => (given.value.is_some(), &given.value_from),
            None => (parameter.value.is_some() || parameter.default.is_some(), &parameter.value_from),
        };
        if !value && from.as_ref().is_none_or(|from| from.config_map_key_ref.is_none()) {
            return Err(format!("inputs.parameters.{} was not supplied", parameter.name));
        }
    }
    for artifact in &template.inputs.artifacts {
        let own = artifact.optional || super::arguments::has_place(artifact);
        if !own && given.artifact(&artifact.name).is_none() {
            return Err(format!("inputs.artifacts.{} was not supplied", artifact.name));
        }
    }
    Ok(())
}

/// A filled template, and its text.
pub(super) struct Filled {
    pub template: Template,
    pub text: String,
}

/// Fills a template.
pub(super) fn fill(
    template: &Template,
    given: Given<'_>,
    globals: &Globals,
    placeholders: &mut Placeholders,
) -> Result<Filled, String> {
    supplied(template, given)?;
    let mut filled = template.clone();
    put_in(&mut filled, given, placeholders);
    let mut words = Words { globals, own: BTreeMap::new() };
    if template.is_pod() {
        words.own.insert("pod.name".to_owned(), placeholders.next());
    }
    if template.retry_strategy.is_some() {
        for word in ["retries", "lastRetry.exitCode", "lastRetry.status", "lastRetry.duration", "lastRetry.message"] {
            words.own.insert(word.to_owned(), placeholders.next());
        }
    }
    let written = wire::text(&filled, "Template");
    // What is known everywhere may stand in the inputs themselves.
    let first = replace(&written, &words)?;
    let Ok(filled) = serde_json::from_str::<Template>(&first) else {
        return Ok(Filled { template: filled, text: first });
    };
    if !first.contains("{{") {
        return Ok(Filled { template: filled, text: first });
    }
    for parameter in &filled.inputs.parameters {
        if let Some(value) = &parameter.value {
            words.own.insert(format!("inputs.parameters.{}", parameter.name), value.0.clone());
        }
    }
    let whole = match filled.inputs.parameters.as_slice() {
        [] => "null".to_owned(),
        parameters => wire::text(&parameters, "Parameter"),
    };
    words.own.insert("inputs.parameters".to_owned(), whole);
    let paths = |list: &[Artifact], word: &str| -> Vec<(String, String)> {
        let paths = list.iter().filter_map(|a| Some((a, a.path.clone().filter(|p| !p.is_empty())?)));
        paths.map(|(a, path)| (format!("{word}.artifacts.{}.path", a.name), path)).collect()
    };
    words.own.extend(paths(&filled.inputs.artifacts, "inputs"));
    words.own.extend(paths(&filled.outputs.artifacts, "outputs"));
    for parameter in &filled.outputs.parameters {
        if let Some(path) = parameter.value_from.as_ref().and_then(|f| f.path.clone()).filter(|p| !p.is_empty()) {
            words.own.insert(format!("outputs.parameters.{}.path", parameter.name), path);
        }
    }
    let second = replace(&first, &words)?;
    let template = serde_json::from_str(&second).unwrap_or(filled);
    Ok(Filled { template, text: second })
}

fn put_in(template: &mut Template, given: Given<'_>, placeholders: &mut Placeholders) {
    for parameter in &mut template.inputs.parameters {
        if parameter.value.is_none() {
            parameter.value = parameter.default.clone();
        }
        match given {
            Given::Anything => {
                parameter.value = Some(AnyString(placeholders.next()));
                parameter.value_from = None;
            }
            Given::These(given) => {
                if let Some(given) = given.parameter(&parameter.name) {
                    parameter.value = given.value.clone();
                    parameter.value_from = given.value_from.clone().filter(|_| given.value.is_none());
                }
            }
        }
    }
    for artifact in &mut template.inputs.artifacts {
        let found = match given {
            Given::Anything => Some(Artifact { name: artifact.name.clone(), ..Artifact::default() }),
            Given::These(given) => given.artifact(&artifact.name).cloned(),
        };
        if let Some(found) = found {
            let own = std::mem::replace(artifact, found);
            artifact.path = own.path;
            artifact.mode = own.mode;
            artifact.recurse_mode = own.recurse_mode;
        }
    }
}

/// What tags stand for.
struct Words<'g> {
    globals: &'g Globals,
    own: BTreeMap<String, String>,
}

impl Words<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.own.get(name).or_else(|| self.globals.get(name)).map(String::as_str)
    }

    /// What stands below a name, as a map.
    fn under(&self, name: &str) -> Option<Value> {
        let prefix = format!("{name}.");
        let mut map = BTreeMap::new();
        for words in [self.globals, &self.own] {
            let below = words.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
            map.extend(below.map(|(key, value)| (key[prefix.len()..].to_owned(), Value::Text(value.clone()))));
        }
        (!map.is_empty()).then_some(Value::Map(map))
    }

    fn evaluate(&self, text: &str) -> Option<String> {
        let expression = Expression::parse(text).ok()?;
        let mut env = Env::default();
        for name in expression.names() {
            let path: Vec<&str> = name.path.iter().map(String::as_str).collect();
            // The longest part that means something; what follows is a field of it.
            let known = (1..=path.len()).rev().find_map(|length| {
                let word = path[..length].join(".");
                let value = match self.under(&word) {
                    None => self.get(&word).map(|text| Value::Text(text.to_owned())),
                    some => some,
                };
                Some((length, value?))
            });
            if let Some((length, value)) = known
                && env.get(&path[..length]).is_none()
            {
                env.set_path(&path[..length], value);
            }
        }
        match evaluate_tag(text, &env) {
            Evaluated::Text(text) => Some(text),
            Evaluated::Unknown | Evaluated::Failed(_) => None,
        }
    }
}

/// Puts in what is known and leaves the rest as it stands.
fn replace(written: &str, words: &Words<'_>) -> Result<String, String> {
    if !written.contains("{{") {
        return Ok(written.to_owned());
    }
    let replaced = text::replace(written, |tag, out| match tag.strip_prefix('=') {
        Some(expression) => of_expression(expression, words, out),
        None => {
            of_name(tag, words, out);
            Ok(())
        }
    })?;
    match serde_json::from_str::<serde::de::IgnoredAny>(&replaced) {
        Ok(_) => Ok(replaced),
        Err(_) => Err("cannot finish template replacement because the result was invalid JSON".to_owned()),
    }
}

fn of_name(tag: &str, words: &Words<'_>, out: &mut String) {
    if let Some(value) = words.get(tag.trim()) {
        out.push_str(&text::quote(value));
        return;
    }
    out.push_str("{{");
    // A tag in a tag: its end is the inner one's, and the outer one's is still to come.
    if let Some((before, inner)) = tag.rsplit_once("{{").filter(|(before, _)| !before.is_empty())
        && let Some(value) = words.get(inner)
    {
        out.push_str(before);
        out.push_str(&text::quote(value));
        return;
    }
    out.push_str(tag);
    out.push_str("}}");
}

fn of_expression(written: &str, words: &Words<'_>, out: &mut String) -> Result<(), String> {
    let fixed = unescaped(written);
    let expression = serde_json::from_str::<String>(&format!("\"{fixed}\"")).map_err(|_| {
        let after = string_end(&fixed).and_then(|end| fixed[end + 1..].chars().next()).unwrap_or('"');
        format!("failed to unmarshall JSON expression: invalid character '{after}' after top-level value")
    })?;
    match words.evaluate(&expression) {
        Some(value) => {
            let quoted = serde_json::Value::String(value).to_string();
            out.push_str(&quoted[1..quoted.len() - 1]);
        }
        None => {
            out.push_str("{{=");
            out.push_str(&fixed);
            out.push_str("}}");
        }
    }
    Ok(())
}

/// Where a JSON string ends that the tag runs out of.
fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        end.then_some(at)
    })
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains("\\u00") {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace("\\u003c", "<").replace("\\u003e", ">").replace("\\u0026", "&"))
}
