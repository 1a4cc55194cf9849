//! `cargo xtask brokers`: real brokers and Postgres on this machine.

use std::thread;
use std::time::Instant;

use clap::{Args, Subcommand};
use partitura_servers::{Kind, Release, Server, Status};

use crate::failure::Failure;

/// Starts, stops and shows them. Their state is below `target/brokers`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs missing servers, starts them, and waits until they are ready.
    Up {
        #[command(flatten)]
        names: Names,
        /// Removes their data before they start.
        #[arg(long)]
        wipe: bool,
    },
    /// Stops them.
    Down {
        #[command(flatten)]
        names: Names,
        /// Removes their data, too.
        #[arg(long)]
        wipe: bool,
    },
    /// Shows their state.
    Status {
        #[command(flatten)]
        names: Names,
        /// A list of {"name","url","up","version","pid"}.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Default)]
struct Names {
    /// artemis, kafka, pulsar, rabbitmq, nats, postgres, or kafka@3.7.2 for another version; without a name, all.
    #[arg(value_name = "NAME[@VERSION]")]
    names: Vec<Release>,
    /// The three nodes of a cluster instead, on ports of their own: kafka, nats.
    #[arg(long)]
    cluster: bool,
}

impl Names {
    /// The named servers, or one of each kind.
    fn servers(&self) -> Vec<Server> {
        let all = || Kind::all().map(Release::from).to_vec();
        let releases = if self.names.is_empty() { all() } else { self.names.clone() };
        if self.cluster {
            return releases.into_iter().flat_map(Server::cluster).collect();
        }
        releases.into_iter().map(Server::new).collect()
    }

    /// The named servers, or all existing ones, in every version.
    fn existing(&self) -> Vec<Server> {
        if self.names.is_empty() && !self.cluster {
            return Kind::all().into_iter().flat_map(Server::versions).collect();
        }
        self.servers()
    }
}

/// Acts on all servers, also if one of them fails; then it fails, too.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Up { names, wipe } => {
            up(&names.servers(), *wipe)?;
            show(&names.servers());
        }
        Command::Down { names, wipe } => {
            let wipe = *wipe;
            each(&names.existing(), move |server| server.down(wipe))?;
        }
        Command::Status { names, json: false } => show(&names.existing()),
        Command::Status { names, json: true } => {
            let statuses: Vec<Status> = names.existing().iter().map(Server::status).collect();
            println!("{}", serde_json::to_string(&statuses)?);
        }
    }
    Ok(())
}

fn up(servers: &[Server], wipe: bool) -> Result<(), Failure> {
    each(servers, move |server| {
        if wipe {
            server.down(true)?;
        }
        server.up()
    })
}

/// Starts these servers for CI, with a line about each.
pub(crate) fn up_named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), Failure> {
    let names = names.into_iter().map(str::parse).collect::<Result<Vec<Release>, _>>()?;
    let servers = Names { names, cluster: false }.servers();
    up(&servers, false)?;
    show(&servers);
    Ok(())
}

/// Installs the tools that the build of these brokers' adapters needs, and reports them. Names without a server need
/// none.
pub(crate) fn install_build_tools<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), Failure> {
    let kinds = names.into_iter().filter_map(|name| name.parse::<Kind>().ok());
    let installed = partitura_servers::install_build_tools(kinds, |line| eprintln!("{line}"));
    installed.map_err(|error| format!("{error:?}").into())
}

/// Returns the servers that do not run.
pub(crate) fn idle() -> Vec<Server> {
    Names::default().servers().into_iter().filter(|server| server.status().pid.is_none()).collect()
}

/// A server that does not stop is reported. That is no failure of the step that used it.
pub(crate) fn stop(servers: &[Server]) {
    if let Err(failure) = each(servers, |server| server.down(false)) {
        eprintln!("{failure}");
    }
}

/// Acts on all at once: they mostly wait for a disk or a network.
fn each(
    servers: &[Server],
    action: impl Fn(&Server) -> partitura_servers::Result<()> + Copy + Send + 'static,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let start = |server: &Server| {
        let name = server.name().to_owned();
        let report = move |line: &str| eprintln!("[{:>5.1} s] {name}: {line}", begun.elapsed().as_secs_f64());
        let server = server.clone().with_report(report);
        thread::spawn(move || action(&server).map_err(|error| format!("{error:?}")))
    };
    let running: Vec<_> = servers.iter().map(start).collect();
    let outcomes = running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("it panicked".to_owned())));
    let failures: Vec<String> = outcomes.filter_map(Result::err).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

fn show(servers: &[Server]) {
    for status in servers.iter().map(Server::status) {
        println!("{}", line(&status));
    }
}

fn line(status: &Status) -> String {
    let state = match status.pid {
        Some(_) if status.up => "up",
        Some(_) => "starting",
        None => "down",
    };
    let version = status.version.as_deref().unwrap_or("not installed");
    let process = status.pid.map_or_else(|| "-".to_owned(), |pid| format!("process {pid}"));
    format!("{:<15} {state:<8} {version:<14} {process:<16} {}", status.name, status.url)
}
