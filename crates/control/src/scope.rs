//! Which workflows are a controller's, of all that an API has: of one namespace or of all, and by Argo's `instanceID`. Every
//! loop asks here which API to watch and by which labels. It must never let a loop see a part of what another loop sees: who
//! misses a workflow that is there takes it for deleted.

use kube::core::{ApiResource, DynamicResourceScope, NamespaceResourceScope};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use windlass_model::labels;

/// What is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The only namespace; all of them when it is not said.
    pub namespace: Option<String>,
    /// By the label `workflows.argoproj.io/controller-instanceid`.
    pub instance: Instance,
}

/// Argo's `instanceID`: the value of that label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Instance {
    /// There is no other controller: what the label says does not matter.
    #[default]
    Any,
    /// What has no such label, as an Argo without an `instanceID` has it.
    Unnamed,
    /// What has the label with this value.
    Named(String),
}

impl Instance {
    /// Of a controller beside others, by its configuration.
    #[must_use]
    pub fn of(id: Option<String>) -> Self {
        id.filter(|id| !id.is_empty()).map_or(Self::Unnamed, Self::Named)
    }

    /// The label's value.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named(id) => Some(id),
            Self::Any | Self::Unnamed => None,
        }
    }

    /// What a label selector asks for.
    fn term(&self) -> Option<String> {
        match self {
            Self::Any => None,
            Self::Unnamed => Some(format!("!{}", labels::INSTANCE)),
            Self::Named(id) => Some(format!("{}={id}", labels::INSTANCE)),
        }
    }
}

impl Scope {
    /// One of our kinds.
    pub(crate) fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        }
    }

    /// The same of a kind by name.
    pub(crate) fn api_of<K>(&self, client: &Client, kind: &ApiResource) -> Api<K>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, kind),
            None => Api::all_with(client.clone(), kind),
        }
    }

    /// The label selector of what is ours, and `others` too where it is not empty.
    pub(crate) fn selector(&self, others: &str) -> Option<String> {
        let others = Some(others.to_owned()).filter(|others| !others.is_empty());
        let terms: Vec<String> = others.into_iter().chain(self.instance.term()).collect();
        (!terms.is_empty()).then(|| terms.join(","))
    }

    /// A watch of all that is ours, in pages.
    pub(crate) fn all(&self) -> watcher::Config {
        watcher::Config { label_selector: self.selector(""), ..watcher::Config::default() }
    }

    /// A watch of the few of ours that `others` selects. It lists them in one piece: that an API server from 1.31 on answers
    /// from memory (where its etcd, 3.4.31 or 3.5.13 and later, tells how far its watch is), while for a page it reads and
    /// decodes every object of the kind, the thousands that have ended as well.
    pub(crate) fn few(&self, others: &str) -> watcher::Config {
        watcher::Config { page_size: None, label_selector: self.selector(others), ..watcher::Config::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_for() {
        let scope = |instance| Scope { namespace: None, instance };
        let shown = |scope: Scope| [scope.selector(""), scope.selector("a=b")];
        assert_eq!(shown(scope(Instance::Any)), [None, Some("a=b".to_owned())]);
        let id = "workflows.argoproj.io/controller-instanceid";
        assert_eq!(shown(scope(Instance::of(None))), [format!("!{id}"), format!("a=b,!{id}")].map(Some));
        assert_eq!(Instance::of(Some(String::new())), Instance::Unnamed);
        assert_eq!(
            shown(scope(Instance::of(Some("ci".into())))),
            [format!("{id}=ci"), format!("a=b,{id}=ci")].map(Some)
        );
    }
}
