use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::exit::Outcome;
use crate::output::print;

/// Print a script that lets a shell complete this command's arguments.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  corkboard completions bash > ~/.local/share/bash-completion/completions/corkboard
  corkboard completions zsh > ~/.zfunc/_corkboard
  corkboard completions fish > ~/.config/fish/completions/corkboard.fish")]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

pub fn run(arguments: Arguments) -> Outcome {
    let mut script = Vec::new();
    let mut command = crate::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "corkboard", &mut script);
    print(&script)
}
