//! The binary `weir`: arguments, then configuration, then [`runtime`]. Glue and nothing else; it
//! decides no more than what is printed where and with which exit code. The main loop is two hops
//! from here: [`runtime::process::start`], then `runtime::worker::Worker::run`.

#![forbid(unsafe_code)]

mod arguments;
mod ctl;
mod daemon;
mod demo;
mod logging;
mod restart;
mod serve;
mod service_manager;
mod terminal;
mod watch;

use std::process::ExitCode;

use arguments::{Arguments, Command, Parsed};

fn main() -> ExitCode {
    let arguments = match Arguments::from_command_line(std::env::args_os()) {
        Parsed::Run(arguments) => *arguments,
        Parsed::Text { text, code } => {
            terminal::print(text);
            return ExitCode::from(code);
        }
    };
    match &arguments.command {
        Some(Command::Demo(options)) => demo::run(options, &arguments),
        Some(Command::Ctl(options)) => ctl::run(options),
        None if arguments.describe_stats => {
            terminal::print(serve::describe_stats());
            ExitCode::SUCCESS
        }
        None if arguments.test_conf => serve::test_configuration(&arguments),
        None => serve::run(&arguments),
    }
}
