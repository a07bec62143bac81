//! Writes: create, update, patch. Each is prepared on its caller's task against the object that it read; when somebody
//! else was faster it is prepared again, unless the caller insists on a version.

use super::query::FieldValidation;
use super::{Call, metadata, object_response, placement, storage, strategy};
use crate::ApiServer;
use crate::answer::{ApiError, Body, FieldError};
use crate::convert;
use crate::crd;
use crate::hooks;
use crate::kinds::Resource;
use crate::patch::Patch;
use crate::schema;
use crate::store::{Change, Expect, Obj, Refused, key_of};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;

/// The largest object that is kept, as on every cluster.
const OBJECT_BYTES_MAX: usize = 3 << 19;
/// How often a generated name is tried.
const NAME_TRIES: usize = 8;

/// What a write wants, once it has seen what is there. The object is in the form of the request's version.
pub(crate) enum Step {
    /// Put this there.
    Put(Value),
    /// Remove what is there; if its last form shall differ, put that first.
    Remove,
    /// Nothing changes.
    Same,
}

/// What a write did.
pub(crate) struct Done {
    /// The object as this resource serves it: the new one, or the last form of the removed one.
    pub(crate) bytes: Bytes,
    pub(crate) created: bool,
    pub(crate) removed: bool,
}

/// One object to write.
pub(crate) struct Target<'a> {
    pub(crate) server: &'a ApiServer,
    pub(crate) r: &'a Arc<Resource>,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) dry_run: bool,
}

impl Target<'_> {
    /// Writes what `step` wants, as often as it takes until nobody else wrote between its look and its write.
    pub(crate) async fn change(
        &self,
        mut step: impl FnMut(Option<&Arc<Obj>>) -> Result<Step, ApiError>,
    ) -> Result<Done, ApiError> {
        let (server, r) = (self.server, self.r);
        let store = server.store();
        let table = store.table(&r.storage);
        let key = key_of(self.namespace, self.name);
        loop {
            let current = table.get(&key);
            let wanted = step(current.as_ref())?;
            let expect = current.as_ref().map_or(Expect::Absent, |o| Expect::Version(o.rv));
            let addresses = r.is("", "services").then(|| server.addresses());
            let (result, value, reserved) = match wanted {
                Step::Same => {
                    let obj = current.ok_or_else(|| ApiError::not_found(r, self.name))?;
                    return Ok(Done { bytes: convert::served(r, &obj), created: false, removed: false });
                }
                Step::Put(mut value) => {
                    let old = addresses.and(current.as_ref()).map(|o| o.value());
                    let reserved = addresses.map(|a| a.assign(r, &mut value, old.as_ref())).transpose()?;
                    if self.dry_run {
                        return Ok(Done {
                            bytes: Bytes::from(value.to_string()),
                            created: current.is_none(),
                            removed: false,
                        });
                    }
                    convert::to_storage(r, &mut value);
                    let draft = r.draft(&value);
                    if draft.len() > OBJECT_BYTES_MAX {
                        return Err(ApiError::too_large(OBJECT_BYTES_MAX));
                    }
                    let live = r.namespaced && current.is_none();
                    (store.write(&table, &key, expect, Change::Put(draft), live).await, Some(value), reserved)
                }
                Step::Remove => {
                    if self.dry_run {
                        let obj = current.ok_or_else(|| ApiError::not_found(r, self.name))?;
                        return Ok(Done { bytes: convert::served(r, &obj), created: false, removed: true });
                    }
                    (store.write(&table, &key, expect, Change::Remove, false).await, None, None)
                }
            };
            match result {
                Ok(obj) => {
                    if let Some(reserved) = reserved {
                        reserved.keep();
                    }
                    if let (Some(addresses), Some(old)) = (addresses, &current) {
                        addresses.release(&old.value(), value.as_ref());
                    }
                    if r.is("apiextensions.k8s.io", "customresourcedefinitions") {
                        crd::committed(server, &obj.value());
                    }
                    return Ok(Done {
                        bytes: convert::served(r, &obj),
                        created: current.is_none(),
                        removed: value.is_none(),
                    });
                }
                Err(Refused::Changed) => {}
                Err(refused) => return Err(self.refusal(refused)),
            }
        }
    }

    fn refusal(&self, refused: Refused) -> ApiError {
        match refused {
            Refused::Changed => ApiError::modified(self.r, self.name),
            Refused::NoNamespace => no_namespace(self.server, self.namespace),
            Refused::NamespaceTerminating => terminating(self.r, self.name, self.namespace),
            Refused::Full(why) => ApiError::new(
                507,
                "InsufficientStorage",
                format!(
                    "the disk that holds the embedded API's state is full, nothing was written ({why}); free some space"
                ),
            ),
            Refused::Failed(why) => ApiError::internal(format!("nothing was written: {why}")),
            Refused::Closed => ApiError::new(503, "ServiceUnavailable", "the embedded API is shutting down"),
        }
    }
}

