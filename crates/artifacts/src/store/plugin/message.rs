//! The messages of Argo's `artifact.proto` as bytes, written and read by hand: there are a dozen fields of four types. A
//! field that is not known is passed over, a message that is cut is an error. Must never panic on what a plugin sends.

use serde_json::Value;

/// The bytes of a message under construction. As in proto3, what is empty, zero or false is left out.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn text(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub(super) fn bytes(self, field: u32, bytes: &[u8]) -> Self {
        if bytes.is_empty() { self } else { self.message(field, bytes) }
    }

    /// A message inside, which is there though it may be empty.
    pub(super) fn message(mut self, field: u32, bytes: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn number(mut self, field: u32, number: i64) -> Self {
        if number != 0 {
            self.varint(u64::from(field) << 3);
            // As int32 has it: a negative number is ten bytes.
            self.varint(number.cast_unsigned());
        }
        self
    }

    pub(super) fn flag(self, field: u32, flag: bool) -> Self {
        self.number(field, i64::from(flag))
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

/// A message is cut, or no message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The value of a field.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads a message field by field.
pub(super) fn each<'a>(mut bytes: &'a [u8], mut take: impl FnMut(u32, Part<'a>)) -> Result<(), Malformed> {
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = u32::try_from(key >> 3).map_err(|_| Malformed)?;
        match key & 7 {
            0 => take(field, Part::Number(varint(&mut bytes)?)),
            1 => drop(cut(&mut bytes, 8)?),
            2 => {
                let length = varint(&mut bytes)?;
                take(field, Part::Bytes(cut(&mut bytes, length)?));
            }
            5 => drop(cut(&mut bytes, 4)?),
            _ => return Err(Malformed),
        }
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(Malformed)?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

fn cut<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(length).ok().filter(|n| *n <= bytes.len()).ok_or(Malformed)?;
    let (first, rest) = bytes.split_at(length);
    *bytes = rest;
    Ok(first)
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The message `Artifact` of an artifact (Argo's JSON).
pub(super) fn artifact(json: &Value) -> Vec<u8> {
    let text = |of: &'_ Value, field: &str| of.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |of: &Value, field: &str| of.get(field).and_then(Value::as_i64).unwrap_or_default();
    let flag = |field: &str| json.get(field).and_then(Value::as_bool).unwrap_or_default();
    let none = Value::Null;
    let plugin = json.get("plugin").unwrap_or(&none);
    let inner = Writer::default()
        .text(1, &text(plugin, "name"))
        .text(2, &text(plugin, "configuration"))
        .number(3, number(plugin, "connectionTimeoutSeconds"))
        .text(4, &text(plugin, "key"))
        .done();
    Writer::default()
        .text(1, &text(json, "name"))
        .text(2, &text(json, "path"))
        .number(3, number(json, "mode"))
        .text(4, &text(json, "from"))
        .message(5, &inner)
        .flag(6, flag("optional"))
        .text(7, &text(json, "subPath"))
        .flag(8, flag("recurseMode"))
        .text(9, &text(json, "fromExpression"))
        .flag(10, flag("deleted"))
        .done()
}

/// The answer of `Load`, `Save`, `SaveStream` and `Delete`: whether it is done, and else why not.
pub(super) fn done(bytes: &[u8]) -> Result<Result<(), String>, Malformed> {
    let (mut success, mut error) = (false, String::new());
    each(bytes, |field, part| match (field, part) {
        (1, Part::Number(number)) => success = number != 0,
        (2, Part::Bytes(text)) => error = words(text),
        _ => {}
    })?;
    Ok(if success { Ok(()) } else { Err(error) })
}

/// The answer of `ListObjects`.
pub(super) fn objects(bytes: &[u8]) -> Result<Result<Vec<String>, String>, Malformed> {
    let (mut objects, mut error) = (Vec::new(), String::new());
    each(bytes, |field, part| match (field, part) {
        (1, Part::Bytes(text)) => objects.push(words(text)),
        (2, Part::Bytes(text)) => error = words(text),
        _ => {}
    })?;
    Ok(if error.is_empty() { Ok(objects) } else { Err(error) })
}

/// The answer of `GetCapabilities`: whether there is `SaveStream`.
pub(super) fn capabilities(bytes: &[u8]) -> Result<bool, Malformed> {
    let mut streams = false;
    each(bytes, |field, part| {
        if let (1, Part::Number(number)) = (field, part) {
            streams = number != 0;
        }
    })?;
    Ok(streams)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_artifact_as_protoc_writes_it() {
        let json = json!({"name": "a", "mode": -1, "optional": true,
            "plugin": {"name": "p", "connectionTimeoutSeconds": 300, "key": "k"}});
        let bytes = artifact(&json);
        assert_eq!(
            hex::encode(&bytes),
            concat!("0a0161", "18ffffffffffffffffff01", "2a09", "0a0170", "18ac02", "22016b", "3001")
        );
    }

    #[test]
    fn answers_are_read_and_what_is_cut_is_none() {
        assert_eq!(done(&[0x08, 1]), Ok(Ok(())));
        assert_eq!(done(b"\x12\x02no"), Ok(Err("no".to_owned())));
        assert_eq!(done(&[]), Ok(Err(String::new())));
        assert_eq!(objects(b"\x0a\x01a\x0a\x01b"), Ok(Ok(vec!["a".to_owned(), "b".to_owned()])));
        // Fields of a later version, of every type.
        assert_eq!(
            capabilities(b"\x08\x01\x1a\x01x\x25\x00\x00\x00\x00\x29\x00\x00\x00\x00\x00\x00\x00\x00"),
            Ok(true)
        );
        for cut in [&b"\x12\x05no"[..], b"\x08", b"\x0b", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x29\x00"]
        {
            assert_eq!(done(cut), Err(Malformed), "{cut:?}");
        }
    }
}
