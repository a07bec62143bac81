//! kaniko's command line, in the form of Go's pflag. One table says of every flag of kaniko and its fork whether it runs,
//! is accepted without effect, or is refused by name. Only reads words; opens nothing.

mod flags;

use windlass_lang::{Diagnostic, suggest::nearest};
use windlass_oci::media::Compression;
use windlass_oci::{Family, Reference};

pub use flags::{Effect, FLAGS, Flag};

/// What a kaniko command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--context` as given: a path, or `dir://` and a path.
    pub context: Option<String>,
    /// `--context-sub-path`
    pub context_sub_path: Option<String>,
    /// `--dockerfile`
    pub dockerfile: Option<String>,
    /// `--destination`, in order.
    pub destinations: Vec<Reference>,
    /// `--no-push`
    pub no_push: bool,
    /// `--build-arg`; without a value it is taken from the environment.
    pub build_args: Vec<(String, Option<String>)>,
    /// `--target`
    pub target: Option<String>,
    /// `--label`
    pub labels: Vec<(String, String)>,
    /// `--annotation`
    pub annotations: Vec<(String, String)>,
    /// `--cache`, where given.
    pub cache: Option<bool>,
    /// `--single-snapshot`
    pub single_snapshot: bool,
    /// `--reproducible`
    pub reproducible: bool,
    /// `--compression`
    pub compression: Option<Zip>,
    /// `--image-format`
    pub format: Option<Format>,
    /// `--insecure`
    pub insecure: bool,
    /// `--insecure-pull`
    pub insecure_pull: bool,
    /// `--insecure-registry`
    pub insecure_registries: Vec<String>,
    /// `--skip-tls-verify`
    pub skip_tls_verify: bool,
    /// `--skip-tls-verify-pull`
    pub skip_tls_verify_pull: bool,
    /// `--skip-tls-verify-registry`
    pub skip_tls_verify_registries: Vec<String>,
    /// `--registry-certificate`: registry and path.
    pub certificates: Vec<(String, String)>,
    /// `--registry-mirror` and `--registry-map` as rules `FROM=TO`, for pulling.
    pub maps: Vec<String>,
    /// `--push-retry`
    pub push_retry: u32,
    /// `--image-download-retry`
    pub pull_retry: u32,
    /// `--skip-push-permission-check`
    pub skip_push_check: bool,
    /// `--digest-file`
    pub digest_file: Option<String>,
    /// `--image-name-with-digest-file`
    pub name_digest_file: Option<String>,
    /// `--image-name-tag-with-digest-file`
    pub name_tag_digest_file: Option<String>,
    /// `--tar-path`
    pub tar_path: Option<String>,
    /// `--oci-layout-path`
    pub oci_layout_path: Option<String>,
    /// Flags that were accepted without effect, with the reason.
    pub ignored: Vec<(String, &'static str)>,
}

/// `--compression`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zip {
    /// gzip
    Gzip,
    /// zstd
    Zstd,
}

impl From<Zip> for Compression {
    fn from(zip: Zip) -> Self {
        match zip {
            Zip::Gzip => Self::Gzip,
            Zip::Zstd => Self::Zstd,
        }
    }
}

/// `--image-format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Docker's media types.
    Docker,
    /// OCI's media types.
    Oci,
}

impl From<Format> for Family {
    fn from(format: Format) -> Self {
        match format {
            Format::Docker => Self::Docker,
            Format::Oci => Self::Oci,
        }
    }
}

