use super::*;

fn names(list: &Value) -> String {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
}

fn rv(value: &Value) -> u64 {
    value["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn pages_show_one_moment() {
    let api = api().await;
    for name in ["a", "b", "c", "d", "e"] {
        api.post(MAPS, config_map(name)).await;
    }
    let (_, first) = api.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!((names(&first).as_str(), &first["metadata"]["remainingItemCount"]), ("a b", &json!(3)));
    // What happens between the pages is not seen by the later ones.
    api.delete(&format!("{MAPS}/d"), Value::Null).await;
    api.post(MAPS, config_map("bb")).await;
    api.merge(&format!("{MAPS}/e"), json!({"data": {"k": "changed"}})).await;
    let more = first["metadata"]["continue"].as_str().unwrap();
    let (_, second) = api.get(&format!("{MAPS}?limit=2&continue={more}")).await;
    assert_eq!(names(&second), "c d");
    assert_eq!(rv(&second), rv(&first));
    let more = second["metadata"]["continue"].as_str().unwrap();
    let (_, last) = api.get(&format!("{MAPS}?limit=2&continue={more}")).await;
    assert_eq!(names(&last), "e");
    assert_eq!(last["items"][0]["data"]["k"], "v");
    assert!(last["metadata"]["continue"].is_null());
    let (_, now) = api.get(MAPS).await;
    assert_eq!(names(&now), "a b bb c e");
    let exact = format!("{MAPS}?resourceVersion={}&resourceVersionMatch=Exact", rv(&first));
    assert_eq!(names(&api.get(&exact).await.1), "a b c d e");
    assert_eq!(api.get(&format!("{MAPS}?resourceVersion=999999&resourceVersionMatch=NotOlderThan")).await.0, 504);
}

#[tokio::test]
async fn selectors_select() {
    let api = api().await;
    for (name, label) in [("a", "1"), ("b", "2")] {
        let mut map = config_map(name);
        map["metadata"]["labels"] = json!({"l": label});
        api.post(MAPS, map).await;
    }
    assert_eq!(names(&api.get(&format!("{MAPS}?labelSelector=l%3D1")).await.1), "a");
    assert_eq!(names(&api.get(&format!("{MAPS}?fieldSelector=metadata.name%3Db")).await.1), "b");
    assert_eq!(names(&api.get("/api/v1/configmaps?labelSelector=l").await.1), "a b");
    let (code, gone) = api.delete(&format!("{MAPS}?labelSelector=l%3D1"), Value::Null).await;
    assert_eq!((code, names(&gone).as_str()), (200, "a"));
    assert_eq!(names(&api.get(MAPS).await.1), "b");
}

#[tokio::test]
async fn a_watch_goes_on_where_a_list_ended() {
    let api = api().await;
    api.post(MAPS, config_map("a")).await;
    let (_, list) = api.get(MAPS).await;
    api.merge(&format!("{MAPS}/a"), json!({"data": {"k": "2"}})).await;
    let mut watch = api.watch(&format!("{MAPS}?watch=1&resourceVersion={}", rv(&list))).await;
    api.post(MAPS, config_map("b")).await;
    api.delete(&format!("{MAPS}/a"), Value::Null).await;
    assert_eq!(watch.line().await, "MODIFIED a");
    assert_eq!(watch.line().await, "ADDED b");
    let gone = watch.next().await.unwrap();
    assert_eq!((gone["type"].as_str(), gone["object"]["data"]["k"].as_str()), (Some("DELETED"), Some("2")));
    assert_eq!(rv(&gone["object"]), rv(&api.get(MAPS).await.1));
}

#[tokio::test]
async fn a_selection_sees_objects_come_and_go() {
    let api = api().await;
    let mut watch = api.watch(&format!("{MAPS}?watch=1&labelSelector=l%3D1")).await;
    let path = format!("{MAPS}/a");
    api.post(MAPS, config_map("a")).await;
    api.merge(&path, json!({"metadata": {"labels": {"l": "1"}}})).await;
    api.merge(&path, json!({"data": {"k": "2"}})).await;
    let (_, left) = api.merge(&path, json!({"metadata": {"labels": {"l": "2"}}})).await;
    assert_eq!(watch.line().await, "ADDED a");
    assert_eq!(watch.line().await, "MODIFIED a");
    let gone = watch.next().await.unwrap();
    assert_eq!(gone["type"], "DELETED");
    assert_eq!(gone["object"]["metadata"]["labels"]["l"], "1");
    assert_eq!(rv(&gone["object"]), rv(&left));
}

#[tokio::test]
async fn streaming_lists_end_with_a_bookmark() {
    let api = api().await;
    api.post(MAPS, config_map("a")).await;
    api.post(MAPS, config_map("b")).await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = api.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(watch.line().await, "ADDED a");
    assert_eq!(watch.line().await, "ADDED b");
    let end = watch.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(rv(&end["object"]), rv(&api.get(MAPS).await.1));
    api.post(MAPS, config_map("c")).await;
    assert_eq!(watch.line().await, "ADDED c");
    assert_eq!(api.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await.0, 422);
}

#[tokio::test]
async fn bookmarks_come_and_timeouts_end() {
    let mut options = Options::memory();
    options.bookmark_every = Duration::from_millis(600);
    let api = Api(ApiServer::open(options).await.unwrap());
    let mut watch = api.watch(&format!("{MAPS}?watch=1&allowWatchBookmarks=true&timeoutSeconds=1")).await;
    // Something happens, elsewhere.
    api.post(PODS, pod("p")).await;
    let frame = watch.next().await.unwrap();
    assert_eq!(frame["type"], "BOOKMARK");
    assert_eq!(rv(&frame["object"]), rv(&api.get(PODS).await.1));
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn who_is_too_slow_lists_again() {
    let mut options = Options::memory();
    options.ring_bytes = 20_000;
    let api = Api(ApiServer::open(options).await.unwrap());
    api.post(MAPS, config_map("a")).await;
    let start = rv(&api.get(MAPS).await.1);
    let mut slow = api.watch(&format!("{MAPS}?watch=1&resourceVersion={start}")).await;
    for n in 0..100 {
        api.merge(&format!("{MAPS}/a"), json!({"data": {"k": n.to_string().repeat(100)}})).await;
    }
    let frame = slow.next().await.unwrap();
    assert_eq!((frame["type"].as_str(), &frame["object"]["code"]), (Some("ERROR"), &json!(410)));
    assert_eq!(frame["object"]["reason"], "Expired");
    assert!(slow.next().await.is_none());
    let old = format!("{MAPS}?resourceVersion={start}&resourceVersionMatch=Exact");
    assert_eq!(message(&api.get(&old).await), "410 Expired The resourceVersion for the provided list is too old.");
}

#[tokio::test]
async fn events_have_two_faces() {
    let api = api().await;
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "R", "message": "m",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "type": "Normal"});
    assert_eq!(api.post("/api/v1/namespaces/default/events", event).await.0, 201);
    let (_, list) = api.get("/apis/events.k8s.io/v1/namespaces/default/events").await;
    assert_eq!(list["items"][0]["note"], "m");
    assert_eq!(list["items"][0]["apiVersion"], "events.k8s.io/v1");
    let selected = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp,involvedObject.kind%3DPod";
    assert_eq!(names(&api.get(selected).await.1), "e");
}
