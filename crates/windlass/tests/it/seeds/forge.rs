//! What a forge sends, posted as it posts it, and the workflow that comes of it.

use serde_json::{Value, json};

use super::Reader;
use crate::deliveries::{decided, post, sign};

/// A repository of GitHub as its events tell of it.
fn repository(full_name: &str) -> Value {
    json!({
        "full_name": full_name, "default_branch": "master",
        "clone_url": format!("https://github.com/{full_name}.git"),
        "git_url": format!("git://github.com/{full_name}.git"),
        "ssh_url": format!("git@github.com:{full_name}.git"),
        "html_url": format!("https://github.com/{full_name}"),
    })
}

impl Reader {
    /// A push to a branch of GitHub; the workflow that it started, ended.
    pub(crate) fn pushed(&self, full_name: &str, branch: &str, commit: &str) -> Value {
        let reference = format!("refs/heads/{branch}");
        let event = json!({
            "ref": reference, "before": "0".repeat(40), "after": commit, "created": false, "deleted": false,
            "repository": repository(full_name), "pusher": {"name": "a", "email": "a@example.org"},
        });
        self.delivered("push", commit, &event)
    }

    /// A branch of GitHub was deleted.
    pub(crate) fn branch_deleted(&self, full_name: &str, branch: &str) -> Value {
        let event = json!({
            "ref": branch, "ref_type": "branch", "pusher_type": "user", "repository": repository(full_name),
        });
        self.delivered("delete", branch, &event)
    }

    /// Posts an event that has something of its own, and finds its delivery by that.
    fn delivered(&self, event: &str, own: &str, body: &Value) -> Value {
        let id = format!("{event}-{}", own.replace('/', "-"));
        let body = serde_json::to_vec(body).unwrap();
        let (status, said) = post(&self.up().webhooks(), event, &id, &sign(&self.house, &body), &body);
        assert_eq!(status, 202, "{said}");
        let ours = |field: &Value| field.as_str().is_some_and(|text| text.ends_with(own));
        self.of_delivery(|d| {
            let found = &d["spec"]["event"];
            found["event"] == event && (ours(&found["revision"]) || ours(&found["ref"]))
        })
    }

    /// The workflow of the delivery that is meant, ended.
    pub(crate) fn of_delivery(&self, which: impl Fn(&Value) -> bool) -> Value {
        let delivery = decided(&self.house, which);
        let made = &delivery["status"]["workflow"];
        let name = made["name"].as_str().unwrap_or_else(|| panic!("{delivery:#}"));
        self.ended(made["namespace"].as_str().unwrap(), name)
    }
}
