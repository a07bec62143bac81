//! `COPY` and `ADD`: files of the context, of another stage or image, of the Dockerfile itself. An archive is unpacked by
//! a confined worker; nothing here reads one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use windlass_oci::{Platform, Reference};
use windlass_sandbox::Scratch;

use super::{Definition, Stage};
use crate::copy::{self, Rules, is_directory_text};
use crate::dockerfile::{Instruction, Transfer};
use crate::error::{BuildError, Doing, Fault};
use crate::output::blocking;
use crate::shop::Finished;
use crate::view::{Owner, View};
use crate::{Ignore, confined, extract, users};

/// What a step of `COPY` reads.
enum From {
    Context,
    Finished(Arc<Finished>),
}

impl Stage {
    pub(super) async fn transfer(
        &mut self,
        instruction: &Instruction,
        transfer: &Transfer,
        add: bool,
    ) -> Result<(), BuildError> {
        let expanded = |text: &String| self.expanded(instruction, text);
        let mut wanted = transfer.clone();
        wanted.sources = transfer.sources.iter().map(expanded).collect::<Result<_, _>>()?;
        wanted.dest = self.expanded(instruction, &transfer.dest)?;
        wanted.chown = transfer.chown.as_ref().map(expanded).transpose()?;
        wanted.chmod = transfer.chmod.as_ref().map(expanded).transpose()?;
        for heredoc in &mut wanted.heredocs {
            if heredoc.expand {
                // Quotes mean nothing in such a text.
                let body = heredoc.body.replace('\'', "\u{1}").replace('"', "\u{2}");
                heredoc.body = self.expanded(instruction, &body)?.replace('\u{1}', "'").replace('\u{2}', "\"");
            }
        }
        self.copy(&instruction.text, &wanted, add).await.map_err(|cause| self.failed(cause))
    }

    async fn copy(&mut self, text: &str, wanted: &Transfer, add: bool) -> Result<(), Fault> {
        self.count();
        let shop = self.shop.clone();
        let from = self.from(wanted).await?;
        let mode = wanted.chmod.as_deref().map(users::mode).transpose()?;
        let absolute = format!("/{}", self.absolute(&wanted.dest).display());
        let dest = if is_directory_text(&wanted.dest) { format!("{absolute}/") } else { absolute };
        let mut key = self.common(if add { "add" } else { "copy" });
        key.text("dest", &dest);
        key.text("chown", wanted.chown.as_deref().unwrap_or_default());
        key.text("chmod", wanted.chmod.as_deref().unwrap_or_default());
        wanted.exclude.iter().for_each(|pattern| key.text("exclude", pattern));
        for heredoc in &wanted.heredocs {
            key.text(&heredoc.name, &heredoc.body);
        }

        let (place, ignore) = match &from {
            From::Context => ("the context".to_owned(), shop.ignore.clone()),
            From::Finished(_) => (wanted.from.clone().unwrap_or_default(), Ignore::default()),
        };
        let mut definitions = Vec::new();
        let mut first_probe = None;
        if let From::Finished(finished) = &from {
            // By the layers that are read: nothing needs to be unpacked for a hit.
            let mut by_layers = key.clone();
            wanted.sources.iter().for_each(|source| by_layers.text("path", source));
            let definition = Definition { digest: by_layers.finish(), reads: finished.items.clone() };
            if !finished.executed {
                first_probe = self.probe(&definition).await?;
            }
            definitions.push(definition);
        }
        if let Some(record) = first_probe {
            self.hit(record, text);
            return Ok(());
        }

        let view = match &from {
            From::Context => shop.request.context.view.clone(),
            From::Finished(finished) => shop.view(&finished.items).await?,
        };
        let mut ignore_all = ignore;
        if !wanted.exclude.is_empty() {
            ignore_all = ignore_all.with(&wanted.exclude).map_err(|why| Fault::said(format!("--exclude: {why}")))?;
        }
        let in_context = matches!(from, From::Context);
        let zero = Owner { uid: 0, gid: 0 };
        let plain = Rules { owner: (in_context || wanted.chown.is_some()).then_some(zero), mode, ignore: ignore_all };
        let (found, digest) = {
            let (view, rules, sources) = (view.clone(), plain.clone(), wanted.sources.clone());
            blocking(move || {
                let found = copy::find(&view, &sources, &rules.ignore, &place)?;
                found.hash(&view, &rules, &mut key)?;
                Ok((found, key.finish()))
            })
            .await?
        };
        let definition = Definition { digest, reads: Vec::new() };
        if let Some(record) = self.probe(&definition).await? {
            for other in &definitions {
                shop.cache.put(&Self::key(&self.items, other).await?, &record)?;
            }
            self.hit(record, text);
            return Ok(());
        }
        definitions.push(definition);

        let lowers = self.lowers().await?;
        let mut rules = plain;
        if let Some(chown) = &wanted.chown {
            rules.owner = Some(users::owner(&self.with_single(&lowers), chown)?);
        }
        let scratch = self.scratch()?;
        let chown = rules.owner.filter(|_| wanted.chown.is_some());
        let mut found = found;
        if add {
            let mut plain = Vec::new();
            for path in found.paths() {
                if !self.add_archive(&view, path, &lowers, &scratch, &dest, chown).await? {
                    plain.push(path.clone());
                }
            }
            found = copy::Found::these(plain);
        }
        let to = self.writable(&lowers, &scratch)?;
        let heredocs = wanted.heredocs.clone();
        blocking(move || {
            // One after the other where archives may have been among them: each is a source of its own.
            if add {
                found.paths().iter().try_for_each(|path| copy::Found::one(path).copy(&view, &to, &dest, &rules))?;
            } else if !found.paths().is_empty() {
                found.copy(&view, &to, &dest, &rules)?;
            }
            for heredoc in &heredocs {
                copy::write_text(&to, &dest, &heredoc.name, &heredoc.body, &rules)?;
            }
            Ok(())
        })
        .await?;
        self.made(text, Some(scratch), definitions);
        Ok(())
    }

