//! sprig's generic functions, as `sprig.NAME(…)`. What needs a clock, dice, the environment, the network or keys is not
//! there, as in Argo, nor is sprig's cryptography but for checksums. Here is who is asked, and with how many arguments; what the
//! functions do is in the rooms, one for each kind of thing.

mod arguments;
mod cast;
mod dates;
mod dicts;
mod encoding;
mod lists;
mod numbers;
mod paths;
mod patterns;
mod texts;
mod url;
mod values;
mod words;

use super::value::Value;

/// What a room answers: nothing when the function is none of its own.
type Found = Result<Option<Value>, String>;

/// Most bytes of a text that is made.
const TEXT_MAX: usize = 1_000_000;

/// Functions with a fixed number of arguments: name and number.
const FIXED: &[(&str, usize)] = &[
    ("abbrev", 2),
    ("trim", 1),
    ("trimAll", 2),
    ("trimall", 2),
    ("trimPrefix", 2),
    ("trimSuffix", 2),
    ("upper", 1),
    ("lower", 1),
    ("title", 1),
    ("untitle", 1),
    ("repeat", 2),
    ("substr", 3),
    ("trunc", 2),
    ("contains", 2),
    ("hasPrefix", 2),
    ("hasSuffix", 2),
    ("replace", 3),
    ("nospace", 1),
    ("swapcase", 1),
    ("snakecase", 1),
    ("camelcase", 1),
    ("kebabcase", 1),
    ("indent", 2),
    ("nindent", 2),
    ("plural", 3),
    ("initials", 1),
    ("wrap", 2),
    ("wrapWith", 3),
    ("b64enc", 1),
    ("b64dec", 1),
    ("b32enc", 1),
    ("b32dec", 1),
    ("atoi", 1),
    ("int", 1),
    ("int64", 1),
    ("float64", 1),
    ("toString", 1),
    ("toStrings", 1),
    ("toDecimal", 1),
    ("join", 2),
    ("sortAlpha", 1),
    ("split", 2),
    ("splitList", 2),
    ("splitn", 3),
    ("add1", 1),
    ("add1f", 1),
    ("sub", 2),
    ("div", 2),
    ("mod", 2),
    ("ceil", 1),
    ("floor", 1),
    ("ternary", 3),
    ("empty", 1),
    ("fromJson", 1),
    ("mustFromJson", 1),
    ("toJson", 1),
    ("mustToJson", 1),
    ("toPrettyJson", 1),
    ("mustToPrettyJson", 1),
    ("toRawJson", 1),
    ("mustToRawJson", 1),
    ("deepCopy", 1),
    ("mustDeepCopy", 1),
    ("deepEqual", 2),
    ("typeOf", 1),
    ("typeIs", 2),
    ("typeIsLike", 2),
    ("kindOf", 1),
    ("kindIs", 2),
    ("get", 2),
    ("set", 3),
    ("unset", 2),
    ("hasKey", 2),
    ("values", 1),
    ("first", 1),
    ("mustFirst", 1),
    ("last", 1),
    ("mustLast", 1),
    ("rest", 1),
    ("mustRest", 1),
    ("initial", 1),
    ("mustInitial", 1),
    ("append", 2),
    ("mustAppend", 2),
    ("push", 2),
    ("mustPush", 2),
    ("prepend", 2),
    ("mustPrepend", 2),
    ("reverse", 1),
    ("mustReverse", 1),
    ("uniq", 1),
    ("mustUniq", 1),
    ("has", 2),
    ("mustHas", 2),
    ("compact", 1),
    ("mustCompact", 1),
    ("chunk", 2),
    ("mustChunk", 2),
    ("base", 1),
    ("dir", 1),
    ("clean", 1),
    ("ext", 1),
    ("isAbs", 1),
    ("osBase", 1),
    ("osDir", 1),
    ("osClean", 1),
    ("osExt", 1),
    ("osIsAbs", 1),
    ("regexMatch", 2),
    ("mustRegexMatch", 2),
    ("regexFind", 2),
    ("mustRegexFind", 2),
    ("regexFindAll", 3),
    ("mustRegexFindAll", 3),
    ("regexReplaceAll", 3),
    ("mustRegexReplaceAll", 3),
    ("regexReplaceAllLiteral", 3),
    ("mustRegexReplaceAllLiteral", 3),
    ("regexSplit", 3),
    ("mustRegexSplit", 3),
    ("regexQuoteMeta", 1),
    ("fail", 1),
    ("until", 1),
    ("abbrevboth", 3),
    ("adler32sum", 1),
    ("sha1sum", 1),
    ("sha256sum", 1),
    ("sha512sum", 1),
    ("semver", 1),
    ("semverCompare", 2),
    ("urlParse", 1),
    ("urlJoin", 1),
    ("date", 2),
    ("dateInZone", 3),
    ("date_in_zone", 3),
    ("htmlDate", 1),
    ("htmlDateInZone", 2),
    ("unixEpoch", 1),
    ("toDate", 2),
    ("mustToDate", 2),
    ("dateModify", 2),
    ("mustDateModify", 2),
    ("duration", 1),
    ("durationRound", 1),
    ("untilStep", 3),
    ("hello", 0),
];

/// The rooms, as they are asked.
const ROOMS: &[fn(&str, &[Value]) -> Found] =
    &[numbers::call, texts::call, encoding::call, paths::call, patterns::call, lists::call, values::call, dicts::call];

/// A function by name.
pub(super) fn call(name: &str, v: &[Value], now: Option<jiff::Zoned>) -> Result<Value, String> {
    if let Some((_, n)) = FIXED.iter().find(|(f, _)| *f == name)
        && *n != v.len()
    {
        return Err(format!("`sprig.{name}` takes {n} arguments, and is given {}", v.len()));
    }
    let found = ROOMS.iter().find_map(|room| room(name, v).transpose()).or_else(|| dates::call(name, v, now));
    let value = found.unwrap_or_else(|| Err(format!("there is no function `sprig.{name}`")))?;
    if value.weight() > TEXT_MAX {
        return Err("this becomes too big".to_owned());
    }
    Ok(value)
}
