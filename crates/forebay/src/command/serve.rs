use crate::config::Environment;
use crate::failure::Failure;
/// todo
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}
pub(crate) fn run(_: Args, _: Environment) -> Result<(), Failure> { Ok(()) }
