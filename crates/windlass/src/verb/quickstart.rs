//! `windlass quickstart`: the whole story for real, in a folder of its own. It starts everything, makes a repository,
//! pushes, follows the workflow, asks the application, changes a value, pushes again, and asks until the new version
//! answers. Each stage is what it says; a stage that fails ends the story with its cause.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anstyle::AnsiColor;
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::ListParams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use windlass_model::{NodePhase, NodeType, Workflow};
use windlass_oci::{Reference, host as from_host};

use crate::cli::{ClusterArgs, QuickstartArgs, RemapArgs};
use crate::cluster::{Cluster, Listen};
use crate::connect::Connection;
use crate::home::Home;
use crate::manifest::Manifests;
use crate::objects;
use crate::print::{Look, columns, workflow};
use crate::start::Session;
use crate::verb::{logs, wait};

const APP: &str = include_str!("../../quickstart/app/app.pl");
const DOCKERFILE: &str = include_str!("../../quickstart/app/Dockerfile");
const WORKFLOW: &str = include_str!("../../quickstart/app/.ci/workflow.yaml");
const CLUSTER: &str = include_str!("../../quickstart/cluster.yaml");

const FIRST_VALUE: &str = "github main branch";
const SECOND_VALUE: &str = "github main branch, changed";

/// The home of a quickstart: inside the folder it works in.
pub(crate) fn home(args: &QuickstartArgs) -> Result<Home> {
    let dir = match &args.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => tempfile::Builder::new().prefix("windlass-quickstart-").tempdir()?.keep(),
    };
    Home::find(Some(&dir.join("home")))
}

/// What the story tells while it goes on.
struct Teller {
    look: Look,
    begun: Instant,
    stages: Vec<(String, Duration)>,
}

impl Teller {
    fn says(&self, text: &str) {
        println!("{} {text}", self.look.paint("▸", AnsiColor::Cyan));
    }

    fn done(&mut self, stage: &str, since: Instant) {
        self.took(stage, since.elapsed());
    }

