//! A `plugin` template's work: the executor plugins that run beside it are asked, one after the other, until one of them
//! takes it and answers what became of it. The protocol is Argo's (`POST /api/v1/template.execute`). It knows nothing of
//! what a plugin does; a token is only ever sent to the plugin that it was made for.
//!
//! | answer | means |
//! |---|---|
//! | 404, or a body without `node` | not mine: the next one is asked; after 404 never again |
//! | no connection, no answer in time, 503 | asked again, until [`Patience`] is over |
//! | any other status, or no JSON | the node fails |
//! | `Succeeded`, `Failed`, `Error` | the end |
//! | another phase, with `requeue` | asked again after that time |
//! | another phase without one | the node fails: nobody would ask again |

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use windlass_artifacts::Secret;
use windlass_artifacts::request::{self, Request};
use windlass_model::parameter::Outputs;
use windlass_model::places::PLUGIN_DIR;
use windlass_model::task::{PluginTask, Task};

/// An answer is no longer: its outputs have to fit into the workflow's status.
const BODY_BYTES_MAX: u64 = 1 << 20;
const TOKEN_BYTES: usize = 32;

/// How long a plugin that does not answer is asked again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// One request.
    pub request: Duration,
    /// At least so often…
    pub tries: u32,
    /// … and for so long.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { request: Duration::from_secs(30), tries: 5, whole: Duration::from_secs(31) }
    }
}

/// What a plugin answers.
#[derive(Debug, Default, Deserialize)]
struct Reply {
    node: Option<Node>,
    requeue: Option<String>,
}

/// What it says of the node.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    phase: Option<String>,
    message: Option<String>,
    outputs: Option<Outputs>,
}

/// One plugin, as it is asked.
struct Plugin<'t> {
    name: &'t str,
    address: String,
    token: String,
    /// It does not know the method.
    gone: bool,
}

/// Asks until there is an end; an error is why the node fails.
pub fn run(task: &Task, plugin: &PluginTask) -> (Outputs, Option<String>) {
    match ask(task, plugin, Path::new(PLUGIN_DIR), Patience::default()) {
        Ok(end) => end,
        Err(problem) => (Outputs::default(), Some(problem)),
    }
}

fn ask(
    task: &Task,
    plugin: &PluginTask,
    tokens: &Path,
    patience: Patience,
) -> Result<(Outputs, Option<String>), String> {
    let about = json!({
        "name": task.workflow_name, "namespace": plugin.namespace, "uid": task.workflow_uid,
    });
    let body = json!({"workflow": {"metadata": about}, "template": plugin.template}).to_string().into_bytes();
    let mut all = Vec::new();
    for one in &plugin.plugins {
        let file = tokens.join(&one.name).join("token");
        let token = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let address = format!("http://127.0.0.1:{}/api/v1/template.execute", one.port);
        all.push(Plugin { name: &one.name, address, token: token.trim().to_owned(), gone: false });
    }
    loop {
        let mut taken = None;
        for one in all.iter_mut().filter(|one| !one.gone) {
            if let Some(reply) = one.execute(&body, patience)? {
                taken = Some((one.name.to_owned(), reply));
                break;
            }
        }
        let Some((name, reply)) = taken else { return Err("no plugin executed the template".to_owned()) };
        let node = reply.node.unwrap_or_default();
        let (phase, outputs) = (node.phase.unwrap_or_default(), node.outputs.unwrap_or_default());
        let message = node.message.filter(|m| !m.is_empty());
        match phase.as_str() {
            "Succeeded" | "Skipped" | "Omitted" => return Ok((outputs, None)),
            "Failed" | "Error" => {
                return Ok((outputs, Some(message.unwrap_or_else(|| format!("plugin {name} answered {phase}")))));
            }
            _ => {}
        }
        let said = if phase.is_empty() { "no phase" } else { phase.as_str() };
        let pause = reply.requeue.filter(|text| !text.is_empty() && text != "0s");
        let pause =
            pause.ok_or_else(|| format!("plugin {name} answered {said} and not when to ask again (`requeue`)"))?;
        let pause: jiff::SignedDuration =
            pause.parse().map_err(|_| format!("plugin {name}: requeue {pause:?} is no duration"))?;
        println!("plugin {name}: {said} {}", message.unwrap_or_default());
        std::thread::sleep(Duration::try_from(pause).unwrap_or_default());
    }
}

