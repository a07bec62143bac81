//! `windlass doctor`: what this machine allows, tried and not guessed, and what it means for running steps.

use std::process::ExitCode;

use anstyle::AnsiColor;
use anyhow::{Context, Result};
use serde_json::json;
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
    let findings = findings(&probe);
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
