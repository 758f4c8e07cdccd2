use corkboard::{Kind, Space};

use crate::exit::Failure;

/// Remove boards; whoever is attached is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// The boards' names.
    #[arg(required = true)]
    names: Vec<String>,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let space = Space::user()?;
    for name in &arguments.names {
        space.remove(Kind::Board, name)?;
    }
    Ok(())
}