fn no_namespace(server: &ApiServer, namespace: &str) -> ApiError {
    match server.registry().find("", "v1", "namespaces") {
        Some(r) => ApiError::not_found(r, namespace),
        None => ApiError::no_such_path(),
    }
}

fn terminating(r: &Resource, name: &str, namespace: &str) -> ApiError {
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut error = ApiError::forbidden(r, name, &why);
    if let Some(details) = &mut error.details {
        let message = format!("namespace {namespace} is being terminated");
        details["causes"] =
            json!([{"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}]);
    }
    error
}

/// Fills in defaults: a built-in kind's from the table, a custom kind's from its schema.
fn default(r: &Resource, object: &mut Value) {
    match &r.schema {
        Some(schema) => schema::default(schema, object),
        None => hooks::default_object(r, object),
    }
}

fn faults(r: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut faults = metadata::validate(object, r);
    if let Some(old) = old {
        faults.extend(metadata::validate_change(object, old));
        faults.extend(strategy::validate_change(r, object, old));
    }
    match &r.schema {
        Some(schema) => faults.extend(schema::validate(schema, object)),
        None => faults.extend(hooks::validate_object(r, object, old)),
    }
    if r.is("apiextensions.k8s.io", "customresourcedefinitions") {
        faults.extend(crd::validate(object));
    }
    faults
}

impl Call {
    /// The object's kind must be the path's, and its fields of the kind's types. Those that the kind does not have are
    /// taken away, and told. `old` is the form that was stored.
    fn check_kind(&self, object: &mut Value, old: Option<&Value>) -> Result<Vec<String>, ApiError> {
        let r = &self.r;
        let api_version = r.api_version();
        let (said_version, said_kind) = (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str());
        if let Some(said) = said_kind.filter(|k| !k.is_empty() && *k != r.kind) {
            let version = said_version.rsplit('/').next().unwrap_or_default();
            let group = r.group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core");
            return Err(ApiError::bad_request(format!(
                "{said} in version {version:?} cannot be handled as a {kind}: converting ({version}.{said}) to \
                 ({group}.{kind}): unknown conversion",
                kind = r.kind
            )));
        }
        if !said_version.is_empty() && said_version != api_version {
            return Err(ApiError::bad_request(format!(
                "the API version in the data ({said_version}) does not match the expected API version ({api_version})"
            )));
        }
        object["apiVersion"] = json!(api_version);
        object["kind"] = json!(r.kind);
        metadata::check_types(object, r)?;
        match &r.schema {
            Some(schema) => Ok(schema::prune(schema, object)),
            None => hooks::check_shape(r, object, old),
        }
    }

    /// The object's namespace must be the path's.
    fn check_place(&self, object: &mut Value) -> Result<(), ApiError> {
        let namespace = self.what.namespace.as_str();
        let meta = metadata::of(object);
        if self.r.namespaced {
            let said = meta.get("namespace").and_then(Value::as_str).unwrap_or_default();
            if !said.is_empty() && said != namespace {
                return Err(ApiError::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            meta.insert("namespace".to_owned(), json!(namespace));
        } else {
            meta.remove("namespace");
        }
        Ok(())
    }

    pub(super) async fn create(&self, mut object: Value) -> Result<Response<Body>, ApiError> {
        let mut warnings = Vec::new();
        let unknown = self.check_kind(&mut object, None)?;
        self.check_place(&mut object)?;
        if object["metadata"]["resourceVersion"].as_str().is_some_and(|v| !v.is_empty()) {
            return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
        }
        self.judge_unknown(&unknown, &mut warnings)?;
        let base = object["metadata"]["generateName"].as_str().unwrap_or_default().to_owned();
        let given = object["metadata"]["name"].as_str().is_some_and(|n| !n.is_empty());
        if given || base.is_empty() {
            return Ok(object_response(201, self.create_named(object).await?.bytes, &warnings));
        }
        for attempt in 1.. {
            metadata::of(&mut object).insert("name".to_owned(), json!(metadata::generated(&base)));
            let done = self.create_named(object.clone()).await;
            match done {
                Err(error) if error.reason == "AlreadyExists" => {
                    if attempt < NAME_TRIES {
                        continue;
                    }
                    let name = object["metadata"]["name"].as_str().unwrap_or_default();
                    let mut error = ApiError::already_exists(&self.r, name);
                    error.message =
                        format!("{}, the server was not able to generate a unique name for the object", error.message);
                    return Err(error);
                }
                done => return done.map(|done| object_response(201, done.bytes, &warnings)),
            }
        }
        Err(ApiError::internal("no name could be generated"))
    }

    async fn create_named(&self, mut object: Value) -> Result<Done, ApiError> {
        let r = &self.r;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.prepare_new(&mut object)?;
        let target = self.target(&name)?;
        let mut object = Some(object);
        let done = target
            .change(|current| match (current, object.take()) {
                (None, Some(object)) => Ok(Step::Put(object)),
                // It is there, or it came and went since the first look.
                _ => Err(ApiError::already_exists(r, &name)),
            })
            .await?;
        if r.is("", "namespaces") && !target.dry_run {
            self.server.default_account(&name).await?;
        }
        Ok(done)
    }

    /// Everything between decoding and the store, for an object that shall be new.
    fn prepare_new(&self, object: &mut Value) -> Result<(), ApiError> {
        let r = &self.r;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        metadata::begin(object, r);
        default(r, object);
        strategy::prepare_create(r, object);
        if r.is("apiextensions.k8s.io", "customresourcedefinitions") {
            crd::establish(object, None);
        }
        self.check_namespace(&name)?;
        if r.is("", "pods") {
            self.check_account(object, &name)?;
        }
        if crd::is_terminating(&self.server, r) {
            return Err(ApiError::new(
                405,
                "MethodNotAllowed",
                "create not allowed while custom resource definition is terminating",
            ));
        }
        storage::complete(&self.server, r, object);
        hooks::admit(&self.server, &self.who, r, &self.what.namespace, object, None)?;
        if r.is("", "pods") {
            placement::bind_to_the_only_node(&self.server, object);
        }
        let faults = faults(r, object, None);
        if faults.is_empty() { Ok(()) } else { Err(ApiError::invalid(r, &name, &faults)) }
    }

    fn check_namespace(&self, name: &str) -> Result<(), ApiError> {
        if !self.r.namespaced {
            return Ok(());
        }
        let namespace = self.what.namespace.as_str();
        let table = self.server.store().table("namespaces");
        let found = table.get(&key_of("", namespace)).ok_or_else(|| no_namespace(&self.server, namespace))?;
        if found.meta.deleting { Err(terminating(&self.r, name, namespace)) } else { Ok(()) }
    }

    /// A pod's ServiceAccount must be there before the pod.
    fn check_account(&self, pod: &Value, name: &str) -> Result<(), ApiError> {
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let namespace = &self.what.namespace;
        if self.server.store().table("serviceaccounts").get(&key_of(namespace, account)).is_some() {
            return Ok(());
        }
        let why =
            format!("error looking up service account {namespace}/{account}: serviceaccount {account:?} not found");
        Err(ApiError::forbidden(&self.r, name, &why))
    }

    pub(super) fn target<'a>(&'a self, name: &'a str) -> Result<Target<'a>, ApiError> {
        Ok(Target {
            server: &self.server,
            r: &self.r,
            namespace: &self.what.namespace,
            name,
            dry_run: self.query.dry_run()?,
        })
    }

    pub(super) async fn update(&self, subresource: &str) -> Result<Response<Body>, ApiError> {
        let incoming = if self.what.verb == "patch" {
            Incoming::Patch(Patch::read(self.content_type(), &self.body, &self.r)?)
        } else {
            let mut object = self.decoded()?;
            let unknown = self.check_kind(&mut object, None)?;
            self.check_place(&mut object)?;
            let said = object["metadata"]["name"].as_str().unwrap_or_default();
            if said.is_empty() {
                metadata::of(&mut object).insert("name".to_owned(), json!(self.what.name));
            } else if said != self.what.name {
                return Err(name_mismatch(said, &self.what.name));
            }
            Incoming::Object(object, unknown)
        };
        self.query.field_validation().map(|_: FieldValidation| ())?;
        let mut warnings = Vec::new();
        let target = self.target(&self.what.name)?;
        let done = target
            .change(|current| {
                let Some(current) = current else {
                    let Incoming::Object(object, unknown) = &incoming else {
                        return Err(ApiError::not_found(&self.r, &self.what.name));
                    };
                    if !self.r.create_on_update || !subresource.is_empty() {
                        return Err(ApiError::not_found(&self.r, &self.what.name));
                    }
                    let mut object = object.clone();
                    self.judge_unknown(unknown, &mut warnings)?;
                    self.prepare_new(&mut object)?;
                    return Ok(Step::Put(object));
                };
                let old = convert::served_value(&self.r, current);
                let (new, unknown, whole) = match &incoming {
                    Incoming::Object(object, unknown) => (object.clone(), unknown.clone(), true),
                    Incoming::Patch(patch) => {
                        let mut new = patch.patched(&self.r, &old)?;
                        let unknown = self.check_kind(&mut new, Some(&old));
                        let unknown = unknown.map_err(|error| unfit(error, &self.r, &new))?;
                        (new, unknown, false)
                    }
                };
                self.updated(subresource, new, &old, whole, || self.judge_unknown(&unknown, &mut warnings))
            })
            .await?;
        Ok(object_response(if done.created { 201 } else { 200 }, done.bytes, &warnings))
    }

    /// What an update comes to, given the object that is there.
    fn updated(
        &self,
        subresource: &str,
        mut new: Value,
        old: &Value,
        whole: bool,
        judge_unknown: impl FnOnce() -> Result<(), ApiError>,
    ) -> Result<Step, ApiError> {
        let (r, name) = (&self.r, self.what.name.as_str());
        let said = |key: &str| new["metadata"][key].as_str().filter(|s| !s.is_empty());
        if let Some(other) = said("name").filter(|n| *n != name) {
            return Err(name_mismatch(other, name));
        }
        match said("resourceVersion") {
            Some(version) if old["metadata"]["resourceVersion"] != version => {
                return Err(ApiError::modified(r, name));
            }
            None if whole && !r.builtin => {
                let field = "metadata.resourceVersion".to_owned();
                let message = "Invalid value: 0x0: must be specified for an update".to_owned();
                let fault = FieldError { reason: "FieldValueInvalid", field, message };
                return Err(ApiError::invalid(r, name, &[fault]));
            }
            _ => {}
        }
        if let Some(uid) = said("uid").filter(|uid| old["metadata"]["uid"] != *uid) {
            if !whole {
                let fault = FieldError::invalid("metadata.uid", &json!(uid), "field is immutable");
                return Err(ApiError::invalid(r, name, &[fault]));
            }
            let have = old["metadata"]["uid"].as_str().unwrap_or_default();
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {have}");
            return Err(ApiError::conflict(r, name, &why));
        }
        judge_unknown()?;
        // What was stored has its defaults.
        if !(r.is("", "pods") && new["spec"] == old["spec"]) {
            default(r, &mut new);
        }
        let is_definition = r.is("apiextensions.k8s.io", "customresourcedefinitions");
        if is_definition {
            crd::default(&mut new);
        }
        strategy::prepare_update(r, subresource, &mut new, old);
        if is_definition {
            crd::establish(&mut new, Some(old));
        }
        hooks::admit(&self.server, &self.who, r, &self.what.namespace, &new, Some(old))?;
        let faults = faults(r, &new, Some(old));
        if !faults.is_empty() {
            return Err(ApiError::invalid(r, name, &faults));
        }
        if super::delete::is_finished(r, &new) {
            return Ok(Step::Remove);
        }
        Ok(if new == *old { Step::Same } else { Step::Put(new) })
    }
}

/// A patch that leaves a built-in object with a field of the wrong type is told in another way than a body that has one.
fn unfit(error: ApiError, r: &Resource, patched: &Value) -> ApiError {
    match error.message.find("json: cannot unmarshal") {
        Some(at) if r.builtin => {
            let fault = FieldError::invalid("patch", &json!(patched.to_string()), &error.message[at..]);
            ApiError::invalid_kind("", "", "", &[fault])
        }
        _ => error,
    }
}

enum Incoming {
    /// A whole object, and what it had that its kind has not.
    Object(Value, Vec<String>),
    Patch(Patch),
}

fn name_mismatch(said: &str, name: &str) -> ApiError {
    ApiError::bad_request(format!("the name of the object ({said}) does not match the name on the URL ({name})"))
}
