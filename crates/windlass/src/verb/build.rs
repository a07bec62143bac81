//! `windlass build`: a Dockerfile and its context become an image, here, without a daemon.

pub(super) async fn run(_: crate::start::Session, _: crate::cli::BuildArgs) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("wip")
}
