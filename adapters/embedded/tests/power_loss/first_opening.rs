//! The process is killed, or the power fails, while a broker is opened for the first time.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use partitura_broker::Broker;
use partitura_embedded::{Embedded, Options};

use crate::chance::{self, Chance};
use crate::expected::Expected;
use crate::found;

const DIRECTORY: &str = "PARTITURA_TEST_FIRST_OPENING";
const KILLS: u32 = 50;

/// The process that will be killed. It opens many directories, one after the other.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    println!("opening");
    for number in 0.. {
        let directory = Path::new(&directory).join(format!("{number}"));
        // Half open when the process is killed: all the others are whole.
        drop(Embedded::open(directory, Options::default()).unwrap());
    }
}

#[tokio::test]
async fn killed_at_any_moment_of_it_the_process_opens_it_the_next_time() {
    let mut chance = Chance::new(chance::seed());
    let mut opened = 0;
    for _ in 0..KILLS {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["first_opening::child", "--exact", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        said.by_ref().map_while(Result::ok).find(|line| line.contains("opening")).expect("it begins");
        // Not to wait for anything: any moment will do.
        thread::sleep(Duration::from_micros(chance.below(20_000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        for entry in fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            let broker = Embedded::open(&path, Options::default());
            let broker = broker.unwrap_or_else(|error| panic!("{error}: {:?}", fs::read_dir(&path).unwrap()));
            broker.close().await.unwrap();
            opened += 1;
        }
    }
    println!("{opened} directories");
}

#[tokio::test]
async fn a_file_whose_creation_was_cut_short_is_created_anew() {
    let whole = tempfile::tempdir().unwrap();
    Embedded::open(whole.path(), Options::default()).unwrap().close().await.unwrap();
    let created = fs::read(whole.path().join("partitura.db")).unwrap();
    let mut chance = Chance::new(chance::seed());
    for length in (0..20).map(|_| chance.below(created.len())).chain([0, created.len()]) {
        let directory = tempfile::tempdir().unwrap();
        for beside in ["", "-journal", "-wal"] {
            fs::write(directory.path().join(format!("partitura.db-new{beside}")), &created[..length]).unwrap();
        }
        found::go_on(directory.path(), &Expected::default()).await;
        let left = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("new")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
