//! Which steps build an image: recognised by the image's name, so that the same manifest builds everywhere. Only recognises.

/// Whether this image is a kaniko executor, of any registry, fork and tag.
pub fn is_kaniko(image: &str) -> bool {
    let name = image.split('@').next().unwrap_or(image);
    let name = match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    };
    let parts: Vec<&str> = name.split('/').collect();
    let Some((last, before)) = parts.split_last() else { return false };
    let kaniko_before = before.iter().any(|part| part.contains("kaniko"));
    (*last == "executor" && kaniko_before)
        || (before.last() == Some(&"osscontainertools") && *last == "kaniko")
        || last.starts_with("kaniko-executor")
}

/// kaniko's arguments out of the container's `command` and `args`: with or without the program in front. `None` where the
/// command is something else (the debug image's shell, say).
pub fn arguments(command: &[String], args: &[String]) -> Option<Vec<String>> {
    match command {
        [] => Some(args.to_vec()),
        [program, rest @ ..] => {
            let name = program.rsplit('/').next().unwrap_or(program);
            (name == "executor").then(|| rest.iter().chain(args).cloned().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        for image in [
            "gcr.io/kaniko-project/executor",
            "gcr.io/kaniko-project/executor:debug",
            "gcr.io/kaniko-project/executor:v1.23.2@sha256:00",
            "localhost:5000/mirror/kaniko-project/executor:v1",
            "ghcr.io/osscontainertools/kaniko:v1.25.0",
            "registry.example/tools/kaniko-executor:1",
            "martizih/kaniko/executor",
        ] {
            assert!(is_kaniko(image), "{image}");
        }
        for image in
            ["alpine", "gcr.io/other/executor", "gcr.io/kaniko-project/warmer", "kaniko", "windlass.dev/executor:1"]
        {
            assert!(!is_kaniko(image), "{image}");
        }
    }

    #[test]
    fn commands() {
        let list = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let args = list(&["--no-push"]);
        assert_eq!(arguments(&[], &args), Some(args.clone()));
        assert_eq!(arguments(&list(&["/kaniko/executor", "-v"]), &args), Some(list(&["-v", "--no-push"])));
        assert_eq!(arguments(&list(&["sh", "-c"]), &args), None);
    }
}
