//! Processes on terminals of their container, and groups of processes.

use std::{
    io::{Read, Write},
    time::Duration,
};

use windlass_sandbox::{Container, ExecSpec, Stdio, UidMap, User};

use crate::{Bench, List};

pub(crate) fn list() -> List {
    vec![
        ("terminal_of_a_container", |_| Ok(()), |bench| Box::pin(terminal_of_a_container(bench))),
        ("terminal_of_a_further_process", |_| Ok(()), |bench| Box::pin(terminal_of_a_further_process(bench))),
        (
            "terminal_of_another_user",
            |probe| if probe.uid_map == UidMap::Single { Err("only one user id here".into()) } else { Ok(()) },
            |bench| Box::pin(terminal_of_another_user(bench)),
        ),
        ("terminal_is_no_other_file", |_| Ok(()), |bench| Box::pin(terminal_is_no_other_file(bench))),
        ("hanging_up_ends_the_session", |_| Ok(()), |bench| Box::pin(hanging_up_ends_the_session(bench))),
        ("groups_are_signalled", |_| Ok(()), |bench| Box::pin(groups_are_signalled(bench))),
    ]
}

/// Type each text once what it waits for was printed, and read to the end of the session, which a terminal reports as
/// an error.
async fn converse(process: &Container, turns: &'static [(&'static str, &'static str)]) -> String {
    let mut master = std::fs::File::from(process.terminal().unwrap().duplicate().unwrap());
    let talk = move || {
        let (mut text, mut chunk, mut seen) = (String::new(), [0; 1024], 0);
        let mut turns = turns.iter().peekable();
        loop {
            while let Some((wait, input)) = turns.next_if(|(wait, _)| text[seen..].contains(wait)) {
                seen += text[seen..].find(wait).unwrap() + wait.len();
                master.write_all(input.as_bytes()).unwrap();
            }
            match master.read(&mut chunk) {
                Ok(n @ 1..) => text.push_str(&String::from_utf8_lossy(&chunk[..n]).replace("\r\n", "\n")),
                _ => return text,
            }
        }
    };
    tokio::task::spawn_blocking(talk).await.unwrap()
}

async fn terminal_of_a_container(bench: Bench) {
    let spec = bench.sh("tty; stty size; read line; stty size; echo got $line; test -t 0 && test -t 1 && test -t 2");
    let container = bench.host.spawn(spec, Stdio::terminal()).await.unwrap();
    container.terminal().unwrap().resize(132, 43).unwrap();
    let text = converse(&container, &[("", "some words\n")]).await;
    assert!(text.starts_with("/dev/pts/0\n") || text.starts_with("some words\n/dev/pts/0\n"), "{text}");
    assert!(text.ends_with("43 132\ngot some words\n"), "{text}");
    assert_eq!(container.wait().await.code, 0);
}

async fn terminal_of_a_further_process(bench: Bench) {
    let spec = bench.sh("sleep 100");
    let container = bench.host.spawn(spec.clone(), Stdio::null()).await.unwrap();
    assert!(container.terminal().is_none());
    // Interrupting is for what runs in the foreground, which needs a controlling terminal.
    // A loop: a signal right before a `read` would wait with it for a line that nobody types.
    let script = "trap 'exit 5' INT; tty; echo $1; ls /dev/pts; while :; do sleep 0.1; done";
    let shell = ExecSpec::like(&spec, ["sh", "-c", script, "sh", "begun"].map(str::to_owned).to_vec());
    for _ in 0..2 {
        let process = container.exec(shell.clone(), Stdio::terminal()).await.unwrap();
        let text = converse(&process, &[("ptmx", "\u{3}")]).await;
        // What is printed while the kernel interrupts may be thrown away with what was typed.
        assert_eq!(text.split_whitespace().take(4).collect::<Vec<_>>(), ["/dev/pts/0", "begun", "0", "ptmx"]);
        assert_eq!(process.wait().await.code, 5);
    }
    container.stop(Duration::ZERO).await;
}

async fn terminal_of_another_user(bench: Bench) {
    let spec = bench.sh("sleep 100");
    let container = bench.host.spawn(spec.clone(), Stdio::null()).await.unwrap();
    let mut shell = ExecSpec::like(&spec, ["sh", "-c", "ls -ln $(tty); echo yes >$(tty)"].map(str::to_owned).to_vec());
    shell.user = User { uid: 1000, gid: 1000, ..User::default() };
    let process = container.exec(shell, Stdio::terminal()).await.unwrap();
    let text = converse(&process, &[]).await;
    assert!(text.contains(" 1000 ") && text.ends_with("yes\n"), "{text}");
    container.stop(Duration::ZERO).await;
}

/// What a container puts where its terminals come from must not reach the host.
async fn terminal_is_no_other_file(bench: Bench) {
    let spec = bench.sh("rm -f /dev/ptmx; ln -s /etc/passwd /dev/ptmx; echo ready; sleep 100");
    let (mut reader, writer) = std::io::pipe().unwrap();
    let container =
        bench.host.spawn(spec.clone(), Stdio { stdout: Some(writer.into()), ..Stdio::null() }).await.unwrap();
    tokio::task::spawn_blocking(move || reader.read_exact(&mut [0; 6])).await.unwrap().unwrap();
    let process = container
        .exec(ExecSpec::like(&spec, ["sh", "-c", "tty"].map(str::to_owned).to_vec()), Stdio::terminal())
        .await
        .unwrap();
    assert_eq!(converse(&process, &[]).await, "/dev/pts/0\n");
    container.stop(Duration::ZERO).await;
}

async fn hanging_up_ends_the_session(bench: Bench) {
    let spec = bench.sh("sleep 100");
    let container = bench.host.spawn(spec.clone(), Stdio::null()).await.unwrap();
    let process = container.exec(ExecSpec::like(&spec, vec!["cat".into()]), Stdio::terminal()).await.unwrap();
    let watched = process.clone();
    let exit = {
        // The handle holds our end: with the last of them the line is dead.
        let pid = process.pid().unwrap();
        drop(process);
        drop(watched);
        pid
    };
    let gone = async {
        while std::path::Path::new(&format!("/proc/{exit}")).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
    container.stop(Duration::ZERO).await;
}

async fn groups_are_signalled(bench: Bench) {
    let spec = bench.sh("sleep 100");
    let container = bench.host.spawn(spec.clone(), Stdio::null()).await.unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let args = ["sh", "-c", "sleep 90 & echo ready; wait"].map(str::to_owned).to_vec();
    let stdio = Stdio { stdout: Some(writer.into()), ..Stdio::null() };
    let process = container.exec(ExecSpec::like(&spec, args), stdio).await.unwrap();
    let mut reader = tokio::task::spawn_blocking(move || reader.read_exact(&mut [0; 6]).map(|()| reader));
    let mut reader = (&mut reader).await.unwrap().unwrap();
    process.signal_group(9).unwrap();
    assert_eq!(process.wait().await.signal, Some(9));
    // The pipe ends only when the child has gone too.
    let read = move || reader.read_to_end(&mut Vec::new());
    tokio::time::timeout(Duration::from_secs(5), tokio::task::spawn_blocking(read)).await.unwrap().unwrap().unwrap();
    process.signal_group(9).unwrap();
    container.stop(Duration::ZERO).await;
}
