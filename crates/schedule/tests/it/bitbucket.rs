//! Bitbucket's events, written after Atlassian's public documentation of the payloads, and the settings they need.

use windlass_lang::render;
use windlass_schedule::bitbucket::{self, Headers};
use windlass_schedule::forge::Parsed;
use windlass_schedule::names;
use windlass_schedule::settings::{MANIFEST, Settings};
use windlass_schedule::trigger;

use crate::{cases, settings};

#[test]
fn events() {
    let rules = Settings::parse(include_str!("cases/settings/good.yaml")).ok().unwrap();
    for (name, text) in cases("bitbucket", "json") {
        let case: serde_json::Value = serde_json::from_str(&text).unwrap();
        let header = |name: &str| case["headers"][name].as_str();
        let headers = Headers { event: header("event"), request: header("request"), hook: header("hook") };
        let mut lines = vec![];
        match bitbucket::parse(headers, case["body"].to_string().as_bytes()) {
            Parsed::Events(events) => {
                for mut event in events {
                    lines.push(names::delivery(&event.provider, &event.delivery_id));
                    rules.complete(&mut event).unwrap();
                    lines.push(format!("  manifest: {}", rules.manifest(&event, MANIFEST)));
                    lines.push(format!("  from: {:?}", trigger::manifest_source(&event)));
                    let all = trigger::annotations(&event, "d");
                    lines.extend(all.into_iter().map(|(key, value)| format!("  {key}: {value:?}")));
                }
            }
            other => lines.push(format!("{other:?}")),
        }
        settings(&name).bind(|| insta::assert_snapshot!("bitbucket", lines.join("\n")));
    }
}

#[test]
fn a_repeat_has_the_same_names() {
    let case: serde_json::Value =
        serde_json::from_str(include_str!("cases/bitbucket/cloud_three_changes.json")).unwrap();
    let body = case["body"].to_string();
    let names = |request: &str| {
        let headers = Headers { event: Some("repo:push"), request: Some(request), hook: None };
        let Parsed::Events(events) = bitbucket::parse(headers, body.as_bytes()) else { panic!("events") };
        events.iter().map(|e| names::delivery(&e.provider, &e.delivery_id)).collect::<Vec<_>>()
    };
    assert_eq!(names("a-1"), ["bitbucket-a-1.000", "bitbucket-a-1.001", "bitbucket-a-1.002"]);
    assert_eq!(names("a-1"), names("a-1"));
    assert!(names("a-1").iter().all(|name| !names("a-2").contains(name)));
}

#[test]
fn settings_are_read_or_refused() {
    for (name, text) in cases("settings", "yaml") {
        let said = match Settings::parse(&text) {
            Ok(read) => format!("{read:#?}"),
            Err((faults, sources)) => render(&faults, &sources, false),
        };
        settings(&name).bind(|| insta::assert_snapshot!("settings", said));
    }
}

#[test]
fn a_server_without_an_address_is_told_where_to_set_it() {
    let text = include_str!("cases/bitbucket/server_push.json");
    let case: serde_json::Value = serde_json::from_str(text).unwrap();
    let headers = Headers { event: Some("repo:refs_changed"), request: Some("r"), hook: None };
    let Parsed::Events(mut events) = bitbucket::parse(headers, case["body"].to_string().as_bytes()) else {
        panic!("events")
    };
    assert!(Settings::default().complete(&mut events[0]).unwrap_err().contains("bitbucketServer.url"));
}
