//! A secret value. It must never be printed: the type has neither `Display` nor `Debug`.

/// A password, token or key. Compare it with [`Secret::matches`], read it with [`Secret::expose`] at the last moment.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self(value.into().into_boxed_slice())
    }

    /// The bytes, for the one call that sends them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value as text, if it is UTF-8; one trailing newline (files written by editors) is cut.
    pub fn expose_str(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.0).ok()?;
        Some(text.strip_suffix('\n').map_or(text, |t| t.strip_suffix('\r').unwrap_or(t)))
    }

    /// True when nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares in time that depends only on the lengths.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.len() == other.len() && self.0.iter().zip(other).fold(0u8, |all, (a, b)| all | (a ^ b)) == 0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self::new(value.into_bytes())
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::new(value.as_bytes())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn compares_and_trims() {
        let secret = Secret::from("abc\n");
        assert!(secret.matches(b"abc\n"));
        assert!(!secret.matches(b"abc"));
        assert!(!secret.matches(b"abd\n"));
        assert_eq!(secret.expose_str(), Some("abc"));
    }
}
