//! The text of a `post-receive` hook. It only hands its input to the binary: nothing of a push is ever evaluated by a
//! shell.

/// A line that marks a hook as ours, so that installing again may replace it.
pub const MARK: &str = "# windlass-hook: v1";

/// The script: `binary hook send ARGS…` reads `old new ref` lines. A push is never refused because of it.
pub fn script(binary: &str, args: &[&str]) -> String {
    let command: Vec<String> = [binary, "hook", "send"].iter().chain(args).map(|word| quote(word)).collect();
    format!(
        "#!/bin/sh\n{MARK}\n# Tells Windlass about each push, as GitHub's webhooks do. Remove this file to stop that.\n\
         if [ ! -x {bin} ]; then\n  echo \"windlass: {text} is not there; the push was accepted, and nothing was started\" >&2\n  \
         exit 0\nfi\n{command} || echo 'windlass: the push was accepted, but the event was not delivered' >&2\nexit 0\n",
        bin = quote(binary),
        // Within double quotes of the script: only harmless characters are shown.
        text = binary
            .chars()
            .map(|c| if c.is_alphanumeric() || "/._-+".contains(c) { c } else { '?' })
            .collect::<String>(),
        command = command.join(" "),
    )
}

/// Whether a hook that is there was installed by us.
pub fn is_ours(text: &str) -> bool {
    text.lines().any(|line| line == MARK)
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn quotes_everything() {
        let text = script("/opt/my $(date)/wind'lass", &["--home", "/h o/me"]);
        assert!(is_ours(&text));
        insta::assert_snapshot!(text);
    }
}
