//! Names that follow from a delivery: the same delivery, the same names, after any crash. They must never depend on a
//! clock or on chance.
//!
//! This is how duplicates are dropped: a delivery's object is created under a name made of provider and delivery id, and
//! what it submits under names made of that name and the position in the manifest. Creating twice is answered with
//! `AlreadyExists`, whoever asks and however often.

use sha2::{Digest, Sha256};

/// Kubernetes' own alphabet for generated names: no vowels, no look-alikes.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// So that the name still fits into a label value.
const NAME_BYTES_MAX: usize = 63;

/// The name of the Delivery object for a provider's delivery id.
pub fn delivery(provider: &str, id: &str) -> String {
    // One of several changes that came with one request. A name without this has no dot after a plain id.
    if let Some((request, index)) = id.rsplit_once('#')
        && let Ok(index) = index.parse::<u16>()
    {
        return format!("{}.{index:03}", delivery(provider, request));
    }
    let plain = !id.is_empty()
        && id.len() <= 48
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !id.ends_with('-');
    match plain {
        true => format!("{provider}-{id}"),
        // Another prefix, so that no plain id can take the name of a hashed one.
        false => format!("{provider}.{}", &hex::encode(Sha256::digest(id.as_bytes()))[..32]),
    }
}

/// The name of the `index`th object that a delivery submits under `generate_name`.
pub fn submitted(generate_name: &str, delivery: &str, index: usize) -> String {
    let suffix = suffix(&[delivery, &index.to_string()], 10);
    let mut end = generate_name.len().min(NAME_BYTES_MAX - suffix.len());
    while !generate_name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &generate_name[..end])
}

fn suffix(parts: &[&str], length: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digest = hash.finalize();
    digest.iter().take(length).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_delivery() {
        assert_eq!(
            delivery("github", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
            "github-72d3162e-cc78-11e3-81ab-4c9367dc0958"
        );
        assert!(delivery("github", "UPPER_case/..").starts_with("github."));
        assert_ne!(delivery("github", "A"), delivery("github", "a"));
        assert_eq!(delivery("bitbucket", "9f-1#2"), "bitbucket-9f-1.002");
        assert!(
            delivery("bitbucket", "A#12").starts_with("bitbucket.") && delivery("bitbucket", "A#12").ends_with(".012")
        );
        let name = submitted("ci-app-", "github-1", 0);
        assert_eq!(name, submitted("ci-app-", "github-1", 0));
        assert_ne!(name, submitted("ci-app-", "github-1", 1));
        assert_ne!(name, submitted("ci-app-", "github-2", 0));
        assert!(name.starts_with("ci-app-") && name.len() == 17, "{name}");
        assert_eq!(submitted(&"long-".repeat(30), "d", 0).len(), 63);
    }
}
