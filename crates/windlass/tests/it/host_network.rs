//! Pods with `hostNetwork`: one network for all of them, with the cluster's Services and without this machine's loopback;
//! this machine's own network where it was said.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::house::House;

/// Two steps at once: one listens on its loopback, the other finds it there.
const BOTH: &str = "hostNetwork: true
entrypoint: main
templates:
- name: main
  steps:
  - - {name: listens, template: listens}
    - {name: connects, template: connects}
    - {name: asks, template: asks}
- name: listens
  container: {image: busybox, command: [sh, -c, 'echo a word | busybox nc -l -p 7700']}
- name: connects
  container: {image: busybox, command: [sh, -c, 'until busybox nc -w 5 127.0.0.1 7700 < /dev/null | busybox grep word; do busybox sleep 0.1; done; echo on $(busybox hostname)']}
- name: asks
  container: {image: busybox, command: [sh, -c, 'busybox nc -w 2 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null && echo the API is there']}
";

fn machine(port: u16) -> String {
    format!(
        "hostNetwork: true
entrypoint: main
templates:
- name: main
  container:
    image: busybox
    command: [sh, -c, 'busybox nc -w 2 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null && echo the API is there; busybox nc -w 2 127.0.0.1 {port} < /dev/null && exit 0; echo not reached']
"
    )
}

#[test]
fn pods_share_the_network_of_the_node() {
    let Some(house) = House::new("hostNetwork") else { return };
    let file = house.workflow("both", BOTH);
    let up = house.up(&["--node-name", "box"]);
    house.windlass(&["run", &file, "--log"]).ok().says(&[": a word", ": on box", ": the API is there"]);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"reached this machine\n");
            let _ = stream.read(&mut [0; 64]);
        }
    });
    let file = house.workflow("machine", &machine(port));
    let done = house.windlass(&["run", &file, "--log"]).ok().says(&[": not reached", ": the API is there"]);
    assert!(!done.stdout.contains("reached this machine"), "{}", done.stdout);
    up.end().exits(0);
    house
        .windlass(&["run", &file, "--allow", "host-network", "--log"])
        .ok()
        .says(&[": reached this machine", ": the API is there"]);
}
