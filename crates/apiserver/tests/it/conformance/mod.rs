//! What every Kubernetes API does, told as cases that only have a `kube::Client`. The same cases run on the embedded
//! API in process, on it over HTTPS with a kubeconfig, and on a real kube-apiserver where one is named by
//! `WINDLASS_CONFORMANCE_KUBECONFIG` or runs from `../shared/cluster`. What was not run is printed.

mod access;
mod bodies;
mod crds;
mod crud;
mod faults;
mod lifecycle;
mod lists;
mod patches;
mod streams;
mod stub;
mod watches;
mod world;

use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use world::World;

type Case = (&'static str, for<'a> fn(&'a World) -> futures::future::BoxFuture<'a, ()>);

macro_rules! cases {
    ($($module:ident :: $case:ident),* $(,)?) => {
        &[$((stringify!($case), |w| Box::pin($module::$case(w)))),*]
    };
}

/// Every case.
const CASES: &[Case] = cases![
    crud::objects_are_made_read_changed_and_removed,
    crud::names_are_generated,
    crud::a_stale_write_is_a_conflict,
    crud::dry_runs_leave_nothing,
    lists::selectors_choose,
    lists::long_lists_come_in_chunks,
    lists::tables_have_the_columns_of_kubectl,
    watches::events_come_in_order,
    watches::selectors_turn_changes_into_comings_and_goings,
    watches::a_watch_can_start_with_what_is_there,
    watches::an_old_version_is_gone,
    patches::merge_patches,
    patches::json_patches,
    patches::strategic_patches,
    lifecycle::finalizers_hold_an_object,
    lifecycle::dependents_follow_their_owner,
    lifecycle::a_namespace_takes_everything_with_it,
    lifecycle::services_get_addresses,
    crds::a_custom_kind_lives_and_dies,
    crds::status_is_its_own_subresource,
    crds::watches_end_with_the_definition,
    access::roles_decide_for_service_accounts,
    access::nobody_grants_what_he_does_not_hold,
    access::what_is_collected_is_collected_on,
    access::tokens_are_bound,
    access::strangers_are_refused,
    faults::defaults_are_filled_in,
    faults::every_fault_is_told,
    faults::unknown_fields_are_refused_when_asked,
    faults::fields_that_are_there_twice_are_told,
    bodies::protobuf_is_understood,
    bodies::discovery_names_what_is_served,
    bodies::openapi_knows_field_validation,
    streams::streams_are_refused_in_words,
    streams::streams_need_the_right_of_their_method,
    streams::commands_run_in_pods,
    streams::ports_are_forwarded,
];

async fn run_all(world: &World) {
    let only = std::env::var("WINDLASS_CONFORMANCE_CASE").unwrap_or_default();
    let mut failed = Vec::new();
    let mut ran = 0;
    for (name, case) in CASES.iter().filter(|(name, _)| name.contains(&only)) {
        let started = std::time::Instant::now();
        let guarded = AssertUnwindSafe(case(world)).catch_unwind();
        let outcome = match tokio::time::timeout(Duration::from_secs(60), guarded).await {
            Ok(Ok(())) => "ok",
            Ok(Err(_)) => "FAILED",
            Err(_) => "TIMED OUT",
        };
        ran += 1;
        eprintln!("conformance [{}] {name}: {outcome} ({} ms)", world.name, started.elapsed().as_millis());
        if outcome != "ok" {
            failed.push(*name);
        }
    }
    world.clean().await;
    eprintln!("conformance [{}]: {ran} cases, {} failed", world.name, failed.len());
    assert!(failed.is_empty(), "[{}] {failed:?}", world.name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_process() {
    run_all(&World::in_process().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_https() {
    run_all(&World::over_https().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_cluster() {
    match World::real().await {
        Ok(world) => run_all(&world).await,
        Err(why) => eprintln!(
            "NOT RUN: the {} conformance cases on a real kube-apiserver ({why}). Set WINDLASS_CONFORMANCE_KUBECONFIG, or \
             run `../shared/cluster/cluster up`.",
            CASES.len()
        ),
    }
}
