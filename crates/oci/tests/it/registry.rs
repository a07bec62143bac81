//! The built-in registry, asked by a real client (skopeo) and by hand.

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use windlass_oci::client::Secret;
use windlass_oci::registry::{TokenAuthorize, router};
use windlass_oci::{Digest, GcOptions, Reference, Store, layout, media};

use crate::not_run;
use crate::store::image;

pub const TOKEN: &str = "s3cret-token";

pub struct Server {
    pub address: SocketAddr,
    pub store: Store,
    task: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub async fn serve() -> Server {
    serve_with(|router| router).await
}

pub async fn serve_with(wrap: impl FnOnce(axum::Router) -> axum::Router) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let app = wrap(router(store.clone(), Arc::new(TokenAuthorize::new(Secret::new(TOKEN)))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Server { address, store, task, _dir: dir }
}

async fn skopeo(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new("skopeo");
    command.arg("--insecure-policy").args(arguments).kill_on_drop(true);
    tokio::time::timeout(Duration::from_secs(60), command.output()).await.expect("skopeo hangs").unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_pushes_lists_copies_pulls_and_deletes() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        return not_run("skopeo_pushes_lists_copies_pulls_and_deletes", "skopeo is not installed");
    }
    let server = serve().await;
    let at = server.address;
    let scratch = tempfile::tempdir().unwrap();
    let local = Store::open(scratch.path().join("local")).unwrap();
    let made = image(&local, "app:1", "pushed by skopeo");
    let dir = scratch.path().join("layout");
    layout::export_dir(&local, made.digest(), &[], &dir).unwrap();
    let source = format!("oci:{}", dir.display());
    let creds = format!("anyone:{TOKEN}");

    let target = format!("docker://{at}/team/app:1");
    let refused = skopeo(&["copy", "--dest-tls-verify=false", &source, &target]).await;
    assert!(!refused.status.success(), "pushing needs the token");
    let refused = skopeo(&["copy", "--dest-tls-verify=false", "--dest-creds", "anyone:wrong", &source, &target]).await;
    assert!(!refused.status.success() && text(&refused).contains("unauthorized"), "{}", text(&refused));
    assert!(server.store.list().unwrap().is_empty());

    let pushed = skopeo(&["copy", "--dest-tls-verify=false", "--dest-creds", &creds, &source, &target]).await;
    assert!(pushed.status.success(), "{}", text(&pushed));
    // What was pushed is at once an image of the store.
    let name = Reference::parse("registry.windlass.internal/team/app:1").unwrap();
    let stored = server.store.get(&name).unwrap().unwrap();
    assert_eq!(stored.digest(), made.digest());
    server.store.rootfs(&stored).unwrap();

    // Docker's own family, too, and a copy within the registry.
    let second = format!("docker://{at}/other/copy:v2s2");
    let arguments = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--dest-creds", &creds];
    let copied = skopeo(&[&arguments[..], &["--format", "v2s2", &target, &second]].concat()).await;
    assert!(copied.status.success(), "{}", text(&copied));
    let copy = server.store.get(&Reference::local("other/copy", "v2s2").unwrap()).unwrap().unwrap();
    assert_eq!(copy.media_type(), media::DOCKER_MANIFEST);

    let third = format!("docker://{at}/team/app:2");
    let tagged = skopeo(&[&arguments[..], &[target.as_str(), third.as_str()]].concat()).await;
    assert!(tagged.status.success(), "{}", text(&tagged));
    let repository = format!("docker://{at}/team/app");
    let tags = skopeo(&["list-tags", "--tls-verify=false", &repository]).await;
    assert!(text(&tags).contains("\"1\"") && text(&tags).contains("\"2\""), "{}", text(&tags));

    let inspected = skopeo(&["inspect", "--tls-verify=false", &target]).await;
    assert!(text(&inspected).contains(made.digest().as_str()), "{}", text(&inspected));
    let pulled = scratch.path().join("pulled");
    let destination = format!("oci:{}:x", pulled.display());
    let copied = skopeo(&["copy", "--src-tls-verify=false", &target, &destination]).await;
    assert!(copied.status.success(), "{}", text(&copied));
    let third_store = Store::open(scratch.path().join("third")).unwrap();
    let back = layout::import_dir(&third_store, &pulled, &[]).unwrap();
    assert_eq!(back[0].digest, *made.digest());

    let refused = skopeo(&["delete", "--tls-verify=false", &target]).await;
    assert!(!refused.status.success(), "deleting needs the token");
    let deleted = skopeo(&["delete", "--tls-verify=false", "--creds", &creds, &target]).await;
    assert!(deleted.status.success(), "{}", text(&deleted));
    // skopeo deletes the manifest: both tags led to it.
    assert!(server.store.get(&name).unwrap().is_none());
    let gone = skopeo(&["inspect", "--tls-verify=false", &third]).await;
    assert!(!gone.status.success());
    assert!(server.store.get(&Reference::local("other/copy", "v2s2").unwrap()).unwrap().is_some());
}

struct Api {
    http: reqwest::Client,
    base: String,
}

impl Api {
    fn new(server: &Server) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { http: reqwest::Client::new(), base: format!("http://{}", server.address) }
    }

    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, String, String) {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) };
        let mut request = self.http.request(method.parse().unwrap(), url).bearer_auth(TOKEN).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let header =
            |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        let shown = ["location", "range", "link", "content-range", "oci-subject"].map(header).join("|");
        (response.status().as_u16(), shown, response.text().await.unwrap())
    }
}