    /// Unpacks a source of `ADD` that is an archive; false where it is none.
    async fn add_archive(
        &self,
        from: &View,
        path: &Path,
        lowers: &[PathBuf],
        scratch: &Scratch,
        dest: &str,
        owner: Option<Owner>,
    ) -> Result<bool, Fault> {
        let name = path.to_string_lossy();
        // A directory, say.
        let Ok(mut file) = from.file(path) else { return Ok(false) };
        if !extract::may_be_archive(&mut file).doing(|| format!("read {name}"))? {
            return Ok(false);
        }
        let (host, lowers) = (&self.shop.host, lowers.to_vec());
        let added = confined::add(host, file, &name, lowers, scratch, Path::new(dest), owner).await?;
        if let Some([first, rest @ ..]) = added.as_deref() {
            let others = if rest.is_empty() { String::new() } else { format!(" and {} others", rest.len()) };
            let text = format!("warning: devices of {name} were left out: {}{others}", first.display());
            self.shop.request.log.line(text);
        }
        Ok(added.is_some())
    }

    async fn from(&self, wanted: &Transfer) -> Result<From, Fault> {
        let Some(from) = &wanted.from else { return Ok(From::Context) };
        if let Some(stage) = self.shop.file.stage(from, self.at) {
            return self.earlier[stage].clone().await.map(From::Finished).map_err(|e| waited(&e));
        }
        let reference = Reference::parse(from).map_err(|e| Fault::said(e.to_string()))?;
        self.image(&reference, &Platform::host(), true).await.map(From::Finished)
    }
}

/// What a stage says that waited for one which failed.
pub(super) fn waited(error: &BuildError) -> Fault {
    match error {
        BuildError::Cancelled => Fault::Cancelled,
        BuildError::Command { code, .. } => Fault::Exit(*code),
        other => Fault::said(format!("it needs a stage that failed: {other}")),
    }
}
