use std::path::Path;
use std::process::{Command, Output};

use crate::deployment::{Hold, open};

fn partitura(directory: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_partitura"));
    for name in ["PARTITURA_BROKER", "PARTITURA_STORE", "PARTITURA_PROFILE", "PARTITURA_CONFIG"] {
        command.env_remove(name);
    }
    command.current_dir(directory).args(args).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn the_command_reads_a_file_whose_service_is_down_and_exits_with_a_code() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("embedded:{}", directory.path().join("data").display());
    let (connection, worker) = open(&url).await;
    connection.client().workflow::<Hold>("h-1").start("tea".to_owned()).confirmed().await.unwrap();
    let busy = partitura(directory.path(), &["--broker", &url, "list"]);
    assert_eq!(busy.status.code(), Some(1), "the file has one owner: {}", text(&busy.stdout));
    worker.stop().await.unwrap();
    connection.close().await.unwrap();
    drop(connection);

    let profiles = format!(r#"{{"default": {{"broker": "{url}"}}}}"#);
    std::fs::write(directory.path().join("partitura.json"), profiles).unwrap();
    let listed = partitura(directory.path(), &["list", "-o", "ids"]);
    assert_eq!(text(&listed.stdout), "h-1\n", "{}", text(&listed.stderr));
    let missing = partitura(directory.path(), &["describe", "Hold", "none"]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(text(&missing.stderr).contains("there is no instance Hold/none"), "{}", text(&missing.stderr));
}

#[test]
fn what_is_asked_for_wrongly_says_what_to_write() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = partitura(directory.path(), &["list"]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(text(&nowhere.stderr).contains("--broker"), "{}", text(&nowhere.stderr));
    assert_eq!(partitura(directory.path(), &["perhaps"]).status.code(), Some(2));
    let completions = partitura(directory.path(), &["completions", "bash"]);
    assert!(text(&completions.stdout).contains("dead-letters"));
}

#[test]
fn a_new_project_is_written_once() {
    let directory = tempfile::tempdir().unwrap();
    let written = partitura(directory.path(), &["new", "shop", "--broker", "nats"]);
    assert!(written.status.success(), "{}", text(&written.stderr));
    for file in ["Cargo.toml", "src/main.rs", "src/orders.rs", "compose.yaml"] {
        assert!(directory.path().join("shop").join(file).is_file(), "{file}");
    }
    assert_eq!(partitura(directory.path(), &["new", "shop"]).status.code(), Some(2));
    assert_eq!(partitura(directory.path(), &["new", "other", "--broker", "pigeons"]).status.code(), Some(2));
}