fn location(shown: &str) -> &str {
    shown.split('|').next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_in_every_form() {
    let server = serve().await;
    let api = Api::new(&server);
    let bytes = b"hello, registry".to_vec();
    let digest = Digest::of(&bytes);

    // In pieces, with a wrong piece between.
    let (status, shown, _) = api.call("POST", "/v2/a/blobs/uploads/", &[], vec![]).await;
    assert_eq!(status, 202);
    let upload = location(&shown).to_owned();
    let (status, shown, _) = api.call("PATCH", &upload, &[("content-range", "0-4")], bytes[..5].to_vec()).await;
    assert_eq!((status, shown.split('|').nth(1).unwrap()), (202, "0-4"));
    let (status, _, _) = api.call("PATCH", &upload, &[("content-range", "9-12")], b"xxxx".to_vec()).await;
    assert_eq!(status, 416, "a gap");
    let (status, shown, _) = api.call("GET", &upload, &[], vec![]).await;
    assert_eq!((status, shown.split('|').nth(1).unwrap()), (204, "0-4"));
    let (status, _, body) =
        api.call("PUT", &format!("{upload}?digest={}", Digest::of(b"lie")), &[], bytes[5..].to_vec()).await;
    assert_eq!(status, 400);
    assert!(body.contains("DIGEST_INVALID"), "{body}");
    let (status, _, body) = api.call("GET", &upload, &[], vec![]).await;
    assert_eq!(status, 404, "gone after the failure");
    assert!(body.contains("BLOB_UPLOAD_UNKNOWN"), "{body}");
    let (_, shown, _) = api.call("POST", "/v2/a/blobs/uploads/", &[], vec![]).await;
    let upload = location(&shown).to_owned();
    api.call("PATCH", &upload, &[], bytes[..5].to_vec()).await;
    let (status, shown, _) = api
        .call("PUT", &format!("{upload}?digest={}", digest.as_str().replace(':', "%3A")), &[], bytes[5..].to_vec())
        .await;
    assert_eq!((status, location(&shown)), (201, format!("/v2/a/blobs/{digest}").as_str()));

    // At once; mounted; cancelled.
    let other = b"at once".to_vec();
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(&other));
    assert_eq!(api.call("POST", &path, &[], other).await.0, 201);
    let (status, _, _) = api.call("POST", &format!("/v2/b/blobs/uploads/?mount={digest}&from=a"), &[], vec![]).await;
    assert_eq!(status, 201);
    let absent = Digest::of(b"absent");
    let (status, shown, _) =
        api.call("POST", &format!("/v2/b/blobs/uploads/?mount={absent}&from=a"), &[], vec![]).await;
    assert_eq!(status, 202, "an ordinary upload instead");
    assert_eq!(api.call("DELETE", location(&shown), &[], vec![]).await.0, 204);
    assert_eq!(std::fs::read_dir(server.store.dir().join("tmp")).unwrap().count(), 0, "nothing half-written");

    // Reading, whole and in part.
    let blob = format!("/v2/b/blobs/{digest}");
    assert_eq!(api.call("GET", &blob, &[], vec![]).await.2, "hello, registry");
    let (status, shown, body) = api.call("GET", &blob, &[("range", "bytes=7-9")], vec![]).await;
    assert_eq!((status, body.as_str()), (206, "reg"));
    assert!(shown.contains("bytes 7-9/15"), "{shown}");
    assert_eq!(api.call("GET", &blob, &[("range", "bytes=99-")], vec![]).await.0, 416);
    assert_eq!(api.call("HEAD", &blob, &[], vec![]).await.0, 200);
    assert_eq!(api.call("DELETE", &blob, &[], vec![]).await.0, 202);
    assert_eq!(api.call("HEAD", &blob, &[], vec![]).await.0, 404);
    assert_eq!(api.call("GET", "/v2/b/blobs/sha256:nonsense", &[], vec![]).await.0, 400);
    assert_eq!(api.call("GET", "/v2/UPPER/tags/list", &[], vec![]).await.0, 400);
    assert_eq!(api.call("GET", "/v2/../etc/manifests/x", &[], vec![]).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_tags_pages_and_referrers() {
    let server = serve().await;
    let api = Api::new(&server);
    let made = image(&server.store, "registry.windlass.internal/app:0", "x");
    let manifest = server.store.read_blob(made.digest()).unwrap();
    let kind = [("content-type", media::OCI_MANIFEST)];
    for tag in ["b", "a", "c"] {
        assert_eq!(api.call("PUT", &format!("/v2/app/manifests/{tag}"), &kind, manifest.clone()).await.0, 201);
    }
    let (_, shown, body) = api.call("GET", "/v2/app/tags/list?n=2", &[], vec![]).await;
    assert_eq!(body, r#"{"name":"app","tags":["0","a"]}"#);
    assert!(shown.contains("</v2/app/tags/list?n=2&last=a>; rel=\"next\""), "{shown}");
    let (_, shown, body) = api.call("GET", "/v2/app/tags/list?n=2&last=a", &[], vec![]).await;
    assert_eq!((body.as_str(), shown.as_str()), (r#"{"name":"app","tags":["b","c"]}"#, "||||"));
    assert_eq!(api.call("GET", "/v2/_catalog", &[], vec![]).await.2, r#"{"repositories":["app"]}"#);
    assert_eq!(api.call("GET", "/v2/none/tags/list", &[], vec![]).await.0, 404);

    // Refusals.
    let said = |body: String| body;
    let lacking = String::from_utf8(manifest.clone()).unwrap().replace(made.layers()[0].digest.hex(), &"0".repeat(64));
    let (status, _, body) = api.call("PUT", "/v2/app/manifests/x", &kind, lacking.into_bytes()).await;
    assert_eq!(status, 404);
    assert!(said(body).contains("MANIFEST_BLOB_UNKNOWN"));
    let (status, _, _) = api.call("PUT", "/v2/app/manifests/x", &kind, b"{}".to_vec()).await;
    assert_eq!(status, 400);
    let wrong = format!("/v2/app/manifests/{}", Digest::of(b"other"));
    assert_eq!(api.call("PUT", &wrong, &kind, manifest.clone()).await.0, 400);
    let docker = [("content-type", media::DOCKER_MANIFEST)];
    assert_eq!(api.call("PUT", "/v2/app/manifests/x", &docker, manifest.clone()).await.0, 400);

    // A signature of it.
    let layer = &made.layers()[0];
    let signature = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": "application/x.sig",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": made.config_digest(), "size": 2},
        "layers": [{"mediaType": "application/x", "digest": layer.digest, "size": layer.size}],
        "subject": {"mediaType": media::OCI_MANIFEST, "digest": made.digest(), "size": manifest.len()},
    })
    .to_string();
    let path = format!("/v2/app/manifests/{}", Digest::of(signature.as_bytes()));
    let (status, shown, _) = api.call("PUT", &path, &kind, signature.into_bytes()).await;
    assert_eq!(status, 201);
    assert!(shown.ends_with(made.digest().as_str()), "{shown}");
    let path = format!("/v2/app/referrers/{}?artifactType=application/x.sig", made.digest());
    assert!(api.call("GET", &path, &[], vec![]).await.2.contains("application/x.sig"));
    let path = format!("/v2/app/referrers/{}?artifactType=other", made.digest());
    assert!(api.call("GET", &path, &[], vec![]).await.2.contains(r#""manifests":[]"#));

    // A blob in use stays; a tag goes alone; with the manifest go its tags; then the collector may have the blobs.
    let blob = format!("/v2/app/blobs/{}", layer.digest);
    assert_eq!(api.call("DELETE", &blob, &[], vec![]).await.0, 405);
    assert_eq!(api.call("DELETE", "/v2/app/manifests/a", &[], vec![]).await.0, 202);
    assert_eq!(api.call("GET", "/v2/app/manifests/b", &[], vec![]).await.0, 200);
    assert_eq!(api.call("DELETE", &format!("/v2/app/manifests/{}", made.digest()), &[], vec![]).await.0, 202);
    assert_eq!(api.call("GET", "/v2/app/manifests/b", &[], vec![]).await.0, 404);
    let options = GcOptions { grace: Duration::ZERO, ..GcOptions::default() };
    assert_eq!(server.store.gc(&options).unwrap().blobs, 1, "the signature still names configuration and one layer");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_blob_pushed_many_times_at_once() {
    let server = serve().await;
    let bytes: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let path = format!("/v2/app/blobs/uploads/?digest={}", Digest::of(&bytes));
    let pushes = (0..6).map(|_| {
        let (api, path, bytes) = (Api::new(&server), path.clone(), bytes.clone());
        tokio::spawn(async move { api.call("POST", &path, &[], bytes).await.0 })
    });
    for push in futures::future::join_all(pushes).await {
        assert_eq!(push.unwrap(), 201);
    }
    server.store.verify_blob(&Digest::of(&bytes)).unwrap();
    assert_eq!(std::fs::read_dir(server.store.dir().join("tmp")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn challenges_and_wrong_tokens() {
    let server = serve().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::new();
    let base = format!("http://{}/v2/", server.address);
    let open = http.get(&base).send().await.unwrap();
    assert_eq!(open.status(), 401, "clients only log in where they are asked to");
    let challenges: Vec<&str> =
        open.headers().get_all("www-authenticate").iter().map(|v| v.to_str().unwrap()).collect();
    let realm = format!("http://{}/v2/token", server.address);
    assert_eq!(challenges, [&*format!("Bearer realm=\"{realm}\",service=\"windlass\""), "Basic realm=\"windlass\""]);
    let token: serde_json::Value = http.get(&realm).send().await.unwrap().json().await.unwrap();
    let everybody = http.get(&base).bearer_auth(token["token"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(everybody.status(), 200, "everybody may come in");
    let login = http.get(&realm).basic_auth("u", Some("wrong")).send().await.unwrap();
    assert_eq!(login.status(), 401);
    let login = http.get(&realm).basic_auth("u", Some(TOKEN)).send().await.unwrap();
    let token: serde_json::Value = login.json().await.unwrap();
    let token = token["token"].as_str().unwrap().to_owned();
    let push = http.post(format!("{base}a/blobs/uploads/")).bearer_auth(token).send().await.unwrap();
    assert_eq!(push.status(), 202);
    let tags = http.get(format!("{base}none/tags/list")).send().await.unwrap();
    assert_eq!(tags.status(), 404, "pulling is for everyone, without a token too");
    assert_eq!(open.headers()["docker-distribution-api-version"], "registry/2.0");
    let wrong = http.get(&base).basic_auth("u", Some("wrong")).send().await.unwrap();
    assert_eq!(wrong.status(), 401, "a login with a wrong token must not look right");
    let right = http.get(&base).basic_auth("u", Some(TOKEN)).send().await.unwrap();
    assert_eq!(right.status(), 200);
    let push = http.post(format!("{base}a/blobs/uploads/")).send().await.unwrap();
    assert_eq!(push.status(), 401);
    let body = push.text().await.unwrap();
    insta::assert_snapshot!(body);
}
