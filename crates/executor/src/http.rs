//! An `http` template's work: one request from inside the step's pod, and what its answer means. The body is the result,
//! whether the answer is a success or not.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use windlass_artifacts::Secret;
use windlass_artifacts::request::{self, Request};
use windlass_lang::expr::{self, Env, Value};
use windlass_model::parameter::Outputs;
use windlass_model::task::HttpTask;

/// A result is no longer: it has to fit into the workflow's status.
const BODY_BYTES_MAX: u64 = 1 << 20;

/// Asks, and judges the answer; an error is why the node fails. `variable` answers what headers' Secrets hold.
pub fn run(task: &HttpTask, variable: &dyn Fn(&str) -> Option<String>) -> (Outputs, Option<String>) {
    match ask(task, variable) {
        Ok((outputs, problem)) => (outputs, problem),
        Err(problem) => (Outputs::default(), Some(problem)),
    }
}

fn ask(task: &HttpTask, variable: &dyn Fn(&str) -> Option<String>) -> Result<(Outputs, Option<String>), String> {
    let mut headers = Vec::new();
    for header in &task.headers {
        let value = match &header.variable {
            Some(name) => variable(name).ok_or_else(|| {
                let from = header.secret.as_deref().unwrap_or_default();
                format!("header {}: the Secret {from} does not exist, or has no such key", header.name)
            })?,
            None => header.value.clone(),
        };
        headers.push((header.name.clone(), Secret::from(value.as_str())));
    }
    let body = match &task.body_bytes {
        Some(text) => BASE64.decode(text.trim()).map_err(|e| format!("bodyFrom.bytes is not base64: {e}"))?,
        None => task.body.clone().into_bytes(),
    };
    let timeout = task.timeout_seconds.map(|s| Duration::from_secs(u64::try_from(s).unwrap_or(0)));
    let request = Request {
        method: task.method.clone(),
        url: task.url.clone(),
        headers,
        body,
        timeout,
        insecure: task.insecure_skip_verify,
    };
    let answer = request::send(&request, BODY_BYTES_MAX)?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let outputs = Outputs { result: Some(text.clone()), ..Outputs::default() };
    let Some(condition) = task.success_condition.as_deref().filter(|c| !c.is_empty()) else {
        let good = (200..300).contains(&answer.status);
        let problem = (!good).then(|| format!("received non-2xx response code: {}", answer.status));
        return Ok((outputs, problem));
    };
    // As Argo shows it: a header's value from a Secret is not among what is asked.
    let mut asked = serde_json::Map::new();
    for header in &task.headers {
        asked.insert(request::canonical(&header.name), json!([header.value]));
    }
    let seen = json!({
        "method": task.method, "url": task.url, "body": task.body, "bodyBytes": request.body, "headers": asked,
    });
    let told = json!({"statusCode": answer.status, "body": text, "headers": answer.headers});
    let mut env = Env::default();
    env.set("request", Value::from(&seen));
    env.set("response", Value::from(&told));
    let problem = match expr::holds(condition, &env) {
        Ok(true) => None,
        Ok(false) => Some(format!("successCondition '{condition}' evaluated false")),
        Err(fault) => Some(format!("successCondition '{condition}': {}", fault.message)),
    };
    Ok((outputs, problem))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};

    fn answers(status: &'static str, body: &'static str) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(&stream).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|l| !l.is_empty())) {}
                let length = body.len();
                let _ = write!(&stream, "HTTP/1.1 {status}\r\nx-kind: tea\r\ncontent-length: {length}\r\n\r\n{body}");
            }
        });
        format!("http://{address}/")
    }

    fn told(task: serde_json::Value) -> (Option<String>, Option<String>) {
        let task: HttpTask = serde_json::from_value(task).unwrap();
        let (outputs, problem) = run(&task, &|name| (name == "THERE").then(|| "value".to_owned()));
        (outputs.result, problem)
    }

    #[test]
    fn answers_are_judged() {
        let (good, bad) = (answers("201 Created", "made"), answers("503 Busy", "later"));
        assert_eq!(told(json!({"url": good})), (Some("made".into()), None));
        let told_bad = told(json!({"url": bad}));
        assert_eq!(told_bad, (Some("later".into()), Some("received non-2xx response code: 503".into())));
        let of = |condition: &str| told(json!({"url": bad, "method": "GET", "successCondition": condition})).1;
        assert_eq!(of("response.statusCode == 503 && response.body contains 'ate'"), None);
        assert_eq!(of("response.headers['X-Kind'][0] == 'tea' && request.method == 'GET'"), None);
        assert_eq!(of("response.body == ''").unwrap(), "successCondition 'response.body == ''' evaluated false");
        assert!(of("response.statusCode").unwrap().contains("true or false"));
        assert!(told(json!({"url": bad, "bodyBytes": "a$"})).1.unwrap().starts_with("bodyFrom.bytes is not base64"));
    }

    #[test]
    fn headers_from_secrets() {
        let url = answers("200 OK", "");
        let of = |variable: &str| {
            told(json!({"url": url, "headers": [{"name": "x-key", "secret": "s/k", "variable": variable}]})).1
        };
        assert_eq!(of("THERE"), None);
        assert_eq!(of("AWAY").unwrap(), "header x-key: the Secret s/k does not exist, or has no such key");
    }
}
