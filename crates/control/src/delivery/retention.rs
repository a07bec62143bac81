//! Old Deliveries go, newest kept. An unfinished one is never removed.

use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, ListParams, Preconditions};
use windlass_model::delivery::DeliveryPhase;

use super::Shared;

impl Shared {
    /// Deletes finished Deliveries beyond the newest `keep`.
    pub(super) async fn retain(&self) {
        let list = match self.deliveries.list(&ListParams::default()).await {
            Ok(list) => list,
            Err(error) => {
                tracing::debug!(%error, "deliveries were not listed");
                return;
            }
        };
        for object in surplus(list.items, self.settings.keep) {
            let preconditions = Preconditions { uid: object.uid(), resource_version: object.resource_version() };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            if let Err(error) = self.deliveries.delete(&object.name_any(), &params).await {
                tracing::debug!(%error, name = object.name_any(), "an old delivery was not removed");
            }
        }
    }
}

fn surplus(mut items: Vec<DynamicObject>, keep: usize) -> Vec<DynamicObject> {
    if items.len() <= keep {
        return Vec::new();
    }
    items.sort_by_key(|object| {
        std::cmp::Reverse((object.metadata.creation_timestamp.as_ref().map(|t| t.0), object.name_any()))
    });
    items.into_iter().skip(keep).filter(finished).collect()
}

fn finished(object: &DynamicObject) -> bool {
    let phase = object.data.pointer("/status/phase").cloned().unwrap_or_default();
    matches!(
        serde_json::from_value(phase),
        Ok(DeliveryPhase::Submitted | DeliveryPhase::Ignored | DeliveryPhase::Failed)
    )
}
