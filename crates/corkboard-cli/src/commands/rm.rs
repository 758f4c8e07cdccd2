use corkboard::Space;

use super::ObjectKind;
use crate::exit::{Failure, Outcome};

/// Remove objects; whoever is attached is told.
///
/// Every name is tried. Exit status 1 when one was absent, 2 when one could not be removed.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard rm weather
  corkboard rm --kind board weather camera")]
pub struct Arguments {
    /// The objects' names.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Remove only objects of this kind.
    #[arg(long, value_enum)]
    kind: Option<ObjectKind>,
}

pub fn run(arguments: Arguments) -> Outcome {
    let space = Space::user()?;
    let kind = arguments.kind.unwrap_or(ObjectKind::Board).into();
    let failures: Vec<Failure> = arguments
        .names
        .iter()
        .filter_map(|name| space.remove(kind, name).err())
        .map(Failure::from)
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::Several(failures))
}
