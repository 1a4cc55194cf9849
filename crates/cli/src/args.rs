//! The arguments of the command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// See and operate workflows.
#[derive(Debug, Parser)]
#[command(name = "partitura", version, max_term_width = 100, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How to print
    #[arg(short, long, value_enum, global = true, default_value_t)]
    pub(crate) output: Format,
    /// The verb
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Which deployment is meant: a flag counts before the environment, and that before the profile.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Deployment")]
pub(crate) struct Target {
    /// The broker's URL
    #[arg(long, env = "PARTITURA_BROKER", global = true, hide_env_values = true, value_name = "URL")]
    pub(crate) broker: Option<String>,
    /// The URL of the store, unless the broker keeps the state
    #[arg(long, env = "PARTITURA_STORE", global = true, hide_env_values = true, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// The namespace, if the workers have one
    #[arg(long, env = "PARTITURA_NAMESPACE", global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// How many partitions the workers have set
    #[arg(long, env = "PARTITURA_PARTITIONS", global = true, value_name = "N")]
    pub(crate) partitions: Option<u32>,
    /// The profile in the file of settings
    #[arg(long, env = "PARTITURA_PROFILE", global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// The file of settings: JSON, profile by profile [default: partitura.json here, then in the user's directory of
    /// settings]
    #[arg(long, env = "PARTITURA_CONFIG", global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// One JSON value
    Json,
    /// Only ids, one a line
    Ids,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// How many instances stand where, and what needs somebody
    Status,
    /// List instances, the newest first
    List(List),
    /// One instance: where it stands and what it waits for
    Describe(Instance),
    /// Show the events of an instance
    History(History),
    /// An instance and its children, theirs and so on
    Tree(Tree),
    /// The whole history of an instance, one event a line, as JSON: for tests against today's code
    Export(Instance),
    /// Stopped instances, by cause
    Stopped,
    /// Schedules
    #[command(subcommand)]
    Schedule(crate::schedule_args::Schedule),
    /// Messages that were given up
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Start an instance
    Start(Start),
    /// Send a signal
    Signal(Named),
    /// Ask an instance something
    Query(Named),
    /// Change an instance by an update, and print the answer
    Update(Update),
    /// Begin another instance with the history of one, and let today's code go on from there
    Fork(Fork),
    /// Ask an instance to end; its code may clean up
    Cancel(Reasoned),
    /// End an instance at once, without its code
    Terminate(Reasoned),
    /// Let an instance's code, a workflow, a service or a method rest until it is resumed
    Pause(Pause),
    /// Try a stopped instance again now, or let go on what is paused
    Resume(Resume),
    /// Workflows, services and methods that are paused
    Pauses,
    /// Run the tasks of an instance again that have failed for good
    Retry(Reasoned),
    /// Delete an instance that has ended
    Delete(Instance),
    /// Do something to all instances that match
    Bulk(Bulk),
    /// The topics of workflows and services
    Topics(Topics),
    /// Which workflows and services have workers
    Workers,
    /// Look for what is wrong with a deployment
    Doctor,
    /// Serve the page
    Page(Page),
    /// Try it: broker, store, page and a demonstration in one process
    Dev(Dev),
    /// Write a project that builds and runs
    New(New),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Instance {
    /// The workflow's name
    pub(crate) workflow: String,
    /// The instance's id
    pub(crate) id: String,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct List {
    /// Only of this workflow
    #[arg(long, short)]
    pub(crate) workflow: Option<String>,
    /// Only those that stand there: running, stopped, completed, failed, cancelled
    #[arg(long, short)]
    pub(crate) status: Option<String>,
    /// Only ids that begin like this
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Only with this tag
    #[arg(long)]
    pub(crate) tag: Option<String>,
    /// Only children of this instance: WORKFLOW/ID
    #[arg(long)]
    pub(crate) parent: Option<String>,
    /// Only those whose latest turn this build took
    #[arg(long)]
    pub(crate) build: Option<String>,
    /// Only those that were started within this time: 30s, 10m, 1h, 7d
    #[arg(long)]
    pub(crate) since: Option<String>,
    /// How many at most
    #[arg(long, short = 'n', default_value_t = 100)]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    #[command(flatten)]
    pub(crate) instance: Instance,
    /// Go on until it has ended
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only failures
    #[arg(long)]
    pub(crate) failed: bool,
    /// The last N events
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) last: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// List them, by topic and reason
    List,
    /// Those of one topic
    Show(Letters),
    /// Send them again
    Redrive(Letters),
    /// Send one again with another payload
    Edit {
        /// The workflow or service: workflow/NAME or service/NAME
        topic: String,
        /// The message's id
        message: String,
        /// The whole payload, as JSON; @FILE reads it from there
        payload: String,
    },
    /// Throw them away
    Discard(Letters),
}

#[derive(Debug, Args)]
pub(crate) struct Topics {
    /// Print the commands by which an operator makes them, for a broker whose clients cannot: solace
    #[arg(long = "for", value_name = "BROKER")]
    pub(crate) broker: Option<String>,
    /// Of these workflows and services: workflow/NAME or service/NAME. Without a name, of all that were served
    #[arg(value_name = "NAME", requires = "broker")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Letters {
    /// The workflow or service: workflow/NAME or service/NAME
    pub(crate) topic: String,
    /// Only the message with this id
    pub(crate) message: Option<String>,
    /// All of them
    #[arg(long, conflicts_with = "message")]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    pub(crate) instance: Instance,
    /// Its input, as JSON
    #[arg(default_value = "null")]
    pub(crate) input: String,
    /// A label to find it by
    #[arg(long)]
    pub(crate) tag: Vec<String>,
    /// Refuse if there is an instance of this id
    #[arg(long)]
    pub(crate) reject: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    #[command(flatten)]
    pub(crate) instance: Instance,
    /// The name of the signal, query or update
    pub(crate) name: String,
    /// Its arguments, as JSON: an object by argument name
    #[arg(default_value = "null")]
    pub(crate) args: String,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    pub(crate) named: Named,
    /// A name for it: an update of the same name is applied once
    #[arg(long)]
    pub(crate) update_id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Fork {
    #[command(flatten)]
    pub(crate) instance: Instance,
    /// The id of the new instance
    pub(crate) fork: String,
    /// How many events of the history are kept [default: all]
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) events: Option<usize>,
    /// Why: the history keeps it
    #[arg(long, short)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct Tree {
    #[command(flatten)]
    pub(crate) instance: Instance,
    /// How far down
    #[arg(long, default_value_t = 16)]
    pub(crate) depth: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Reasoned {
    #[command(flatten)]
    pub(crate) instance: Instance,
    /// Why: the history keeps it
    #[arg(long, short)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// The workflow of the instance; or, without an id: workflow/NAME, service/NAME, service/NAME/METHOD
    pub(crate) what: String,
    /// The instance's id
    pub(crate) id: Option<String>,
    /// Why: it is shown until it is resumed
    #[arg(long, short)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// The workflow of the instance; or, without an id: workflow/NAME, service/NAME, service/NAME/METHOD
    pub(crate) what: String,
    /// The instance's id
    pub(crate) id: Option<String>,
    /// Why: the history or the record keeps it
    #[arg(long, short, default_value = "")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct Bulk {
    /// The action
    #[arg(value_enum)]
    pub(crate) act: Act,
    /// Why: the histories keep it
    #[arg(long, short)]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) filter: List,
    /// Only say to how many, and name some
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Act {
    Cancel,
    Terminate,
    Pause,
    Resume,
    /// Run tasks again that have failed for good
    Retry,
    /// Delete those that have ended
    Delete,
}

#[derive(Debug, Args)]
pub(crate) struct Page {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:7070")]
    pub(crate) listen: std::net::SocketAddr,
    /// The secret that lets visitors act, and lets in visitors of other machines
    #[arg(long, env = "PARTITURA_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:7070")]
    pub(crate) listen: std::net::SocketAddr,
    /// Where to keep the data [default: in memory]
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// The project's name, and its directory
    pub(crate) name: String,
    /// Which broker: embedded, or the name of a feature of the crate partitura
    #[arg(long, default_value = "embedded")]
    pub(crate) broker: String,
    /// Take Partitura from a clone in this directory, and not from its repository
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) path: Option<PathBuf>,
}
