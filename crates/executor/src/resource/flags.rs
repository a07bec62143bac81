//! The words that `resource.flags` adds to kubectl's command line: which objects are meant, and how. What is not known here
//! is refused by name, never left out. Pure.

/// A command line, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// `TYPE` and names, or `TYPE/NAME`.
    pub(super) objects: Vec<Named>,
    /// Types without names: `delete configmap -l a=b`.
    pub(super) types: Vec<String>,
    /// `-l`.
    pub(super) selector: Option<String>,
    /// `--field-selector`.
    pub(super) field_selector: Option<String>,
    /// `-n`.
    pub(super) namespace: Option<String>,
    /// `--all`.
    pub(super) all: bool,
    /// `--ignore-not-found`.
    pub(super) ignore_not_found: bool,
    /// `--cascade`: `background`, `foreground` or `orphan`.
    pub(super) cascade: Option<String>,
    /// `--grace-period`; `--now` is 1, `--force` 0.
    pub(super) grace_seconds: Option<u32>,
    /// `replace --force`: delete, and create anew.
    pub(super) force: bool,
    /// `--wait=false`: do not wait until what was deleted is gone.
    pub(super) no_wait: bool,
    /// `--type`: the kind of patch.
    pub(super) patch_type: Option<String>,
    /// `-p`: the patch itself.
    pub(super) patch: Option<String>,
    /// `--server-side`.
    pub(super) server_side: bool,
    /// `--force-conflicts`.
    pub(super) force_conflicts: bool,
    /// `--field-manager`.
    pub(super) field_manager: Option<String>,
    /// `--dry-run=server`.
    pub(super) dry_run: bool,
    /// `--validate`: `Strict`, `Warn` or `Ignore`.
    pub(super) validation: Option<&'static str>,
    /// `--save-config`.
    pub(super) save_config: bool,
    /// `--subresource`.
    pub(super) subresource: Option<String>,
}

/// One object by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Its type, as kubectl takes it: `pod`, `po`, `deployments.apps`.
    pub(super) kind: String,
    /// Its name.
    pub(super) name: String,
}

impl Flags {
    /// Reads the words; an error is a text.
    pub(super) fn parse(words: &[String]) -> Result<Self, String> {
        let mut flags = Self::default();
        let mut plain = Vec::new();
        let mut words = words.iter().map(|w| w.trim()).filter(|w| !w.is_empty());
        while let Some(word) = words.next() {
            if !word.starts_with('-') {
                plain.push(word.to_owned());
                continue;
            }
            let (name, mut given) = match (word.split_once('='), word.strip_prefix("--")) {
                (Some((name, value)), Some(_)) => (name, Some(value.to_owned())),
                (None, Some(_)) => (word, None),
                // `-lapp=web`, `-l=app`, `-l app=web`.
                _ => match word.char_indices().nth(2) {
                    Some((at, _)) => (&word[..at], Some(word[at..].trim_start_matches('=').to_owned())),
                    None => (word, None),
                },
            };
            let mut value = || {
                let value = given.take().or_else(|| words.next().map(str::to_owned));
                value.ok_or_else(|| format!("resource.flags: {name} needs a value"))
            };
            match name {
                "-l" | "--selector" => flags.selector = Some(value()?),
                "--field-selector" => flags.field_selector = Some(value()?),
                "-n" | "--namespace" => flags.namespace = Some(value()?),
                "--grace-period" => flags.grace_seconds = value()?.parse().ok(),
                "--type" => flags.patch_type = Some(value()?),
                "-p" | "--patch" => flags.patch = Some(value()?),
                "--field-manager" => flags.field_manager = Some(value()?),
                "--subresource" => flags.subresource = Some(value()?),
                // How long kubectl waits is the step's own deadline here; what it prints nobody reads.
                "--timeout" | "--request-timeout" | "-o" | "--output" | "-v" | "--v" => drop(value()?),
                "--cascade" => {
                    let how = given.take().unwrap_or_else(|| "background".to_owned());
                    flags.cascade = Some(match how.as_str() {
                        "true" => "background".to_owned(),
                        "false" => "orphan".to_owned(),
                        "background" | "foreground" | "orphan" => how,
                        other => return Err(format!("resource.flags: --cascade={other} is not one of its values")),
                    });
                }
                "--validate" => {
                    let how = given.take().unwrap_or_else(|| "strict".to_owned());
                    flags.validation = Some(match how.as_str() {
                        "true" | "strict" => "Strict",
                        "warn" => "Warn",
                        "false" | "ignore" => "Ignore",
                        other => return Err(format!("resource.flags: --validate={other} is not one of its values")),
                    });
                }
                "--dry-run" => match given.take().as_deref() {
                    None | Some("server" | "client") => flags.dry_run = true,
                    Some("none") => {}
                    Some(other) => {
                        return Err(format!("resource.flags: --dry-run={other} is not one of its values"));
                    }
                },
                _ => flags.switch(name, given.take())?,
            }
        }
        flags.place(plain)?;
        Ok(flags)
    }

