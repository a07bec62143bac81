//! `windlass convert`: Argo 3's spellings as Argo 4 has them, by edits of the text. What was changed is told on stderr;
//! what cannot be edited safely is left, told, and makes exit 1.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use windlass_engine::convert::{Conversion, convert, converted_value};
use windlass_lang::{Diagnostic, Sources, edit, yaml};

use crate::cli::{ConvertArgs, Format};
use crate::start::Session;
use crate::{manifest, print};

pub(super) fn run(session: &Session, args: &ConvertArgs) -> Result<ExitCode> {
    let files = manifest::find(&args.paths)?;
    if args.write && files.iter().any(|f| f.as_os_str() == "-") {
        bail!("--write changes files, and `-` is none");
    }
    let mut sources = Sources::default();
    let mut left: Vec<Diagnostic> = Vec::new();
    let (mut changes, mut objects, mut printed) = (0, Vec::new(), 0);
    for file in &files {
        let (name, text) = manifest::text_of(file)?;
        let id = sources.add(name.clone(), text.clone());
        let loaded = yaml::load(&sources, id);
        if !loaded.diagnostics.is_empty() {
            left.extend(loaded.diagnostics);
            continue;
        }
        let all: Vec<(yaml::Document, Conversion)> = yaml::flatten(loaded.documents)
            .into_iter()
            .map(|d| {
                let conversion = convert(&d, &sources);
                (d, conversion)
            })
            .collect();
        let edits = all.iter().flat_map(|(_, c)| &c.changes).flat_map(|c| &c.edits);
        let new = edit::apply(&text, edits).with_context(|| format!("{name}: these edits do not fit together"))?;
        let wanted: Vec<Value> = all.iter().map(|(d, c)| converted_value(d, c)).collect();
        let said: Vec<Value> = yaml::flatten(yaml::load_str(&new).documents).into_iter().map(|d| d.value).collect();
        if said != wanted {
            bail!("{name} was not converted: its edited text would say something else; convert it by hand");
        }
        for change in all.iter().flat_map(|(_, c)| &c.changes) {
            let at = sources.get(id).map(|s| s.position(change.span.start));
            let at = at.map(|p| format!(":{}:{}", p.line, p.column)).unwrap_or_default();
            eprintln!("{name}{at}: {}", change.what);
            changes += 1;
        }
        left.extend(all.iter().flat_map(|(_, c)| c.by_hand.iter().cloned()));
        if args.write {
            if new != text {
                std::fs::write(file, &new).with_context(|| format!("cannot write {name}"))?;
            }
        } else if args.output.is_some() {
            objects.extend(wanted);
        } else {
            // Texts of several files are documents of one.
            if printed > 0 && !new.trim_start().starts_with("---") {
                println!("---");
            }
            print!("{new}");
            if !new.is_empty() && !new.ends_with('\n') {
                println!();
            }
            printed += 1;
        }
    }
    match args.output {
        Some(Format::Json) => println!("{}", serde_json::to_string_pretty(&objects)?),
        Some(_) => {
            for (i, object) in objects.iter().enumerate() {
                print!("{}{}", if i > 0 { "---\n" } else { "" }, print::yaml(object)?);
            }
        }
        None => {}
    }
    if !left.is_empty() {
        eprint!("{}", windlass_lang::render(&left, &sources, session.look.color));
    }
    match (changes, args.write) {
        (0, _) if left.is_empty() => eprintln!("nothing to convert in {} files", files.len()),
        (n, true) => eprintln!("{n} fields were converted"),
        _ => {}
    }
    Ok(if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
