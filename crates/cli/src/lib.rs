//! The command `partitura`: see and operate workflows.
//!
//! It reads the store directly, so that it shows everything also while all workers are down; only actions, queries and
//! some details need a worker. [`run`] is the whole command; [`run_on`] is the same on a connection that exists
//! already, for a program that has the file of the embedded broker open, which no other process can use meanwhile.

mod act;
mod args;
mod connect;
mod demo;
mod deployment;
mod doctor;
mod failure;
mod family;
mod letters;
mod look;
mod new;
mod output;
mod paused;
mod pauses;
mod schedule;
mod schedule_args;
mod serve;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{CommandFactory, Parser};
use partitura::Partitura;
use partitura_admin::Admin;

use self::args::{Cli, Verb};
use self::failure::Failure;
use self::output::Out;

/// Does what these arguments say, the first of which is the program's name, and returns the code to exit with.
///
/// 0: done. 1: it failed. 2: it was asked for wrongly. 3: there is no such instance. 4: it was refused. 5: `doctor`
/// found something. The result goes to `out`, errors to the standard error.
///
/// # Cancel safety
/// Dropped, an action may or may not have been sent.
pub async fn run(args: impl IntoIterator<Item = OsString>, out: &mut (dyn Write + Send)) -> u8 {
    match Cli::try_parse_from(args) {
        Ok(cli) => exit(dispatch(cli, None, out).await),
        Err(error) => refuse(&error),
    }
}

/// As [`run`], on this connection.
///
/// # Cancel safety
/// As for [`run`].
pub async fn run_on(
    partitura: &Partitura,
    args: impl IntoIterator<Item = OsString>,
    out: &mut (dyn Write + Send),
) -> u8 {
    match Cli::try_parse_from(args) {
        Ok(cli) => exit(dispatch(cli, Some(partitura.clone()), out).await),
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &clap::Error) -> u8 {
    // Help and version are asked for, and no errors; there is nowhere to report a closed terminal.
    drop(error.print());
    u8::try_from(error.exit_code()).unwrap_or(2)
}

fn exit(done: Result<(), Failure>) -> u8 {
    match done {
        Ok(()) => 0,
        // A reader such as `head` has enough.
        Err(failure) if failure.is_closed_pipe => 0,
        Err(failure) => {
            drop(writeln!(io::stderr(), "partitura: {failure}"));
            failure.code
        }
    }
}

async fn dispatch(cli: Cli, there: Option<Partitura>, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let Cli { target, output, verb } = cli;
    let mut out = Out::new(out, output);
    match verb {
        Verb::New(asked) => return new::write(&asked, &mut out),
        Verb::Dev(asked) => return serve::dev(asked).await,
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "partitura", &mut out.writer);
            return Ok(());
        }
        Verb::Doctor if there.is_none() => return doctor::run(&target, &mut out).await,
        _ => {}
    }
    let own = there.is_none();
    let partitura = match there {
        Some(partitura) => partitura,
        None => connect::connect(&target).await?,
    };
    let done = on(&partitura, verb, &mut out).await;
    if own {
        // Nothing was accepted here that would have to be written.
        drop(partitura.close().await);
    }
    done
}

async fn on(partitura: &Partitura, verb: Verb, out: &mut Out<'_>) -> Result<(), Failure> {
    let admin = Admin::new(partitura);
    match verb {
        Verb::Status => look::status(&admin, out).await,
        Verb::List(asked) => look::list(&admin, &asked, out).await,
        Verb::Describe(asked) => look::describe(&admin, &asked, out).await,
        Verb::History(asked) => look::history(&admin, &asked, out).await,
        Verb::Tree(asked) => family::tree(&admin, &asked, out).await,
        Verb::Export(asked) => look::export(&admin, &asked, out).await,
        Verb::Schedule(asked) => schedule::run(&admin, asked, out).await,
        Verb::Stopped => look::stopped(&admin, out).await,
        Verb::DeadLetters(asked) => letters::run(&admin, asked, out).await,
        Verb::Start(asked) => act::start(&admin, asked, out).await,
        Verb::Signal(asked) => act::signal(&admin, &asked, out).await,
        Verb::Query(asked) => act::query(&admin, &asked, out).await,
        Verb::Update(asked) => act::update(&admin, asked, out).await,
        Verb::Fork(asked) => act::fork(&admin, asked, out).await,
        Verb::Cancel(asked) => act::cancel(&admin, asked, out).await,
        Verb::Terminate(asked) => act::terminate(&admin, asked, out).await,
        Verb::Pause(asked) => pauses::pause(&admin, asked, out).await,
        Verb::Resume(asked) => pauses::resume(&admin, asked, out).await,
        Verb::Pauses => paused::list(&admin, out).await,
        Verb::Retry(asked) => act::retry(&admin, asked, out).await,
        Verb::Delete(asked) => act::delete(&admin, &asked, out).await,
        Verb::Bulk(asked) => act::bulk(&admin, asked, out).await,
        Verb::Topics(asked) => deployment::topics(&admin, &asked, out).await,
        Verb::Workers => deployment::workers(&admin, out).await,
        Verb::Doctor => doctor::examine(&admin, out).await,
        Verb::Page(asked) => serve::page(partitura, asked).await,
        Verb::Dev(_) | Verb::New(_) | Verb::Completions { .. } => Ok(()),
    }
}

/// The code of the guides is compiled.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../../../docs/guides/start.md")]
    struct Start;
    #[doc = include_str!("../../../docs/guides/operating.md")]
    struct Operating;
}
