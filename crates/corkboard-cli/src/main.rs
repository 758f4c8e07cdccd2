//! The `corkboard` command.
#![forbid(unsafe_code)]

mod child;
mod commands;
#[cfg(target_os = "linux")]
mod demo;
mod exit;
mod object;
mod output;
mod value;
mod waiting;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};
use commands::{
    call, classic, completions, doctor, event, get, lock, ls, publish, put, rm, serve, stat,
    subscribe, watch,
};

/// Share values between processes at memory speed, and let them wait for each other.
///
/// Exit status: 0 success; 1 a negative answer (absent, timed out); 2 an error; 3 an error that the
/// server of a call answered with.
/// Objects live in the directory CORKBOARD_DIR, by default /dev/shm/corkboard-UID on Linux and
/// %LOCALAPPDATA%\corkboard on Windows.
#[derive(Parser)]
#[command(
    name = "corkboard",
    version,
    after_help = "\
Examples:
  corkboard put weather --text sunny     publish a value
  corkboard get weather                  print it
  corkboard watch weather --lines        print every new one
  corkboard lock printer -- lpr a.ps     run a command while nobody else does
  corkboard event wait ready             wait until somebody says so
  seq 1000 | corkboard pub numbers       send each line to whoever subscribes
  corkboard sub numbers                  print what is sent, from the oldest on
  corkboard serve up -- tr a-z A-Z       answer requests with a command
  echo hi | corkboard call up -          make a request, and print the reply
  corkboard top                          watch all objects
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
    Lock(lock::Arguments),
    Event(event::Arguments),
    #[command(name = "pub")]
    Publish(publish::Arguments),
    #[command(name = "sub")]
    Subscribe(subscribe::Arguments),
    Serve(serve::Arguments),
    Call(call::Arguments),
    Ls(ls::Arguments),
    #[cfg(feature = "top")]
    Top(commands::top::Arguments),
    Stat(stat::Arguments),
    Rm(rm::Arguments),
    Doctor(doctor::Arguments),
    Demo(commands::demo::Arguments),
    Classic(classic::Arguments),
    Completions(completions::Arguments),
    #[cfg(unix)]
    #[command(hide = true)]
    Child(child::ProcessArguments),
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    DemoProcess(demo::ProcessArguments),
}

/// Whoever writes a command to run without the `--` before it learns of it.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let mut words = std::env::args_os().skip(1);
    let takes_command = words
        .next()
        .is_some_and(|word| word == "watch" || word == "lock" || word == "serve");
    let is_option = matches!(
        error.get(ContextKind::InvalidArg),
        Some(ContextValue::String(word)) if word.starts_with('-')
    );
    if error.kind() == ErrorKind::UnknownArgument
        && takes_command
        && !is_option
        && !words.any(|word| word == "--")
    {
        let tip = "put `--` before the command to run".to_owned().into();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| with_tip(error).exit());
    exit::report(match arguments.command {
        Command::Put(arguments) => put::run(arguments),
        Command::Get(arguments) => get::run(arguments),
        Command::Watch(arguments) => watch::run(arguments),
        Command::Lock(arguments) => lock::run(arguments),
        Command::Event(arguments) => event::run(arguments),
        Command::Publish(arguments) => publish::run(arguments),
        Command::Subscribe(arguments) => subscribe::run(arguments),
        Command::Serve(arguments) => serve::run(arguments),
        Command::Call(arguments) => call::run(arguments),
        Command::Ls(arguments) => ls::run(arguments),
        #[cfg(feature = "top")]
        Command::Top(arguments) => commands::top::run(arguments),
        Command::Stat(arguments) => stat::run(arguments),
        Command::Rm(arguments) => rm::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Demo(arguments) => commands::demo::run(arguments),
        Command::Classic(arguments) => classic::run(arguments),
        Command::Completions(arguments) => completions::run(arguments),
        #[cfg(unix)]
        Command::Child(arguments) => child::run_process(arguments),
        #[cfg(target_os = "linux")]
        Command::DemoProcess(arguments) => demo::run_process(arguments),
    })
}