impl Options {
    /// Reads the arguments, without the program's name. All faults at once.
    pub fn parse(args: &[String]) -> Result<Self, Vec<Diagnostic>> {
        let mut options = Self::default();
        let mut faults = Vec::new();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let Some((flag, attached)) = find(arg, &mut faults) else { continue };
            let value = match (flag.is_switch, attached) {
                (_, Some(value)) => value,
                (true, None) => "true".to_owned(),
                (false, None) => match rest.next() {
                    Some(value) => value.clone(),
                    None => {
                        let fault = format!("the flag --{} needs a value", flag.name);
                        faults.push(Diagnostic::error("kaniko::value", fault));
                        continue;
                    }
                },
            };
            if flag.is_switch && boolean(&value).is_none() {
                let fault =
                    Diagnostic::error("kaniko::value", format!("--{}={value} is neither true nor false", flag.name));
                faults.push(fault);
                continue;
            }
            match flag.effect {
                Effect::Runs => {
                    if let Err(why) = options.set(flag.name, value) {
                        faults.push(Diagnostic::error("kaniko::value", format!("--{}: {why}", flag.name)));
                    }
                }
                Effect::Accepted(reason) => options.ignored.push((flag.name.to_owned(), reason)),
                // A switch turned off asks for nothing.
                Effect::Refused(_) if flag.is_switch && boolean(&value) == Some(false) => {}
                Effect::Refused(reason) => {
                    let fault = Diagnostic::error("kaniko::unsupported", format!("--{} is not supported", flag.name));
                    faults.push(fault.help(reason));
                }
            }
        }
        if options.destinations.is_empty() && !options.no_push && faults.is_empty() {
            let fault = Diagnostic::error("kaniko::destination", "you must provide --destination, or use --no-push");
            faults.push(fault.help("name where the image goes: --destination=registry.windlass.internal/app:latest"));
        }
        if faults.is_empty() { Ok(options) } else { Err(faults) }
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        let on = boolean(&value).unwrap_or_default();
        let number = |value: &str| value.parse::<u32>().map_err(|_| format!("`{value}` is not a number"));
        match name {
            "context" => {
                if let Some((scheme, _)) = value.split_once("://")
                    && scheme != "dir"
                {
                    return Err(format!(
                        "a context by {scheme}:// is not supported: bring it with an artifact or a git step, and give its directory"
                    ));
                }
                self.context = Some(value);
            }
            "context-sub-path" => self.context_sub_path = Some(value),
            "dockerfile" if value.contains("://") => return Err("a Dockerfile by URL is not supported".to_owned()),
            "dockerfile" => self.dockerfile = Some(value),
            "destination" => self.destinations.push(Reference::parse(&value).map_err(|e| e.to_string())?),
            "no-push" => self.no_push = on,
            "build-arg" => self.build_args.push(match value.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (value, None),
            }),
            "target" => self.target = Some(value),
            "label" => self.labels.push(pair(&value)?),
            "annotation" => self.annotations.push(pair(&value)?),
            "cache" => self.cache = Some(on),
            "single-snapshot" => self.single_snapshot = on,
            "reproducible" => self.reproducible = on,
            "compression" => {
                self.compression = Some(match value.as_str() {
                    "gzip" => Zip::Gzip,
                    "zstd" => Zip::Zstd,
                    _ => return Err(format!("`{value}` is neither gzip nor zstd")),
                });
            }
            "image-format" => {
                self.format = Some(match value.as_str() {
                    "docker" => Format::Docker,
                    "oci" => Format::Oci,
                    _ => return Err(format!("`{value}` is neither docker nor oci")),
                });
            }
            "insecure" => self.insecure = on,
            "insecure-pull" => self.insecure_pull = on,
            "insecure-registry" => self.insecure_registries.push(value),
            "skip-tls-verify" => self.skip_tls_verify = on,
            "skip-tls-verify-pull" => self.skip_tls_verify_pull = on,
            "skip-tls-verify-registry" => self.skip_tls_verify_registries.push(value),
            "registry-certificate" => self.certificates.push(pair(&value)?),
            "registry-mirror" => self.maps.push(format!("docker.io={value}")),
            "registry-map" => {
                for rule in value.split(';').filter(|rule| !rule.is_empty()) {
                    let (from, to) = pair(rule)?;
                    let from = if from == "index.docker.io" { "docker.io".to_owned() } else { from };
                    self.maps.push(format!("{from}={to}"));
                }
            }
            "push-retry" => self.push_retry = number(&value)?,
            "image-download-retry" => self.pull_retry = number(&value)?,
            "skip-push-permission-check" => self.skip_push_check = on,
            "digest-file" if value.contains("://") => return Err("a digest file by URL is not supported".to_owned()),
            "digest-file" => self.digest_file = Some(value),
            "image-name-with-digest-file" => self.name_digest_file = Some(value),
            "image-name-tag-with-digest-file" => self.name_tag_digest_file = Some(value),
            "tar-path" => self.tar_path = Some(value),
            "oci-layout-path" => self.oci_layout_path = Some(value),
            "custom-platform" => {
                let host = windlass_oci::Platform::host();
                let wanted: windlass_oci::Platform = value.parse().map_err(|e: windlass_oci::Error| e.to_string())?;
                if !host.satisfies(&wanted) {
                    return Err(format!("this machine is {host} and cannot build for {wanted}"));
                }
            }
            "snapshot-mode" if !["full", "redo", "time"].contains(&value.as_str()) => {
                return Err(format!("`{value}` is none of full, redo and time"));
            }
            _ => {}
        }
        Ok(())
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The flag of a word, and the value attached to it.
fn find(arg: &str, faults: &mut Vec<Diagnostic>) -> Option<(&'static Flag, Option<String>)> {
    if let Some(long) = arg.strip_prefix("--").filter(|long| !long.is_empty()) {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let name = flags::OLD_NAMES.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new);
        if let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) {
            return Some((flag, value));
        }
        let fault = Diagnostic::error("kaniko::unknown-flag", format!("kaniko has no flag --{name}"));
        faults.push(match nearest(name, FLAGS.iter().map(|flag| flag.name)) {
            Some(near) => fault.help(format!("did you mean --{near}?")),
            None => fault,
        });
        return None;
    }
    if let Some(short) = arg.strip_prefix('-').filter(|short| !short.is_empty() && *short != "-") {
        let letter = short.chars().next().unwrap_or_default();
        if let Some(flag) = FLAGS.iter().find(|flag| flag.short == Some(letter)) {
            let value = &short[letter.len_utf8()..];
            let value = (!value.is_empty()).then(|| value.strip_prefix('=').unwrap_or(value).to_owned());
            return Some((flag, value));
        }
        faults.push(Diagnostic::error("kaniko::unknown-flag", format!("kaniko has no flag -{letter}")));
        return None;
    }
    let fault = Diagnostic::error("kaniko::argument", format!("`{arg}` is not a flag"));
    faults.push(fault.help("kaniko has flags only; a switch takes its value as in --cache=false"));
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, Vec<String>> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Options::parse(&args).map_err(|faults| faults.into_iter().map(|fault| fault.message).collect())
    }

    #[test]
    fn words() {
        let options = parse(&[
            "--context=dir:///workspace",
            "-f",
            "app/Dockerfile",
            "-dapp:1",
            "--destination",
            "localhost:5000/x:2",
            "--build-arg",
            "A=b c",
            "--build-arg=B",
            "--cache",
            "--snapshotMode=redo",
            "--use-new-run=true",
            "--registry-mirror=mirror.example",
        ])
        .unwrap();
        assert_eq!(options.context.as_deref(), Some("dir:///workspace"));
        assert_eq!(options.dockerfile.as_deref(), Some("app/Dockerfile"));
        let names: Vec<String> = options.destinations.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["docker.io/library/app:1", "localhost:5000/x:2"]);
        assert_eq!(options.build_args, [("A".into(), Some("b c".into())), ("B".into(), None)]);
        assert_eq!(options.cache, Some(true));
        assert_eq!(options.maps, ["docker.io=mirror.example"]);
        assert_eq!(options.ignored.len(), 1);
    }

    #[test]
    fn refusals() {
        assert_eq!(parse(&[]).unwrap_err(), ["you must provide --destination, or use --no-push"]);
        let all =
            parse(&["--no-pusj", "--cache-repo=x", "--context=git://x", "-q", "word", "--cache=maybe", "--target"]);
        insta::assert_snapshot!(all.unwrap_err().join("\n"));
        assert!(parse(&["--no-push", "--cleanup", "--force"]).is_ok());
    }

    #[test]
    fn the_page_has_every_flag() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/dockerfile.md")).unwrap();
        for flag in FLAGS {
            assert!(page.contains(&flags::row(flag)), "docs/dockerfile.md lacks: {}", flags::row(flag));
        }
    }
}
