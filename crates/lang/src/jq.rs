//! jq filters over JSON, as output parameters use them. The language is `jaq`'s. Pure: what would ask for the time, the
//! environment or a stream is refused by name.

use jaq_core::load::{Arena, File, Loader};
use jaq_core::native::run as run_native;
use jaq_core::{Compiler, Ctx, Error, Exn, Vars, data};
use jaq_json::{Val, read};

use crate::source::Fault;

/// Functions that would look at the world.
const WORLD: [&str; 7] = ["env", "now", "localtime", "strflocaltime", "input", "inputs", "stderr_empty"];

/// What a filter makes of a value: each of its answers as text, strings without quotes.
pub fn run(filter: &str, input: &serde_json::Value) -> Result<Vec<String>, Fault> {
    let wrong = |message: String| Fault::new(message, 0..filter.len());
    let input = read::parse_single(input.to_string().as_bytes()).map_err(|e| wrong(e.to_string()))?;
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs()).map(|function| {
        if !WORLD.contains(&function.0) {
            return function;
        }
        let refuse: jaq_core::RunPtr<data::JustLut<Val>> = |_| {
            let why = Error::str("this function looks at the world, and is not to be had here");
            Box::new(std::iter::once(Err(Exn::from(why))))
        };
        run_native::<data::JustLut<Val>>((function.0, function.1, refuse))
    });
    let arena = Arena::default();
    let modules = Loader::new(definitions).load(&arena, File { code: filter, path: () });
    let modules = modules.map_err(|errors| wrong(not_loaded(&errors)))?;
    let compiled = Compiler::default().with_funs(functions).compile(modules);
    let compiled = compiled.map_err(|errors| {
        let names =
            errors.iter().flat_map(|(_, faults)| faults).map(|(name, kind)| format!("{} {name}", kind.as_str()));
        wrong(format!("this jq filter uses what there is not: {}", names.collect::<Vec<_>>().join(", ")))
    })?;
    let context = Ctx::<data::JustLut<Val>>::new(&compiled.lut, Vars::new([]));
    let answers = compiled.id.run((context, input));
    let text = |value: Val| match &value {
        Val::TStr(text) | Val::BStr(text) => String::from_utf8_lossy(text).into_owned(),
        other => other.to_string(),
    };
    answers.map(|answer| answer.map(text).map_err(|e| wrong(stopped(e)))).collect()
}

fn stopped(why: Exn<'_, Val>) -> String {
    // `halt` ends a filter, and so does a `break` out of nothing.
    why.get_err().map_or_else(|_| "the jq filter ended itself".to_owned(), |error| error.to_string())
}

fn not_loaded(errors: &jaq_core::load::Errors<&str, ()>) -> String {
    use jaq_core::load::Error;
    let near = |rest: &str| match rest.chars().take(20).collect::<String>() {
        near if near.is_empty() => "at its end".to_owned(),
        near => format!("at {near:?}"),
    };
    let of = |error: &Error<&str>| match error {
        Error::Io(all) => all.first().map(|(name, why)| format!("{name}: {why}")),
        Error::Lex(all) => all.first().map(|(want, rest)| format!("{} is missing {}", want.as_str(), near(rest))),
        Error::Parse(all) => all.first().map(|(want, rest)| format!("{} is missing {}", want.as_str(), near(rest))),
    };
    let first = errors.iter().find_map(|(_, error)| of(error));
    format!("this is no jq filter: {}", first.unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn filters() {
        let pod = json!({"metadata": {"name": "a", "labels": {"x": "1", "y": "2"}}, "items": [{"n": 1.5}, {"n": 20}]});
        let of = |filter: &str| run(filter, &pod).map(|all| all.join("\n")).map_err(|f| f.message);
        assert_eq!(of(".metadata.name").unwrap(), "a");
        assert_eq!(of(".items[].n").unwrap(), "1.5\n20");
        assert_eq!(of(".metadata.labels | to_entries | map(.key + \"=\" + .value) | join(\",\")").unwrap(), "x=1,y=2");
        assert_eq!(of("[.items[] | select(.n > 2)] | length").unwrap(), "1");
        assert_eq!(of(".metadata.labels").unwrap(), r#"{"x":"1","y":"2"}"#);
        assert_eq!(of(".none").unwrap(), "null");
        assert_eq!(of(".metadata.name | test(\"^a\") | @base64 \"\\(.)\"").unwrap(), "dHJ1ZQ==");
        assert_eq!(of("empty").unwrap(), "");
    }

    #[test]
    fn faults() {
        let of = |filter: &str| run(filter, &json!({"a": 1})).unwrap_err().message;
        assert!(of(".a |").starts_with("this is no jq filter"), "{}", of(".a |"));
        assert!(of("{").starts_with("this is no jq filter"), "{}", of("{"));
        assert!(of("nonsense(.)").contains("nonsense"), "{}", of("nonsense(.)"));
        assert!(of(".a[0]").contains("1"), "{}", of(".a[0]"));
        for world in ["now", "env", "$ENV.HOME", "input"] {
            assert!(!of(world).is_empty(), "{world}");
        }
        assert_eq!(of("halt"), "the jq filter ended itself");
        assert!(of("now").contains("looks at the world"));
    }
}
