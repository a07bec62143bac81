//! `WORKDIR` and `RUN`: steps that work in the filesystem of the layers below. What is written goes to the step's own
//! directory; nothing else of the machine is.

use std::path::{Path, PathBuf};

use windlass_sandbox::{Mount, Network};

use super::{Definition, Stage};
use crate::builder::PROXY_ARGS;
use crate::dockerfile::{Command, Run};
use crate::error::{Doing, Fault};
use crate::log::Stream;
use crate::run;
use crate::view::Owner;

impl Stage {
    pub(super) async fn workdir(&mut self, text: &str, path: &Path) -> Result<(), Fault> {
        self.count();
        let mut key = self.common("workdir");
        key.text("path", &path.to_string_lossy());
        let definition = Definition { digest: key.finish(), reads: Vec::new() };
        if let Some(record) = self.probe(&definition).await? {
            self.hit(record, text);
            return Ok(());
        }
        let lowers = self.lowers().await?;
        let user = self.user(&lowers)?;
        let scratch = self.scratch()?;
        let view = self.writable(&lowers, &scratch)?;
        if view.is_directory(path) {
            self.made(text, None, vec![definition]);
            return Ok(());
        }
        view.make_directory(path, Owner { uid: user.uid, gid: user.gid })?;
        drop(view);
        self.made(text, Some(scratch), vec![definition]);
        Ok(())
    }

    pub(super) async fn run(&mut self, command: &Run, text: &str) -> Result<(), Fault> {
        self.count();
        let shop = self.shop.clone();
        let (words, script) = self.words(command);
        let mut env = self.config.env();
        let known = |env: &[(String, String)], name: &str| env.iter().any(|(known, _)| known == name);
        for (name, value) in &self.args {
            if !known(&env, name) {
                env.push((name.clone(), value.clone()));
            }
        }
        let mut key = self.common("run");
        words.iter().for_each(|word| key.text("word", word));
        env.iter().for_each(|(name, value)| {
            // Proxies change how something is reached, not what is made; unless the Dockerfile takes them itself.
            if self.declared.contains(name) || !PROXY_ARGS.contains(&name.as_str()) {
                key.text(name, value);
            }
        });
        key.text("script", script.as_deref().unwrap_or_default());
        key.text("workdir", self.config.text("WorkingDir").unwrap_or("/"));
        key.number("network", u64::from(!command.no_network));
        let definition = Definition { digest: key.finish(), reads: Vec::new() };
        if let Some(record) = self.probe(&definition).await? {
            self.hit(record, text);
            return Ok(());
        }

        let lowers = self.lowers().await?;
        let user = self.user(&lowers)?;
        for (name, value) in &shop.build_args {
            if PROXY_ARGS.contains(&name.as_str()) && !known(&env, name) {
                env.push((name.clone(), value.clone()));
            }
        }
        if !known(&env, "PATH") {
            env.push(("PATH".to_owned(), windlass_oci::host::DEFAULT_PATH.to_owned()));
        }
        if !known(&env, "HOME") {
            let unknown = if user.uid == 0 { "/root" } else { "/" };
            env.push(("HOME".to_owned(), user.home.clone().unwrap_or_else(|| unknown.to_owned())));
        }
        let mut mounts: Vec<Mount> = ["hosts", "resolv.conf", "hostname"]
            .map(|name| Mount::bind(shop.ground(name), Path::new("/etc").join(name)))
            .into();
        let scratch = self.scratch()?;
        let beside = scratch.upper().parent().unwrap_or(Path::new("/")).to_owned();
        let mut words = words;
        if let Some(script) = script {
            let path = beside.join("script");
            std::fs::write(&path, script).doing(|| "write the script".into())?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).doing(|| "write the script".into())?;
            mounts.push(Mount::bind_ro(path, "/dev/pipes/script"));
            words = vec!["/dev/pipes/script".to_owned()];
        }
        let mut all = vec![shop.ground("skeleton")];
        all.extend(lowers);
        // Asked for in any case: `resolv.conf` comes with it.
        let network = shop.network().await?;
        let network = if command.no_network { Network::None } else { network };
        let permit = shop.containers.acquire().await.map_err(|_| Fault::Cancelled)?;
        let command = run::Command {
            lowers: all,
            scratch: scratch.clone(),
            args: words,
            env,
            cwd: PathBuf::from(self.config.text("WorkingDir").unwrap_or("/")),
            user,
            network,
            mounts,
        };
        let code = run::run(&shop.host, command, &shop.request.log, shop.request.cancel.clone()).await?;
        drop(permit);
        if code != 0 {
            shop.request.log.write(Stream::Progress, &format!("{}: exit code {code}", self.step));
            return Err(Fault::Exit(code));
        }
        self.made(text, Some(scratch), vec![definition]);
        Ok(())
    }

    /// The words to execute; or a script, where a heredoc is one.
    fn words(&self, run: &Run) -> (Vec<String>, Option<String>) {
        let Command::Shell(text) = &run.command else { return (self.config.words(&run.command), None) };
        let shell = |text: String| self.config.words(&Command::Shell(text));
        match &run.heredocs[..] {
            [] => (shell(text.clone()), None),
            [only] if text.starts_with("<<") && !text.trim().contains(char::is_whitespace) => {
                if only.body.starts_with("#!") {
                    (Vec::new(), Some(only.body.clone()))
                } else {
                    (shell(only.body.clone()), None)
                }
            }
            // The shell reads them itself.
            several => {
                let mut all = text.clone();
                for heredoc in several {
                    all.push_str(&format!("\n{}{}", heredoc.body, heredoc.name));
                }
                all.push('\n');
                (shell(all), None)
            }
        }
    }
}
