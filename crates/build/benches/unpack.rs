//! `unpack [--n N]`: one layer of ten small files, unpacked by a confined worker, beside the same in this process. Prints,
//! asserts nothing.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::time::{Duration, Instant};

use windlass_build::ConfinedUnpacker;
use windlass_oci::layer::{Entry, UnpackOptions};
use windlass_oci::media::Compression;
use windlass_oci::{InProcess, Layer, Store, Unpacker};
use windlass_sandbox::{EnterOptions, Host};

fn main() {
    windlass_sandbox::early();
    if let Some(code) = windlass_build::early() {
        std::process::exit(code);
    }
    let arguments: Vec<String> = std::env::args().collect();
    let given = arguments.iter().position(|a| a == "--n").and_then(|at| arguments.get(at + 1));
    let number = given.map_or(100, |n| n.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let host = Host::enter(EnterOptions::new(directory.path().join("scratch"))).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let layer = layer(&store);
    let confined = runtime.block_on(async { ConfinedUnpacker::new(host) });
    let here = median(&store, &layer, &InProcess, &directory.path().join("here"), number);
    let there = median(&store, &layer, &confined, &directory.path().join("there"), number);
    println!("a layer of ten files, median of {number}: in this process {here:.2?}, by a confined worker {there:.2?}");
    println!("  the worker costs {:.2?} a layer", there.saturating_sub(here));
}

fn layer(store: &Store) -> Layer {
    let mut writer = store.layer_writer(Compression::Gzip).unwrap();
    for i in 0..10 {
        writer.entry(&Entry::file(format!("f{i}"), 0o644, 4096), &mut std::io::repeat(i)).unwrap();
    }
    writer.finish().unwrap()
}

fn median(store: &Store, layer: &Layer, unpacker: &dyn Unpacker, at: &Path, number: usize) -> Duration {
    let options = UnpackOptions { marks: store.marks(), ..UnpackOptions::default() };
    let mut times: Vec<Duration> = (0..number)
        .map(|run| {
            let target = at.join(run.to_string());
            std::fs::create_dir_all(&target).unwrap();
            let blob = store.open_blob(&layer.digest).unwrap();
            let begun = Instant::now();
            unpacker.unpack(blob, Compression::Gzip, &target, &options).unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[number / 2]
}
