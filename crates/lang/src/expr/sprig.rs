//! sprig's generic functions, as `sprig.NAME(…)`.
use super::value::Value;
pub(super) fn call(name: &str, _values: &[Value]) -> Result<Value, String> { Err(format!("there is no function `sprig.{name}`")) }
