//! The `corkboard` command.
#![forbid(unsafe_code)]

mod commands;
mod demo;
mod exit;
mod object;
mod output;
mod value;

use clap::{Parser, Subcommand};
use commands::{completions, doctor, get, ls, put, rm, stat, watch};

/// Share values between processes at memory speed.
///
/// Exit status: 0 success; 1 a negative answer (absent, timed out); 2 an error.
/// Boards live in the directory CORKBOARD_DIR, by default /dev/shm/corkboard-UID.
#[derive(Parser)]
#[command(
    name = "corkboard",
    version,
    after_help = "\
Examples:
  corkboard put weather --text sunny     publish a value
  corkboard get weather                  print it
  corkboard watch weather --lines        print every new one
  corkboard demo                         see it survive kills"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Put(put::Arguments),
    Get(get::Arguments),
    Watch(watch::Arguments),
    Ls(ls::Arguments),
    Stat(stat::Arguments),
    Rm(rm::Arguments),
    Doctor(doctor::Arguments),
    Demo(commands::demo::Arguments),
    Completions(completions::Arguments),
    #[command(hide = true)]
    DemoProcess(demo::ProcessArguments),
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    exit::report(match arguments.command {
        Command::Put(arguments) => put::run(arguments),
        Command::Get(arguments) => get::run(arguments),
        Command::Watch(arguments) => watch::run(arguments),
        Command::Ls(arguments) => ls::run(arguments),
        Command::Stat(arguments) => stat::run(arguments),
        Command::Rm(arguments) => rm::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Demo(arguments) => commands::demo::run(arguments),
        Command::Completions(arguments) => completions::run(arguments),
        Command::DemoProcess(arguments) => demo::run_process(arguments),
    })
}