impl Plugin<'_> {
    /// What it answers; nothing where it is not its business.
    fn execute(&mut self, body: &[u8], patience: Patience) -> Result<Option<Reply>, String> {
        let request = Request {
            method: "POST".to_owned(),
            url: self.address.clone(),
            headers: vec![
                ("Content-Type".to_owned(), Secret::from("application/json")),
                ("Authorization".to_owned(), Secret::from(format!("Bearer {}", self.token).as_str())),
            ],
            body: body.to_vec(),
            timeout: Some(patience.request),
            insecure: false,
        };
        let (begun, mut tries, mut pause) = (Instant::now(), 0, Duration::from_millis(50));
        loop {
            tries += 1;
            let problem = match request::send(&request, BODY_BYTES_MAX) {
                Ok(answer) if answer.status == 200 => {
                    let reply: Reply = serde_json::from_slice(&answer.body)
                        .map_err(|e| format!("plugin {}: its answer cannot be read: {e}", self.name))?;
                    return Ok(reply.node.is_some().then_some(reply));
                }
                Ok(answer) if answer.status == 404 => {
                    self.gone = true;
                    return Ok(None);
                }
                Ok(answer) => {
                    let text = String::from_utf8_lossy(&answer.body);
                    let said = format!("plugin {}: {}: {}", self.name, answer.status, text.trim());
                    if answer.status != 503 {
                        return Err(said);
                    }
                    said
                }
                Err(problem) => format!("plugin {}: {problem}", self.name),
            };
            if tries >= patience.tries && begun.elapsed() >= patience.whole {
                return Err(problem);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}

/// Makes a token for each plugin of this pod: `NAME/token` beneath [`PLUGIN_DIR`], before any of them begins.
pub(crate) fn make_tokens(names: &[&str]) -> Result<(), String> {
    make_tokens_in(Path::new(PLUGIN_DIR), names)
}

fn make_tokens_in(directory: &Path, names: &[&str]) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    for name in names {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(format!("{name:?} is no name of a plugin"));
        }
        let mut bytes = [0; TOKEN_BYTES];
        let random = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
        random.map_err(|e| format!("/dev/urandom: {e}"))?;
        let place = directory.join(name);
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(&place)?;
            std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755))?;
            let file = place.join("token");
            let _ = std::fs::remove_file(&file);
            let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            std::fs::write(&file, text)?;
            // The plugin may be anybody in its own container; nobody else has the directory.
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o444))
        };
        write().map_err(|e| format!("{}: {e}", place.display()))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::sync::{Arc, Mutex};
    use windlass_model::task::PluginAddress;

    const SOON: Patience = Patience { request: Duration::from_secs(20), tries: 2, whole: Duration::ZERO };

    /// A plugin that gives these answers in turn; what it was asked comes out.
    fn plugin(answers: &'static [(&'static str, &'static str)]) -> (u16, Arc<Mutex<Vec<String>>>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = asked.clone();
        std::thread::spawn(move || {
            let mut answers = answers.iter();
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(&stream);
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                        break;
                    }
                    if let Some((_, text)) = line.to_ascii_lowercase().split_once("content-length:") {
                        length = text.trim().parse().unwrap();
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                told.lock().unwrap().push(format!("{head}\n{}", String::from_utf8(body).unwrap()));
                let (status, text) = answers.next().unwrap_or(&("500 No more", ""));
                let length = text.len();
                let _ =
                    write!(&stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}");
            }
        });
        (port, asked)
    }

    fn asks(plugins: &[u16]) -> Result<(Outputs, Option<String>), String> {
        let directory = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..plugins.len()).map(|n| format!("p{n}")).collect();
        make_tokens_in(directory.path(), &names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let plugins = names.into_iter().zip(plugins).map(|(name, port)| PluginAddress { name, port: *port }).collect();
        let plugin =
            PluginTask { namespace: "ns".into(), template: json!({"name": "t", "plugin": {"hello": {}}}), plugins };
        let task = Task { workflow_name: "w".into(), workflow_uid: "u".into(), ..Task::default() };
        ask(&task, &plugin, directory.path(), SOON)
    }

    const DONE: &str = r#"{"node": {"phase": "Succeeded", "message": "m", "progress": "1/1",
        "outputs": {"parameters": [{"name": "foo", "value": "bar"}]}}}"#;

    const RUNNING: &str = r#"{"node": {"phase": "Running", "message": "on it"}, "requeue": "10ms"}"#;

    #[test]
    fn the_one_whose_it_is_answers() {
        let (none, first) = plugin(&[("404 Not Found", "")]);
        let (passes, _) = plugin(&[("200 OK", "{}")]);
        let (takes, last) = plugin(&[("200 OK", DONE)]);
        let (outputs, problem) = asks(&[none, passes, takes]).unwrap();
        assert_eq!((problem, outputs.parameters[0].name.as_str()), (None, "foo"));
        let (first, last) = (first.lock().unwrap()[0].clone(), last.lock().unwrap()[0].clone());
        assert!(last.starts_with("POST /api/v1/template.execute HTTP/1.1"), "{last}");
        let body: serde_json::Value =
            serde_json::from_str(last.split_once('\n').unwrap().1.rsplit_once('\n').unwrap().1).unwrap();
        assert_eq!(body["workflow"]["metadata"], json!({"name": "w", "namespace": "ns", "uid": "u"}));
        assert_eq!(body["template"]["plugin"], json!({"hello": {}}));
        // Each has a token of its own.
        let token = |asked: &str| {
            let line = asked.lines().find(|l| l.to_ascii_lowercase().starts_with("authorization: bearer ")).unwrap();
            line.rsplit_once(' ').unwrap().1.to_owned()
        };
        assert_eq!(token(&first).len(), 2 * TOKEN_BYTES);
        assert_ne!(token(&first), token(&last));
    }

    #[test]
    fn what_is_not_done_is_asked_again() {
        let (none, gone) = plugin(&[("404 Not Found", "")]);
        let (busy, asked) =
            plugin(&[("503 Service Unavailable", "later"), ("200 OK", RUNNING), ("200 OK", RUNNING), ("200 OK", DONE)]);
        assert_eq!(asks(&[none, busy]).unwrap().1, None);
        assert_eq!((asked.lock().unwrap().len(), gone.lock().unwrap().len()), (4, 1));
    }

    #[test]
    fn what_fails_says_why() {
        let said = |answers: &'static [(&'static str, &'static str)]| match asks(&[plugin(answers).0]) {
            Ok((_, problem)) => problem.unwrap(),
            Err(problem) => problem,
        };
        let told = [
            said(&[("200 OK", r#"{"node": {"phase": "Failed", "message": "no luck"}}"#)]),
            said(&[("200 OK", r#"{"node": {"phase": "Error"}}"#)]),
            said(&[("200 OK", "{}")]),
            said(&[("404 Not Found", "")]),
            said(&[("500 Oh", "broken")]),
            said(&[("503 Later", "busy"), ("503 Later", "still busy")]),
            said(&[("200 OK", "<html>")]),
            said(&[("200 OK", r#"{"node": {"phase": "Running"}}"#)]),
            said(&[("200 OK", r#"{"node": {}, "requeue": "soon"}"#)]),
        ];
        assert_eq!(
            told,
            [
                "no luck",
                "plugin p0 answered Error",
                "no plugin executed the template",
                "no plugin executed the template",
                "plugin p0: 500: broken",
                "plugin p0: 503: still busy",
                "plugin p0: its answer cannot be read: expected value at line 1 column 1",
                "plugin p0 answered Running and not when to ask again (`requeue`)",
                "plugin p0: requeue \"soon\" is no duration",
            ]
        );
        // Nobody listens.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert!(asks(&[port]).unwrap_err().starts_with("plugin p0: "));
    }
}
