use std::fs;
use std::path::Path;
use std::process::Command;

use partitura_broker::{Broker, ErrorKind, ProducerOptions, Unit};
use partitura_embedded::{Embedded, Options};

use crate::support::*;

fn refused(directory: &Path) -> partitura_broker::Error {
    Embedded::open(directory, Options::default()).unwrap_err()
}

/// A closed broker's directory with a thousand messages, and the path of its file.
async fn written() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(4))).await;
    publish(&broker, (0..1_000).map(|i| message("k", i)).collect()).await;
    broker.close().await.unwrap();
    let path = directory.path().join("partitura.db");
    (directory, path)
}

#[tokio::test]
async fn a_second_opener_is_told_who_has_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(1))).await;
    let error = refused(directory.path());
    assert_eq!(error.kind(), ErrorKind::Busy);
    let text = error.to_string();
    let path = directory.path().join("partitura.lock").display().to_string();
    for told in [&*path, &format!("process {} (", std::process::id()), " UTC; stop it, or open another directory"] {
        assert!(text.contains(told), "{told:?} is not in {text:?}");
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["files::another_process_opens", "--exact", "--nocapture"])
        .env("PARTITURA_TEST_DIRECTORY", directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(said.contains("Busy") && said.contains(&format!("process {}", std::process::id())), "{said}");
    broker.close().await.unwrap();
    file(&directory, &queue(by_key(1))).await;
}

#[test]
fn another_process_opens() {
    if let Some(directory) = std::env::var_os("PARTITURA_TEST_DIRECTORY") {
        let error = Embedded::open(directory, Options::default()).unwrap_err();
        println!("{:?}: {error}", error.kind());
    }
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("partitura.db");
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);").unwrap();
    drop(foreign);
    for content in [fs::read(&path).unwrap(), b"a letter to my aunt".to_vec(), vec![0x20; 5_000]] {
        fs::write(&path, &content).unwrap();
        assert_eq!(refused(directory.path()).kind(), ErrorKind::Incompatible);
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_not_touched() {
    let (directory, path) = written().await;
    let mut content = fs::read(&path).unwrap();
    content[60..64].copy_from_slice(&7_u32.to_be_bytes());
    fs::write(&path, &content).unwrap();
    let error = refused(directory.path());
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("newer"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), content);
}

#[tokio::test]
async fn a_damaged_file_is_found_and_not_touched() {
    let (directory, path) = written().await;
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    // The header of a page: the numbers of its cells.
    for page in 1..whole.len() / 4_096 {
        flipped[page * 4_096 + 1..page * 4_096 + 8].fill(0xa5);
    }
    for content in [&whole[..whole.len() - 4_096], &whole[..whole.len() / 2], &whole[..4_096], &[], &flipped] {
        fs::write(&path, content).unwrap();
        let error = refused(directory.path());
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{} bytes: {error}", content.len());
        assert!(fs::read(&path).unwrap() == content, "touched");
    }
    fs::write(&path, &whole).unwrap();
    let broker = Embedded::open(directory.path(), Options::default()).unwrap();
    assert_eq!(receive(&mut broker.consumer(options()).await.unwrap(), 1_000).await.len(), 1_000);
}

#[tokio::test]
async fn a_damaged_message_is_an_error_and_not_a_message() {
    let (directory, path) = written().await;
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("UPDATE message SET body = CAST(replace(body, '7', '8') AS BLOB) WHERE seq = 8", []).unwrap();
    drop(connection);
    let broker = Embedded::open(directory.path(), Options::default()).unwrap();
    let mut consumer = broker.consumer(options()).await.unwrap();
    let error = loop {
        if let Err(error) = consumer.next().await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("message 8"), "{error}");
}

#[tokio::test]
async fn a_log_without_its_file_is_not_thrown_away() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("partitura.db-wal"), b"x").unwrap();
    assert_eq!(refused(directory.path()).kind(), ErrorKind::Corrupt);
}

#[test]
fn a_directory_that_cannot_be_written_is_a_clear_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = refused(&file.path().join("below"));
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(error.to_string().contains("cannot be created"), "{error}");
}

#[tokio::test]
async fn others_may_read_the_file_while_it_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let broker = file(&directory, &queue(by_key(4))).await;
    publish(&broker, (0..10).map(|i| message("k", i)).collect()).await;
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let other = rusqlite::Connection::open_with_flags(directory.path().join("partitura.db"), flags).unwrap();
    let count: u32 = other.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 10);
}

#[tokio::test]
async fn everything_answers_closed_after_closing() {
    let directory = tempfile::tempdir().unwrap();
    for broker in [memory(&queue(by_key(1))).await, file(&directory, &queue(by_key(1))).await] {
        let producer = producer(&broker).await;
        let mut consumer = broker.consumer(options()).await.unwrap();
        let mut inbox = broker.inbox().await.unwrap();
        next(&mut consumer).await;
        let waiting = tokio::join!(consumer.next(), inbox.next(), async {
            tokio::task::yield_now().await;
            broker.close().await.unwrap();
        });
        assert_eq!(waiting.0.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(waiting.1.unwrap_err().kind(), ErrorKind::Closed);
        broker.close().await.unwrap();
        let kind = |result: partitura_broker::Result<()>| result.unwrap_err().kind();
        let transactions = broker.transactions().unwrap();
        let closed = [
            kind(producer.publish(vec![message("k", 1)]).await.remove(0).map(drop)),
            kind(producer.reply(vec![]).await),
            kind(transactions.commit(vec![Unit::default()]).await.remove(0)),
            kind(transactions.get("s", bytes("k")).await.map(drop)),
            kind(broker.declare(&queue(by_key(1))).await),
            kind(broker.producer(ProducerOptions::default()).await.map(drop)),
            kind(broker.consumer(options()).await.map(drop)),
            kind(broker.inbox().await.map(drop)),
            kind(consumer.next().await.map(drop)),
            kind(consumer.flush().await),
        ];
        assert_eq!(closed, [ErrorKind::Closed; 10]);
    }
}
