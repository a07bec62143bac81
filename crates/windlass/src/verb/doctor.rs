//! `windlass doctor`: what this machine allows, tried and not guessed, and what it means for running steps.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::AnsiColor;
use anyhow::{Context, Result};
use serde_json::json;
use windlass_sandbox::net::{Cidr, Outward, Switch};
use windlass_sandbox::{CgroupDriver, Host, Probe, UidMap};

use crate::cli::{DoctorArgs, Format, Global};
use crate::home::Home;
use crate::names::Names;
use crate::print::Look;

/// One line of the answer.
struct Finding {
    what: &'static str,
    good: bool,
    found: String,
    means: &'static str,
}

pub(crate) fn run(global: &Global, look: Look, args: &DoctorArgs) -> Result<ExitCode> {
    let home = Home::find(global.home.as_deref())?;
    home.create()?;
    let names = Names::read(&args.names, &home)?;
    let probe = Host::probe_only(&home.scratch()).context("this machine could not be tried")?;
    let mut findings = findings(&probe);
    findings.insert(5, outward(&probe));
    let can_run = probe.overlay && probe.netns;
    if args.output == Some(Format::Json) {
        let list: Vec<_> = findings
            .iter()
            .map(|f| json!({"what": f.what, "good": f.good, "found": f.found, "means": f.means}))
            .collect();
        let answer = json!({
            "canRunContainers": can_run,
            "findings": list,
            "remarks": probe.remarks,
            "home": home.root(),
            "names": names.to_json(),
        });
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        print(&findings, look);
        println!("\nhome: {}{}", home.root().display(), if home.is_taken() { " (a windlass runs on it)" } else { "" });
        print_names(&names, &home);
        for remark in &probe.remarks {
            println!("{} {remark}", look.paint("note:", AnsiColor::Yellow));
        }
        println!("{}", if can_run { "\nSteps can run here." } else { "\nSteps cannot run here: see the notes above." });
    }
    Ok(if can_run { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The remap table, as `up` and `run` would use it with the same flags.
fn print_names(names: &Names, home: &Home) {
    if names.rules().is_empty() {
        println!("names: all go outward (map some with --remap-registry, --remap-git, --remap-endpoint, or");
        println!("       in {})", home.remap().display());
        return;
    }
    println!("names that others answer:");
    let row =
        |r: &crate::names::Rule| vec![format!("  {}", r.kind), r.from.clone(), format!("→ {}", r.to), r.source.clone()];
    print!("{}", crate::print::columns(&names.rules().iter().map(row).collect::<Vec<_>>()));
}

fn findings(p: &Probe) -> Vec<Finding> {
    let yes = |b: bool, good: &str, bad: &str| if b { good.to_owned() } else { bad.to_owned() };
    let ids = match p.uid_map {
        UidMap::Host => "all of the host's".to_owned(),
        UidMap::Range(n) => format!("our own as root, and {n} more"),
        UidMap::Single => "our own as root, and no other".to_owned(),
    };
    vec![
        Finding {
            what: "user",
            good: true,
            found: yes(p.root, "root", "not root: everything runs in a user namespace"),
            means: "not root works too; limits and ids are fewer",
        },
        Finding {
            what: "user ids",
            good: p.uid_map != UidMap::Single,
            found: ids,
            means: "with one id, chown, USER and package managers inside steps are refused by name",
        },
        Finding {
            what: "overlay",
            good: p.overlay,
            found: yes(p.overlay, if p.userxattr { "works, with user xattrs" } else { "works" }, "refused"),
            means: "without it no image can be run",
        },
        Finding {
            what: "scratch",
            good: true,
            found: p.tmpfs_bytes.map_or("on disk".into(), |b| format!("in memory, up to {} MiB", b >> 20)),
            means: "what steps write to / goes there, and is faster in memory",
        },
        Finding {
            what: "network",
            good: p.netns,
            found: yes(p.netns, "a namespace for each pod", "refused"),
            means: "pods see each other and the cluster's Services, never this machine's loopback",
        },
        Finding {
            what: "limits",
            good: p.memory_limit,
            found: match &p.cgroup {
                CgroupDriver::None(_) => p.cgroup.to_string(),
                driver => format!(
                    "{driver}: memory {}, processes {}, CPU {}",
                    yes(p.memory_limit, "yes", "no"),
                    yes(p.pids_limit, "yes", "no"),
                    yes(p.cpu_limit, "yes", "no")
                ),
            },
            means: "limits that cannot be enforced are accepted and do nothing",
        },
        Finding {
            what: "seccomp",
            good: p.seccomp,
            found: yes(p.seccomp, "system calls are filtered", "no filter"),
            means: "one wall fewer between a step and the kernel without it",
        },
    ]
}

/// The way from pods to other machines. Tried: a switch is made, connected and forgotten again.
fn outward(p: &Probe) -> Finding {
    let means =
        "what steps and RUN fetch by themselves comes this way; images, git inputs and pushes are ours and need none";
    let finding = |good, found| Finding { what: "outward", good, found, means };
    if !p.netns {
        return finding(false, "not tried: there are no network namespaces".to_owned());
    }
    let tried = Switch::create(Cidr::new(Ipv4Addr::new(10, 44, 0, 1), 16), &[]).map(|switch| switch.connect_outward());
    match tried {
        Ok(Outward::Works(means)) if has_default_route() => finding(true, means),
        Ok(Outward::Works(means)) => finding(false, format!("{means}, but this machine itself has no default route")),
        Ok(Outward::None(_)) if !p.root => {
            let pasta = match pasta() {
                Some(path) => format!("{} is there, but is not used yet", path.display()),
                None => "there is no pasta (package passt) either".to_owned(),
            };
            finding(false, format!("none: only root can make a link to this machine's network; {pasta}"))
        }
        Ok(Outward::None(why)) => finding(false, format!("none: {why}")),
        Err(why) => finding(false, format!("none: {why}")),
    }
}

fn has_default_route() -> bool {
    let route = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let v4 = route("/proc/self/net/route").lines().skip(1).any(|l| l.split_whitespace().nth(1) == Some("00000000"));
    let none = "0".repeat(32);
    let is_default = |l: &str| {
        let fields: Vec<&str> = l.split_whitespace().collect();
        fields.first() == Some(&none.as_str()) && fields.get(1) == Some(&"00") && fields.last() != Some(&"lo")
    };
    v4 || route("/proc/self/net/ipv6_route").lines().any(is_default)
}

/// The program that gives users a way out.
fn pasta() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("pasta")).find(|file| file.is_file())
}

fn print(findings: &[Finding], look: Look) {
    let rows: Vec<Vec<String>> = findings
        .iter()
        .map(|f| {
            let mark = if f.good { look.paint("✔", AnsiColor::Green) } else { look.paint("!", AnsiColor::Yellow) };
            vec![mark, f.what.to_owned(), f.found.clone(), f.means.to_owned()]
        })
        .collect();
    print!("{}", crate::print::columns(&rows));
}
