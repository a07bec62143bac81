//! Names of the outside world: the remap table out of flags and a file, for registries, git and endpoints. It reads
//! and checks; who uses a rule says so in the log. Mapped names must never enter objects, status or commits.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use windlass_artifacts::{Ambient, Endpoints, Outside, Remap};
use windlass_lang::yaml::{self, Document};
use windlass_lang::{Diagnostic, Sources};
use windlass_model::places;
use windlass_node::StandIn;
use windlass_oci::client;

use crate::cli::RemapArgs;
use crate::home::Home;

/// What kind of name a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Registry,
    Git,
    Endpoint,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Registry, Self::Git, Self::Endpoint];

    /// The key in the file.
    fn key(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Git => "git",
            Self::Endpoint => "endpoint",
        }
    }

    /// Why `FROM=TO` is no rule of this kind.
    fn fault(self, rule: &str) -> Option<String> {
        match self {
            Self::Registry => client::Remap::parse([rule]).err().map(|e| e.to_string()),
            Self::Git => Remap::parse([rule]).err().map(|e| e.to_string()),
            Self::Endpoint => Endpoints::parse([rule]).err().map(|e| e.to_string()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) kind: Kind,
    pub(crate) from: String,
    pub(crate) to: String,
    /// The flag or the file that said so.
    pub(crate) source: String,
}

/// The table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    rules: Vec<Rule>,
    insecure: Vec<String>,
}

/// The keys that a file may have.
const KEYS: [&str; 4] = ["registry", "git", "endpoint", "insecureRegistry"];

impl Names {
    /// What the flags say, and then what the file says: `--remap`, else the home's own where there is one.
    pub(crate) fn read(args: &RemapArgs, home: &Home) -> Result<Self> {
        let mut names = Self::default();
        let flags = [
            (Kind::Registry, &args.remap_registry),
            (Kind::Git, &args.remap_git),
            (Kind::Endpoint, &args.remap_endpoint),
        ];
        for (kind, rules) in flags {
            let flag = format!("--remap-{kind}");
            for rule in rules {
                if let Some(fault) = kind.fault(rule) {
                    bail!("{flag} {rule}: {fault}");
                }
                let (from, to) = rule.split_once('=').context("a rule is FROM=TO")?;
                names.add(kind, from, to, &flag);
            }
        }
        names.insecure.clone_from(&args.insecure_registry);
        match &args.remap {
            Some(file) => names.read_file(file)?,
            None if home.remap().exists() => names.read_file(&home.remap())?,
            None => {}
        }
        Ok(names)
    }

    fn add(&mut self, kind: Kind, from: &str, to: &str, source: &str) {
        self.rules.push(Rule {
            kind,
            from: from.trim().to_owned(),
            to: to.trim().to_owned(),
            source: source.to_owned(),
        });
    }

    fn read_file(&mut self, file: &Path) -> Result<()> {
        let shown = file.display().to_string();
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the remap table {shown}"))?;
        let mut sources = Sources::default();
        let id = sources.add(shown.clone(), text);
        let loaded = yaml::load(&sources, id);
        let mut faults = loaded.diagnostics;
        for document in &loaded.documents {
            self.read_document(document, &shown, &mut faults);
        }
        if windlass_lang::diagnostic::has_errors(&faults) {
            bail!("the remap table is wrong\n{}", windlass_lang::render(&faults, &sources, false).trim_end());
        }
        Ok(())
    }