    fn switch(&mut self, name: &str, given: Option<String>) -> Result<(), String> {
        const SWITCHES: [&str; 13] = [
            "--all",
            "--ignore-not-found",
            "--force",
            "--now",
            "--wait",
            "--server-side",
            "--force-conflicts",
            "--save-config",
            // Nothing follows from these: there is one object, and its API knows its changes.
            "--overwrite",
            "--record",
            "--openapi-patch",
            "--show-managed-fields",
            "--insecure-skip-tls-verify",
        ];
        if !SWITCHES.contains(&name) {
            return Err(format!("resource.flags: {name} is not supported"));
        }
        let on = match given.as_deref() {
            None | Some("true") => true,
            Some("false") => false,
            Some(other) => return Err(format!("resource.flags: {name}={other}: true or false are its values")),
        };
        match name {
            "--all" => self.all = on,
            "--ignore-not-found" => self.ignore_not_found = on,
            "--force" => self.force = on,
            "--now" if on => self.grace_seconds = Some(1),
            "--wait" => self.no_wait = !on,
            "--server-side" => self.server_side = on,
            "--force-conflicts" => self.force_conflicts = on,
            "--save-config" => self.save_config = on,
            _ => {}
        }
        Ok(())
    }

    /// `TYPE NAME…`, `TYPE[,TYPE]` or `TYPE/NAME…`.
    fn place(&mut self, plain: Vec<String>) -> Result<(), String> {
        if plain.iter().any(|word| word.contains('/')) {
            for word in plain {
                let (kind, name) = word.split_once('/').ok_or_else(|| {
                    format!("resource.flags: {word:?} beside TYPE/NAME: write all objects as TYPE/NAME")
                })?;
                self.objects.push(Named { kind: kind.to_owned(), name: name.to_owned() });
            }
            return Ok(());
        }
        let mut plain = plain.into_iter();
        let Some(types) = plain.next() else { return Ok(()) };
        let names: Vec<String> = plain.collect();
        for kind in types.split(',').filter(|t| !t.is_empty()) {
            match names.is_empty() {
                true => self.types.push(kind.to_owned()),
                false => {
                    let named = |name: &String| Named { kind: kind.to_owned(), name: name.clone() };
                    self.objects.extend(names.iter().map(named));
                }
            }
        }
        Ok(())
    }

    /// Whether the words alone say which objects are meant.
    pub(super) fn names_objects(&self) -> bool {
        !self.objects.is_empty() || !self.types.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Flags, String> {
        Flags::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn objects_and_types() {
        let names = |text: &str| {
            let flags = parse(text).unwrap();
            let objects: Vec<String> = flags.objects.iter().map(|n| format!("{}/{}", n.kind, n.name)).collect();
            (objects.join(" "), flags.types.join(" "))
        };
        assert_eq!(names("pod a b"), ("pod/a pod/b".into(), String::new()));
        assert_eq!(names("deploy/web svc/web"), ("deploy/web svc/web".into(), String::new()));
        assert_eq!(names("configmap,secret --selector a=b"), (String::new(), "configmap secret".into()));
        assert_eq!(names("--validate=false"), (String::new(), String::new()));
        assert!(parse("pod a svc/b").unwrap_err().contains("TYPE/NAME"));
    }

    #[test]
    fn values_and_switches() {
        let flags = parse("pod -la=b --grace-period 5 -n other --cascade=orphan --wait=false --force").unwrap();
        assert_eq!(flags.selector.as_deref(), Some("a=b"));
        assert_eq!(flags.namespace.as_deref(), Some("other"));
        assert_eq!((flags.grace_seconds, flags.no_wait, flags.force), (Some(5), true, true));
        assert_eq!(flags.cascade.as_deref(), Some("orphan"));
        assert_eq!(parse("pod x --type json -p [] --validate=false").unwrap().validation, Some("Ignore"));
        assert!(parse("--raw=/x").unwrap_err().contains("--raw is not supported"));
        assert!(parse("--raw /x").unwrap_err().contains("--raw is not supported"));
        assert!(parse("pod -l").unwrap_err().contains("-l needs a value"));
        assert!(parse("--all=maybe").unwrap_err().contains("true or false"));
    }
}
