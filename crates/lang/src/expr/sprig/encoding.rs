//! sprig's functions of text that stands for something else: base 32 and 64, checksums, JSON, versions, URLs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha512};

use super::super::codec;
use super::super::semver::{self, Version};
use super::arguments::{map, text};
use super::{Found, Value, url};

/// A function by name; nothing when it is none of these.
pub(super) fn call(name: &str, v: &[Value]) -> Found {
    let out = |t: String| Value::Text(t);
    Ok(Some(match name {
        "b64enc" => out(STANDARD.encode(text(v, 0)?)),
        // What is wrong with it is the value, as in sprig.
        "b64dec" => out(codec::unbase64(text(v, 0)?).map_or_else(|why| why, lossy)),
        "b32enc" => out(codec::base32(text(v, 0)?.as_bytes())),
        "b32dec" => out(codec::unbase32(text(v, 0)?).map_or_else(|why| why, lossy)),
        "sha1sum" => out(hex::encode(Sha1::digest(text(v, 0)?))),
        "sha256sum" => out(hex::encode(Sha256::digest(text(v, 0)?))),
        "sha512sum" => out(hex::encode(Sha512::digest(text(v, 0)?))),
        "semver" => Value::Version(Box::new(Version::parse(text(v, 0)?)?)),
        "semverCompare" => Value::Bool(semver::fits(text(v, 0)?, text(v, 1)?)?),
        "urlParse" => url::parse(text(v, 0)?)?,
        "urlJoin" => url::join(&map(v, 0)?)?,
        "adler32sum" => {
            let (a, b) = text(v, 0)?.bytes().fold((1u32, 0u32), |(a, b), byte| {
                let a = (a + u32::from(byte)) % 65_521;
                (a, (b + a) % 65_521)
            });
            out(((b << 16) | a).to_string())
        }
        "toJson" | "mustToJson" => out(v[0].json_text(true).unwrap_or_default()),
        "toPrettyJson" | "mustToPrettyJson" => out(v[0].json_pretty(true).unwrap_or_default()),
        "toRawJson" | "mustToRawJson" => out(v[0].json_text(false).unwrap_or_default()),
        "fromJson" | "mustFromJson" => match serde_json::from_str::<serde_json::Value>(text(v, 0)?) {
            Ok(json) => Value::decoded(&json),
            Err(_) if name == "fromJson" => Value::Null,
            Err(error) => return Err(format!("this is no JSON: {error}")),
        },
        _ => return Ok(None),
    }))
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}
