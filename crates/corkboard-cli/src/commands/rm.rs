use corkboard::{ErrorKind, Space};

use crate::exit::{Failure, Outcome};
use crate::object::{ObjectKind, absent, kind_of};

/// Remove objects; whoever is attached is told.
///
/// A lock that somebody holds is not removed. Every name is tried. Exit status 1 when one was
/// absent, 2 when one could not be removed, or several objects have its name and --kind is missing.
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
    let remove = |name: &String| -> Outcome {
        let kind = kind_of(&space, arguments.kind, name)?;
        match space.remove(kind.into(), name) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(absent(&space, kind, name)),
            result => Ok(result?),
        }
    };
    let failures: Vec<Failure> = arguments
        .names
        .iter()
        .filter_map(|name| remove(name).err())
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::Several(failures))
}
