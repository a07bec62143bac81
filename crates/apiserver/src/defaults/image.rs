//! Image references, as far as the pull policy's default needs them. Pure.

/// Whether a reference means `latest`: that tag, or neither tag nor digest.
pub(super) fn means_latest(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => digest.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::means_latest;

    #[test]
    fn tags_and_digests_decide() {
        for (image, latest) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1.2", false),
            ("host:5000/nginx", true),
            ("host:5000/nginx:1", false),
            ("nginx@sha256:abc", false),
            ("nginx:1@sha256:abc", false),
        ] {
            assert_eq!(means_latest(image), latest, "{image}");
        }
    }
}
