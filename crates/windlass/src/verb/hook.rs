//! `windlass hook`: a repository's pushes become the events that GitHub would send. `install` writes the hook, `send`
//! is what the hook runs: it reads git's `old new ref` lines and posts one event for each, as data, never through a shell.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use windlass_schedule::hook;
use windlass_schedule::payload::{self, Commit, Person, Push, Repository, Update};
use windlass_server::Secrets;

use crate::cli::HookVerb;
use crate::home::Home;
use crate::start::Session;

pub(super) async fn run(session: &Session, verb: HookVerb) -> Result<ExitCode> {
    match verb {
        HookVerb::Install { repo, print, url, clone_url } => install(session, &repo, print, url, clone_url),
        HookVerb::Send { repo, url, clone_url } => send(session, &repo, url, clone_url).await,
    }
}

/// Where git keeps a repository's own files: the directory itself when bare, else its `.git`.
fn git_dir(repo: &Path) -> Result<PathBuf> {
    let repo = std::fs::canonicalize(repo).with_context(|| format!("{} is not there", repo.display()))?;
    let is_git = |dir: &Path| dir.join("HEAD").is_file() && dir.join("objects").is_dir();
    [repo.clone(), repo.join(".git")]
        .into_iter()
        .find(|d| is_git(d))
        .with_context(|| format!("{} is not a git repository: `git init --bare` makes one", repo.display()))
}

fn install(
    session: &Session,
    repo: &Path,
    print: bool,
    url: Option<String>,
    clone_url: Option<String>,
) -> Result<ExitCode> {
    let dir = git_dir(repo)?;
    let home = Home::find(session.global.home.as_deref())?;
    let script = script(&dir, &home, url.as_deref(), clone_url.as_deref())?;
    if print {
        print!("{script}");
        return Ok(ExitCode::SUCCESS);
    }
    let path = write(&dir, &script)?;
    println!("installed {}", path.display());
    println!(
        "pushes to {} now start its .ci/workflow.yaml; `windlass get delivery` shows what came of each",
        dir.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Installs the hook with nothing but its defaults.
pub(super) fn install_into(repo: &Path, home: &Home) -> Result<()> {
    let dir = git_dir(repo)?;
    write(&dir, &script(&dir, home, None, None)?).map(drop)
}

fn holds_no_credentials(url: &str) -> Result<()> {
    if url.starts_with("http") && url.split('/').nth(2).is_some_and(|host| host.contains('@')) {
        bail!("--clone-url holds credentials, which every event would carry on: give the URL without them");
    }
    Ok(())
}

fn script(dir: &Path, home: &Home, url: Option<&str>, clone_url: Option<&str>) -> Result<String> {
    let binary = std::env::current_exe()?.display().to_string();
    let (root, repo) = (home.root().display().to_string(), dir.display().to_string());
    let mut args = vec!["--home", &root, "--repo", &repo];
    if let Some(url) = url {
        args.extend(["--url", url]);
    }
    if let Some(clone_url) = clone_url {
        holds_no_credentials(clone_url)?;
        args.extend(["--clone-url", clone_url]);
    }
    Ok(hook::script(&binary, &args))
}

fn write(dir: &Path, script: &str) -> Result<PathBuf> {
    let path = dir.join("hooks/post-receive");
    if let Ok(old) = std::fs::read_to_string(&path)
        && !hook::is_ours(&old)
    {
        bail!("{} is there and is not ours: print the hook with --print and add its command by hand", path.display());
    }
    std::fs::create_dir_all(dir.join("hooks"))?;
    let mut file = tempfile::NamedTempFile::new_in(dir.join("hooks"))?;
    std::io::Write::write_all(&mut file, script.as_bytes())?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o755))?;
    file.persist(&path)?;
    Ok(path)
}