    fn read_document(&mut self, document: &Document, source: &str, faults: &mut Vec<Diagnostic>) {
        let fault = |code: &'static str, pointer: &str, key: bool, text: String| {
            let fault = Diagnostic::error(code, text);
            let span = if key { document.key_span(pointer) } else { document.value_span(pointer) };
            match span {
                Some(span) => fault.at(span, ""),
                None => fault,
            }
        };
        let Some(map) = document.value.as_object() else {
            let text = "a remap table is a map with `registry`, `git`, `endpoint` and `insecureRegistry`".to_owned();
            faults.push(fault("remap::no-table", "", false, text).help("registry: {docker.io: 127.0.0.1:5000}"));
            return;
        };
        for key in map.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            let text = format!("there is no `{key}` in a remap table");
            let pointer = yaml::child("", key);
            faults
                .push(fault("remap::unknown-field", &pointer, true, text).help(format!("it has {}", KEYS.join(", "))));
        }
        for kind in Kind::ALL {
            let Some(rules) = map.get(kind.key()).filter(|v| !v.is_null()) else { continue };
            let above = yaml::child("", kind.key());
            let Some(rules) = rules.as_object() else {
                let text = format!("`{kind}` is a map of FROM: TO");
                faults.push(fault("remap::no-map", &above, false, text));
                continue;
            };
            for (from, to) in rules {
                let pointer = yaml::child(&above, from);
                match to.as_str() {
                    None => faults.push(fault(
                        "remap::no-text",
                        &pointer,
                        false,
                        "this must be text: the TO of FROM: TO".to_owned(),
                    )),
                    Some(to) => match kind.fault(&format!("{from}={to}")) {
                        Some(text) => faults.push(fault("remap::bad-rule", &pointer, true, text)),
                        None => self.add(kind, from, to, source),
                    },
                }
            }
        }
        if let Some(list) = map.get("insecureRegistry").filter(|v| !v.is_null()) {
            let hosts: Option<Vec<String>> =
                list.as_array().and_then(|l| l.iter().map(|v| v.as_str().map(str::to_owned)).collect());
            match hosts {
                Some(hosts) => self.insecure.extend(hosts),
                None => {
                    let text = "`insecureRegistry` is a list of HOST or HOST:PORT".to_owned();
                    faults.push(fault("remap::no-list", "/insecureRegistry", false, text));
                }
            }
        }
    }

    /// All rules, the first to be asked first.
    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    fn of(&self, kind: Kind) -> Vec<String> {
        self.rules.iter().filter(|r| r.kind == kind).map(|r| format!("{}={}", r.from, r.to)).collect()
    }

    /// The registries' rules, as flags have them.
    pub(crate) fn registry_rules(&self) -> Vec<String> {
        self.of(Kind::Registry)
    }

    /// The registries' table.
    pub(crate) fn registries(&self) -> Result<client::Remap> {
        Ok(client::Remap::parse(self.registry_rules())?)
    }

    /// The table for the executor in pods: its environment.
    pub(crate) fn for_pods(&self) -> Vec<(String, String)> {
        let all = [
            (places::REMAP_GIT, self.of(Kind::Git)),
            (places::REMAP_ENDPOINT, self.of(Kind::Endpoint)),
            (places::REMAP_REGISTRY, self.of(Kind::Registry)),
            (places::INSECURE_REGISTRY, self.insecure.clone()),
        ];
        let told = all.into_iter().filter(|(_, rules)| !rules.is_empty());
        told.map(|(name, rules)| (name.to_owned(), rules.join("\n"))).collect()
    }

    /// What programs inside pods find of the registries' table: a rule from one whole registry to another leads their
    /// connections there too. Rules with a path cannot: a path is not part of a connection.
    pub(crate) fn stand_ins(&self) -> Vec<StandIn> {
        let mut found: Vec<StandIn> = Vec::new();
        for rule in self.rules.iter().filter(|r| r.kind == Kind::Registry) {
            let to = rule.to.split_once("://").map_or(rule.to.as_str(), |(_, rest)| rest).trim_end_matches('/');
            let from = rule.from.trim_end_matches('/');
            // The hub's name is not that of its server.
            let from = if from == "docker.io" { "registry-1.docker.io" } else { from };
            if from.contains('/') || to.contains('/') {
                continue;
            }
            let (host, port) = match from.rsplit_once(':') {
                Some((host, port)) => (host, port.parse().ok()),
                None => (from, None),
            };
            // Clients try TLS first, and plain HTTP where they were told that they may: one server answers both.
            let ports = port.map_or_else(|| vec![443, 80], |port| vec![port]);
            let plain = rule.to.starts_with("http://");
            let to = if to.contains(':') { to.to_owned() } else { format!("{to}:{}", if plain { 80 } else { 443 }) };
            let known = |s: &StandIn| s.host == host && s.ports == ports;
            // The first rule is the one that counts.
            if !found.iter().any(known) && host.parse::<std::net::IpAddr>().is_err() && host != "localhost" {
                found.push(StandIn { host: host.to_lowercase(), ports, to });
            }
        }
        found
    }

    /// The table of git URLs.
    pub(crate) fn git(&self) -> Result<Remap> {
        Ok(Remap::parse(self.of(Kind::Git))?)
    }

    /// How S3 and HTTP servers are reached: the table, and this process's own credentials for S3.
    pub(crate) fn outside(&self) -> Result<Outside> {
        let environment = |name: &str| std::env::var(name).ok();
        let file = environment("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
        let file = file.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".aws/credentials")));
        let text = file.and_then(|file| std::fs::read_to_string(file).ok());
        Ok(Outside {
            endpoints: Endpoints::parse(self.of(Kind::Endpoint))?,
            ambient: Ambient::read(&environment, text.as_deref()),
            ..Outside::default()
        })
    }

    /// Files with the keys of ssh hosts: the home's own first, then this user's and this machine's.
    pub(crate) fn known_hosts(&self, home: &Home) -> Vec<PathBuf> {
        let user = std::env::var_os("HOME").map(|home| Path::new(&home).join(".ssh/known_hosts"));
        let machine = PathBuf::from("/etc/ssh/ssh_known_hosts");
        [home.known_hosts()].into_iter().chain(user).chain([machine]).collect()
    }

    /// Registries that speak plain HTTP.
    pub(crate) fn insecure(&self) -> &[String] {
        &self.insecure
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let rule = |r: &Rule| json!({"kind": r.kind.key(), "from": r.from, "to": r.to, "source": r.source});
        self.rules.iter().map(rule).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str, args: &RemapArgs) -> Result<Names> {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::find(Some(dir.path())).unwrap();
        std::fs::write(home.remap(), text).unwrap();
        Names::read(args, &home)
            .map_err(|e| anyhow::anyhow!(format!("{e:#}").replace(dir.path().to_str().unwrap(), "$home")))
    }

    #[test]
    fn flags_come_before_the_file() {
        let text = "registry:\n  docker.io: 127.0.0.1:5000\ngit:\n  git@github.com:: /srv/git/\n  \"https://x/\": /srv/x/\nendpoint: {s3.amazonaws.com: \"http://minio:9000\"}\ninsecureRegistry: [r:5000]\n";
        let args = RemapArgs { remap_registry: vec!["docker.io=127.0.0.1:6000".to_owned()], ..RemapArgs::default() };
        let names = read(text, &args).unwrap();
        let image = windlass_oci::Reference::parse("haulrest/fastapi-sample:v1").unwrap();
        let mapped = names.registries().unwrap().apply(&image).unwrap();
        assert_eq!(mapped.reference.to_string(), "127.0.0.1:6000/haulrest/fastapi-sample:v1");
        assert_eq!(names.git().unwrap().apply("git@github.com:a/b.git").as_deref(), Some("/srv/git/a/b.git"));
        assert_eq!(names.insecure(), ["r:5000"]);
        assert_eq!(names.rules().len(), 5);
    }

    #[test]
    fn pods_find_whole_registries() {
        let rules = [
            "docker.io=127.0.0.1:5000",
            "ecr.example=http://r.lan",
            "r.example:5000=q.example",
            "a.b/c=d.e",
            "a.b=d.e/c",
        ];
        let args = RemapArgs { remap_registry: rules.map(str::to_owned).into(), ..RemapArgs::default() };
        let found = read("registry: {ecr.example: 127.0.0.1:6000}", &args).unwrap().stand_ins();
        let text: Vec<String> = found.iter().map(|s| format!("{} {:?} {}", s.host, s.ports, s.to)).collect();
        assert_eq!(
            text,
            [
                "registry-1.docker.io [443, 80] 127.0.0.1:5000",
                "ecr.example [443, 80] r.lan:80",
                "r.example [5000] q.example:443"
            ]
        );
    }

    #[test]
    fn faults_have_their_places() {
        let text = "registery:\n  docker.io: x\ngit: [a]\nendpoint:\n  s3.amazonaws.com: 9000\n  a/b: c\nregistry:\n  a b: c\ninsecureRegistry: r\n";
        insta::assert_snapshot!(read(text, &RemapArgs::default()).unwrap_err().to_string());
        insta::assert_snapshot!(read("- a\n", &RemapArgs::default()).unwrap_err().to_string());
    }
}
