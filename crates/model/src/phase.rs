//! Phases and node types, with Argo's words. Never decides a transition: the engine does.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)*
        }
        impl $name {
            /// The word on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words!(
    /// The phase of a workflow.
    WorkflowPhase {
        /// Not looked at yet.
        #[default]
        Unknown = "",
        /// Waiting for something outside: a lock, a quota, a volume.
        Pending = "Pending",
        /// Nodes may run.
        Running = "Running",
        /// Ended well.
        Succeeded = "Succeeded",
        /// The user's code or input failed.
        Failed = "Failed",
        /// The infrastructure or the engine failed.
        Error = "Error",
    }
);

impl WorkflowPhase {
    /// Whether the workflow has ended.
    pub fn is_completed(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Error)
    }
}

words!(
    /// The phase of a node.
    NodePhase {
        /// Not begun (only ever seen inside the engine and in old objects).
        #[default]
        Unknown = "",
        /// Created, not running.
        Pending = "Pending",
        /// Running.
        Running = "Running",
        /// Ended well.
        Succeeded = "Succeeded",
        /// Its condition was false.
        Skipped = "Skipped",
        /// The user's code failed.
        Failed = "Failed",
        /// The infrastructure or the engine failed.
        Error = "Error",
        /// Its `depends` was not met.
        Omitted = "Omitted",
    }
);

impl NodePhase {
    /// Whether the node will not move any more (a running daemon is fulfilled too, which only its status can tell).
    pub fn is_fulfilled(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Error | Self::Skipped | Self::Omitted)
    }
    /// Whether it ran and ended: fulfilled, but neither skipped nor omitted.
    pub fn is_completed(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Error)
    }
    /// Whether it counts as having gone wrong.
    pub fn is_fail_or_error(self) -> bool {
        matches!(self, Self::Failed | Self::Error)
    }
}

words!(
    /// What a node is.
    NodeType {
        /// A Pod.
        #[default]
        Pod = "Pod",
        /// One container of a container set.
        Container = "Container",
        /// A steps template.
        Steps = "Steps",
        /// One group of parallel steps.
        StepGroup = "StepGroup",
        /// A dag template.
        Dag = "DAG",
        /// A dag task that was expanded by a loop.
        TaskGroup = "TaskGroup",
        /// The parent of attempts.
        Retry = "Retry",
        /// Something that did not run.
        Skipped = "Skipped",
        /// A suspend template.
        Suspend = "Suspend",
        /// An http template.
        Http = "HTTP",
        /// A plugin template.
        Plugin = "Plugin",
    }
);