async fn send(session: &Session, repo: &Path, url: Option<String>, clone_url: Option<String>) -> Result<ExitCode> {
    let home = Home::find(session.global.home.as_deref())?;
    let url = match url {
        Some(url) => url,
        None => {
            let ports = home.ports().filter(|_| home.is_taken());
            let ports = ports.with_context(|| {
                format!("no `windlass up` runs on {}: start one, then push again", home.root().display())
            })?;
            format!("http://{}/webhooks/github", ports.webhooks)
        }
    };
    let secrets = Secrets::one(home.secret(&home.webhook_secret())?);
    let dir = git_dir(repo)?;
    let repository = describe(&dir, clone_url)?;
    let person = Person { name: whoami(), email: String::new() };
    let mut lines = String::new();
    std::io::stdin().read_to_string(&mut lines)?;
    let http = reqwest::Client::builder().timeout(std::time::Duration::from_secs(10)).build()?;
    for line in lines.lines().filter(|l| !l.trim().is_empty()) {
        let update = Update::parse(line).with_context(|| format!("not a line of git's: {line:?}"))?;
        let push = Push { pusher: person.clone(), ..describe_push(&dir, &update) };
        for event in payload::events(&repository, &update, &push) {
            let body = serde_json::to_vec(&event.payload)?;
            let delivery = uuid();
            let mut request = http
                .post(&url)
                .header("content-type", "application/json")
                .header("x-github-event", event.event)
                .header("x-github-delivery", &delivery);
            if let Some(signature) = secrets.sign(&body) {
                request = request.header("x-hub-signature-256", signature);
            }
            let answer = request.body(body).send().await.with_context(|| format!("cannot reach {url}"))?;
            let status = answer.status();
            let text = answer.text().await.unwrap_or_default();
            if !status.is_success() {
                bail!("{url} answered {status}: {text}");
            }
            println!("windlass: {} of {} accepted; follow it: windlass watch @latest", event.event, update.ref_);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn uuid() -> String {
    let bytes: [u8; 16] = rand::random();
    let text = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

fn whoami() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "unknown".to_owned())
}

/// What an event says of the repository: its name is its directory's and its parent's.
fn describe(dir: &Path, clone_url: Option<String>) -> Result<Repository> {
    let shown = if dir.file_name().is_some_and(|n| n == ".git") { dir.parent().unwrap_or(dir) } else { dir };
    let part = |p: Option<&Path>| p.and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
    let name = part(Some(shown)).context("a repository needs a directory with a name")?;
    let name = name.trim_end_matches(".git").to_owned();
    let owner = part(shown.parent()).unwrap_or_else(|| "local".to_owned());
    let url = clone_url.unwrap_or_else(|| format!("file://{}", dir.display()));
    let head = std::fs::read_to_string(dir.join("HEAD")).unwrap_or_default();
    let branch = head.trim().strip_prefix("ref: refs/heads/").unwrap_or("main").to_owned();
    Ok(Repository {
        full_name: format!("{owner}/{name}"),
        git_url: url.clone(),
        ssh_url: url.clone(),
        html_url: url.clone(),
        clone_url: url,
        default_branch: branch,
    })
}

/// How many commits an event names at most.
const COMMITS_MAX: &str = "--max-count=50";

/// What git knows of the push. Git runs this hook, so git is there; an event without commits is still an event.
fn describe_push(dir: &Path, update: &Update) -> Push {
    if update.is_delete() {
        return Push::default();
    }
    let git = |args: &[&str]| std::process::Command::new("git").arg("-C").arg(dir).args(args).output().ok();
    let range = if update.is_create() { update.after.clone() } else { format!("{}..{}", update.before, update.after) };
    let form = "--format=%H%x1f%T%x1f%cI%x1f%an%x1f%ae%x1f%cn%x1f%ce%x1f%B%x1e";
    let log = git(&["log", "--reverse", COMMITS_MAX, form, &range, "--"]);
    let text = log.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let commits: Vec<Commit> = text.split('\x1e').filter_map(|record| commit(record.trim_start())).collect();
    let forced = !update.is_create()
        && git(&["merge-base", "--is-ancestor", &update.before, &update.after]).is_some_and(|o| !o.status.success());
    Push { head: commits.last().cloned(), commits, forced, pusher: Person::default() }
}

fn commit(record: &str) -> Option<Commit> {
    let mut fields = record.split('\x1f');
    let mut next = || fields.next().map(str::to_owned);
    Some(Commit {
        id: next().filter(|id| !id.is_empty())?,
        tree_id: next()?,
        timestamp: next()?,
        author: Person { name: next()?, email: next()? },
        committer: Person { name: next()?, email: next()? },
        message: next()?.trim_end().to_owned(),
        ..Default::default()
    })
}