    fn took(&mut self, stage: &str, time: Duration) {
        println!("{} {stage} ({})", self.look.paint("✔", AnsiColor::Green), seconds(time));
        self.stages.push((stage.to_owned(), time));
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

pub(super) async fn run(session: Session, args: QuickstartArgs) -> Result<ExitCode> {
    let home = session.home.clone().context("quickstart works in a home of its own")?;
    let dir = home.root().parent().context("a home has a parent")?.to_owned();
    let outcome = tokio::select! {
        outcome = story(&session, &args, &home, &dir) => outcome,
        _ = super::run::interrupted() => {
            eprintln!("\ninterrupted: the containers end with this process");
            Ok(ExitCode::from(130))
        }
    };
    let keep = args.keep || args.dir.is_some();
    if keep {
        println!("\nkept: {}", dir.display());
        println!("  go on there:  windlass --home {} up --allow-path {}", home.root().display(), dir.display());
    } else {
        drop(session);
        unmount_beneath(&dir);
        if let Err(e) = fs::remove_dir_all(&dir) {
            eprintln!("could not remove {}: {e}", dir.display());
        }
    }
    outcome
}

/// Scratch space is mounted beneath the home, in this process's own mount namespace: it goes before its directory can.
fn unmount_beneath(dir: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<&Path> =
        table.lines().filter_map(|l| l.split(' ').nth(4)).map(Path::new).filter(|p| p.starts_with(dir)).collect();
    points.sort_by_key(|p| std::cmp::Reverse(p.components().count()));
    for point in points {
        if let Err(e) = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH) {
            tracing::debug!(point = %point.display(), error = %e, "not unmounted");
        }
    }
}

async fn story(session: &Session, _args: &QuickstartArgs, home: &Home, dir: &Path) -> Result<ExitCode> {
    let mut teller = Teller { look: session.look, begun: Instant::now(), stages: Vec::new() };
    let host = session.host.clone().context("quickstart hosts containers")?;
    if Command::new("git").arg("--version").output().is_err() {
        bail!("quickstart pushes with git, and there is no `git` program here: install it, then try again");
    }
    teller.says(&format!("working in {}", dir.display()));

    let since = Instant::now();
    let flags = ClusterArgs {
        allow_path: vec![dir.to_owned()],
        names: RemapArgs::default(),
        allow: vec![],
        node_name: None,
        node_label: vec![],
        executor: crate::cli::ExecutorForm::Node,
    };
    let lock = home.lock()?;
    let cluster = Cluster::start(host, home.clone(), lock, &flags, Listen::free_ports()).await?;
    teller.done("everything started: API, node agent, registry, webhooks", since);
    let told = tell(&mut teller, &cluster, dir, home).await;
    cluster.stop().await;
    told?;
    Ok(ExitCode::SUCCESS)
}

async fn tell(teller: &mut Teller, cluster: &Cluster, dir: &Path, home: &Home) -> Result<()> {
    let connection = Connection { client: cluster.client(), namespace: "default".to_owned(), server: None };

    let since = Instant::now();
    make_images(cluster).await?;
    teller.done("two images made of this machine's own programs (no registry was asked)", since);

    let since = Instant::now();
    let work = make_repository(dir, home)?;
    set_up(&connection, dir).await?;
    teller.done("a repository with the application, its Dockerfile and .ci/workflow.yaml", since);

    let first = push_and_follow(teller, &connection, &work, "first push").await?;
    let address = address(&connection).await?;
    expect(&address, "/value/git", FIRST_VALUE).await?;
    expect(&address, "/value/argo", "argo test").await?;
    for path in ["/value/git", "/value/argo"] {
        println!("    http://{address}{path}  {}", ask(&address, path).await?);
    }

    let text = fs::read_to_string(work.join("app.pl"))?;
    fs::write(work.join("app.pl"), text.replace(FIRST_VALUE, SECOND_VALUE))?;
    git(&work, &["commit", "--quiet", "-am", "Change the value"])?;
    let gap = Prober::start(address.clone());
    let second = push_and_follow(teller, &connection, &work, "second push").await?;
    let since = Instant::now();
    expect(&address, "/value/git", SECOND_VALUE).await?;
    teller.took("the new version answers, after its workflow had ended", since.elapsed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (asked, failures) = gap.stop().await?;
    let failed = failures.len();
    println!("    http://{address}/value/git  {}", ask(&address, "/value/git").await?);
    println!("    {asked} requests during the rollout, a new connection every 20 ms: {failed} failed");
    if let Some(first) = failures.first() {
        bail!("the rollout had a gap: {failed} of {asked} requests failed, the first one {first}");
    }
    summary(teller, &[first, second]);
    Ok(())
}

/// Two images: one with git and a shell, one with perl and a shell.
async fn make_images(cluster: &Cluster) -> Result<()> {
    let store = cluster.store();
    let made = tokio::task::spawn_blocking(move || -> Result<()> {
        let make = |name: &str, programs: &[&str], perl: bool| -> Result<()> {
            let mut wanted = from_host::HostSpec {
                programs: programs.iter().map(|p| (*p).to_owned()).collect(),
                ..Default::default()
            };
            if perl {
                wanted.add = perl_libraries()?.into_iter().map(|dir| (dir.clone(), dir)).collect();
            }
            let name = Reference::parse(name)?;
            let named = std::slice::from_ref(&name);
            from_host::build(&store, &wanted, named).with_context(|| format!("cannot make {name}"))?;
            Ok(())
        };
        make("registry.windlass.internal/quickstart/git:host", &["sh", "git", "ls", "cat"], false)?;
        make("registry.windlass.internal/quickstart/perl:host", &["sh", "perl", "ls", "cat"], true)
    });
    made.await?
}

/// Where this machine's perl finds its modules: those directories of its own that are there.
fn perl_libraries() -> Result<Vec<PathBuf>> {
    let out = Command::new("perl")
        .args(["-e", "print join qq(\\n), grep { m{^/usr/(lib|share)/} && -d } @INC"])
        .output()
        .context("the sample application is written in perl, and there is no `perl` program here")?;
    let mut dirs: Vec<PathBuf> = String::from_utf8_lossy(&out.stdout).lines().map(PathBuf::from).collect();
    let base: Vec<PathBuf> = dirs.iter().filter(|d| d.ends_with("perl-base")).cloned().collect();
    // Debian's perl-base is a whole small perl: the rest of the library is not needed.
    if !base.is_empty() {
        dirs = base;
    }
    Ok(dirs)
}

fn git(dir: &Path, args: &[&str]) -> Result<String> {
    let out = Command::new("git")
        .current_dir(dir)
        .args(["-c", "init.defaultBranch=main", "-c", "user.name=Quickstart", "-c", "user.email=quickstart@localhost"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .context("cannot run git")?;
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    if !out.status.success() {
        bail!("git {} failed:\n{text}", args.join(" "));
    }
    Ok(text)
}

/// A bare repository with our hook, and a work tree with one commit that is ready to be pushed.
fn make_repository(dir: &Path, home: &Home) -> Result<PathBuf> {
    let bare = dir.join("quickstart/app.git");
    let work = dir.join("work");
    for (path, text) in [("app.pl", APP), ("Dockerfile", DOCKERFILE), (".ci/workflow.yaml", WORKFLOW)] {
        let path = work.join(path);
        fs::create_dir_all(path.parent().context("a file has a parent")?)?;
        fs::write(path, text)?;
    }
    fs::create_dir_all(&bare)?;
    git(&bare, &["init", "--quiet", "--bare"])?;
    super::hook::install_into(&bare, home)?;
    git(&work, &["init", "--quiet"])?;
    git(&work, &["add", "."])?;
    git(&work, &["commit", "--quiet", "-m", "The application"])?;
    git(&work, &["remote", "add", "origin", &bare.display().to_string()])?;
    Ok(work)
}

async fn set_up(connection: &Connection, dir: &Path) -> Result<()> {
    let file = dir.join("cluster.yaml");
    fs::write(&file, CLUSTER)?;
    let manifests = Manifests::read(std::slice::from_ref(&file))?;
    let mut kinds = objects::Kinds::default();
    for document in manifests.documents {
        objects::apply(&connection.client, &connection.namespace, &mut kinds, document.value).await?;
    }
    Ok(())
}

/// One push and everything it starts; the times of the workflow's steps are the answer.
async fn push_and_follow(
    teller: &mut Teller,
    connection: &Connection,
    work: &Path,
    what: &str,
) -> Result<BTreeMap<String, Duration>> {
    let before = workflows(connection).await?;
    let since = Instant::now();
    let tree = work.to_owned();
    let said = tokio::task::spawn_blocking(move || git(&tree, &["push", "origin", "HEAD:main"])).await??;
    for line in said.lines().filter(|l| l.contains("windlass:")) {
        println!("    {}", line.trim());
    }
    teller.done(&format!("{what}: git push"), since);
    let since = Instant::now();
    let name = loop {
        if let Some(name) = workflows(connection).await?.into_iter().find(|n| !before.contains(n)) {
            break name;
        }
        if since.elapsed() > Duration::from_secs(15) {
            let all = objects::deliveries(connection).list(&ListParams::default()).await?.items;
            let last = all.last().map(|d| d.data["status"].to_string()).unwrap_or_default();
            bail!("the push started no workflow within 15 s; the last delivery says: {last}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let mut steps = Steps::default();
    let look = teller.look;
    let ended = wait::until_ended(connection, &name, |wf| steps.tell(wf, look)).await?;
    if !objects::succeeded(&ended) {
        print!("{}", workflow::draw(&ended, look, Timestamp::now()));
        logs::print_failures(connection, &ended, look).await;
        bail!("workflow {name} did not succeed");
    }
    teller.done(&format!("{what}: workflow {name}"), since);
    Ok(steps.times)
}

async fn workflows(connection: &Connection) -> Result<Vec<String>> {
    let all = objects::workflows(connection, false).list_metadata(&ListParams::default()).await?;
    Ok(all.items.into_iter().filter_map(|w| w.metadata.name).collect())
}

/// The steps of one workflow as they are seen to begin and end; node tables themselves have whole seconds.
#[derive(Default)]
struct Steps {
    begun: BTreeMap<String, Instant>,
    times: BTreeMap<String, Duration>,
}

impl Steps {
    /// One line for each step that has ended since the last look.
    fn tell(&mut self, wf: &Workflow, look: Look) {
        for node in wf.status.iter().flat_map(|s| s.nodes.values()).filter(|n| n.type_ == NodeType::Pod) {
            let begun = *self.begun.entry(node.display_name.clone()).or_insert_with(Instant::now);
            let ended = matches!(node.phase, NodePhase::Succeeded | NodePhase::Failed | NodePhase::Error);
            if ended && !self.times.contains_key(&node.display_name) {
                let time = begun.elapsed();
                println!("    {} {} ({})", look.icon(node.phase), node.display_name, seconds(time));
                self.times.insert(node.display_name.clone(), time);
            }
        }
    }
}

/// Where the application's Service answers on this machine.
async fn address(connection: &Connection) -> Result<String> {
    let service = Api::<Service>::namespaced(connection.client.clone(), "default").get("app").await?;
    let port = service.spec.and_then(|s| s.ports).and_then(|p| p.first().and_then(|p| p.node_port));
    Ok(format!("127.0.0.1:{}", port.context("the Service has no node port")?))
}

/// One GET over a connection of its own.
async fn ask(address: &str, path: &str) -> Result<String> {
    let answer = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        anyhow::Ok(text)
    };
    let text = tokio::time::timeout(Duration::from_secs(5), answer).await.context("no answer within 5 s")??;
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => bail!("{path} answered {:?}", text.lines().next().unwrap_or("nothing")),
    }
}

/// Asks until the answer is the one that is expected.
async fn expect(address: &str, path: &str, value: &str) -> Result<()> {
    let since = Instant::now();
    loop {
        let answer = ask(address, path).await;
        match answer {
            Ok(text) if text == value => return Ok(()),
            other if since.elapsed() > Duration::from_secs(20) => {
                let got = other.map_or_else(|e| e.to_string(), |text| format!("{text:?}"));
                bail!("http://{address}{path}: expected {value:?} within 20 s, got {got}");
            }
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// A new connection every 20 ms, counted, with what became of those that were not answered.
struct Prober {
    stop: tokio_util::sync::CancellationToken,
    task: tokio::task::JoinHandle<(usize, Vec<String>)>,
}

impl Prober {
    fn start(address: String) -> Self {
        let stop = tokio_util::sync::CancellationToken::new();
        let until = stop.clone();
        let begun = Instant::now();
        let request = move || {
            let (address, at) = (address.clone(), begun.elapsed());
            async move {
                let answer = ask(&address, "/value/git").await;
                answer.err().map(|why| format!("{:.2} s after the push began: {why:#}", at.as_secs_f32()))
            }
        };
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            let mut requests = tokio::task::JoinSet::new();
            let (mut asked, mut failures) = (0, Vec::new());
            let mut count = |done: Result<Option<String>, tokio::task::JoinError>| {
                asked += 1;
                failures.extend(done.unwrap_or_else(|died| Some(died.to_string())));
            };
            loop {
                tokio::select! {
                    () = until.cancelled() => break,
                    _ = tick.tick() => {
                        requests.spawn(request());
                    }
                    Some(done) = requests.join_next() => count(done),
                }
            }
            while let Some(done) = requests.join_next().await {
                count(done);
            }
            (asked, failures)
        });
        Self { stop, task }
    }

    async fn stop(self) -> Result<(usize, Vec<String>)> {
        self.stop.cancel();
        Ok(self.task.await?)
    }
}

fn summary(teller: &Teller, pushes: &[BTreeMap<String, Duration>]) {
    println!("\nHow long each stage took:");
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (stage, time) in &teller.stages {
        rows.push(vec![format!("  {stage}"), seconds(*time)]);
    }
    print!("{}", columns(&rows));
    println!("  in all {}", seconds(teller.begun.elapsed()));
    for (push, steps) in ["first push", "second push"].iter().zip(pushes) {
        let steps: Vec<_> = steps.iter().map(|(n, t)| format!("{n} {}", seconds(*t))).collect();
        println!("  {push}, steps as they were seen to begin and end: {}", steps.join(", "));
    }
    println!("\nWhat to try next:");
    println!("  windlass quickstart --keep       keep the folder, then `windlass --home … up` and push to it yourself");
    println!("  windlass up --allow-path ~/src   your own repositories: windlass hook install ~/src/app.git");
    println!("  windlass lint .ci/workflow.yaml  before you push");
}
