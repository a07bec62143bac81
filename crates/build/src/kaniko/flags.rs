//! The table of kaniko's flags. The page `docs/dockerfile.md` shows the same rows; a test compares them.

/// A flag of kaniko or its fork.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its name.
    pub name: &'static str,
    /// Its letter.
    pub short: Option<char>,
    /// It needs no value.
    pub is_switch: bool,
    /// What it does here.
    pub effect: Effect,
}

/// What a flag does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What kaniko says.
    Runs,
    /// Nothing, as there is nothing to do, and why.
    Accepted(&'static str),
    /// The command line is refused, and why.
    Refused(&'static str),
}

use Effect::{Accepted, Refused, Runs};

const fn value(name: &'static str, effect: Effect) -> Flag {
    Flag { name, short: None, is_switch: false, effect }
}

const fn switch(name: &'static str, effect: Effect) -> Flag {
    Flag { name, short: None, is_switch: true, effect }
}

const fn lettered(short: char, flag: Flag) -> Flag {
    Flag { short: Some(short), ..flag }
}

const LOCAL: &str = "layers are cached on this machine";
const EXACT: &str = "one way of finding changes serves all modes, and it is exact";
const OWN_ROOT: &str = "every step has its own root filesystem; nothing outside of it is touched";
const LOGS: &str = "the log has one form";
const STREAMS: &str = "layers are written as a stream and never kept in memory";

/// Names that kaniko still knows.
pub(super) const OLD_NAMES: [(&str, &str); 4] = [
    ("snapshotMode", "snapshot-mode"),
    ("tarPath", "tar-path"),
    ("customPlatform", "custom-platform"),
    ("whitelist-var-run", "ignore-var-run"),
];

/// Every flag.
pub const FLAGS: &[Flag] = &[
    value("annotation", Runs),
    lettered('b', value("bucket", Refused("contexts are directories"))),
    value("build-arg", Runs),
    switch("cache", Runs),
    switch("cache-copy-layers", Accepted(LOCAL)),
    value("cache-dir", Accepted("base images are kept in the image store")),
    value("cache-repo", Refused("a layer cache in a registry is not supported; layers are cached on this machine")),
    switch("cache-run-layers", Accepted(LOCAL)),
    value("cache-ttl", Accepted("layers of the cache stay until the image store is cleaned")),
    switch("cleanup", Accepted(OWN_ROOT)),
    switch("compressed-caching", Accepted(STREAMS)),
    value("compression", Runs),
    value("compression-level", Accepted("the level is fixed, so that the same input gives the same layer")),
    lettered('c', value("context", Runs)),
    value("context-sub-path", Runs),
    value("credential-helpers", Accepted("credentials come from the docker config.json")),
    value("custom-platform", Runs),
    lettered('d', value("destination", Runs)),
    value("digest-file", Runs),
    lettered('f', value("dockerfile", Runs)),
    switch("dryrun", Refused("nothing can be shown without building")),
    switch("force", Accepted(OWN_ROOT)),
    switch("force-build-metadata", Refused("instructions that change no file make no layer")),
    value("git", Accepted("it is about git contexts, and contexts are directories")),
    value("ignore-path", Refused("every path that a step changes is part of its layer")),
    switch("ignore-var-run", Accepted("/var/run is an ordinary directory of the image")),
    value("image-download-retry", Runs),
    value("image-format", Runs),
    value("image-fs-extract-retry", Accepted("a damaged layer is fetched again")),
    value("image-name-tag-with-digest-file", Runs),
    value("image-name-with-digest-file", Runs),
    switch("insecure", Runs),
    switch("insecure-pull", Runs),
    value("insecure-registry", Runs),
    value("kaniko-dir", Accepted(OWN_ROOT)),
    value("label", Runs),
    value("log-format", Accepted(LOGS)),
    switch("log-timestamp", Accepted(LOGS)),
    switch("materialize", Accepted("files are unpacked when a step needs them")),
    switch("no-push", Runs),
    switch("no-push-cache", Accepted(LOCAL)),
    value("oci-layout-path", Runs),
    switch("pre-cleanup", Accepted(OWN_ROOT)),
    switch("preserve-context", Accepted(OWN_ROOT)),
    switch("push-ignore-immutable-tag-errors", Refused("a push that the registry refuses is a fault")),
    value("push-retry", Runs),
    value("registry-certificate", Runs),
    value("registry-client-cert", Refused("client certificates for registries are not supported")),
    value("registry-map", Runs),
    value("registry-mirror", Runs),
    switch("reproducible", Runs),
    value("secret", Refused("RUN --mount=type=secret is not supported, so nothing could use it")),
    switch("single-snapshot", Runs),
    switch("skip-default-registry-fallback", Accepted("a mapped registry never falls back")),
    switch("skip-push-permission-check", Runs),
    switch("skip-tls-verify", Runs),
    switch("skip-tls-verify-pull", Runs),
    value("skip-tls-verify-registry", Runs),
    switch("skip-unused-stages", Accepted("stages that are not needed are never built")),
    value("snapshot-mode", Runs),
    value("tar-path", Runs),
    value("target", Runs),
    switch("use-new-run", Accepted(EXACT)),
    lettered('v', value("verbosity", Accepted(LOGS))),
];

/// The flag's row in the page.
#[cfg(test)]
pub(super) fn row(flag: &Flag) -> String {
    let (effect, reason) = match flag.effect {
        Runs => ("runs", ""),
        Accepted(reason) => ("accepted", reason),
        Refused(reason) => ("refused", reason),
    };
    let short = flag.short.map_or(String::new(), |short| format!("`-{short}`, "));
    format!("| {short}`--{}` | {effect} | {reason} |", flag.name)
}
