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

/// The repository that this test is built in.
fn clone() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

#[test]
fn a_new_project_compiles_for_every_broker() {
    let directory = tempfile::tempdir().unwrap();
    let root = clone();
    for broker in ["embedded", "nats", "rabbitmq", "kafka", "pulsar"] {
        let path = root.display().to_string();
        let written = partitura(directory.path(), &["new", broker, "--broker", broker, "--path", &path]);
        assert!(written.status.success(), "{}", text(&written.stderr));
    }
    // One workspace, so that what they share is checked once; the versions are those of this repository.
    let members = r#"["embedded", "nats", "rabbitmq", "kafka", "pulsar"]"#;
    // With the profile of this repository, what it has built serves here, too.
    let profile = "[profile.dev]\ndebug = \"line-tables-only\"\n";
    let manifest = format!("[workspace]\nresolver = \"3\"\nmembers = {members}\n\n{profile}");
    std::fs::write(directory.path().join("Cargo.toml"), manifest).unwrap();
    std::fs::copy(root.join("Cargo.lock"), directory.path().join("Cargo.lock")).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let is_told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(is_told) {
            cargo.env_remove(name);
        }
    }
    let target = root.join("target");
    let checked = cargo
        .current_dir(directory.path())
        .args(["check", "--offline", "--workspace", "--all-targets"])
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("cargo");
    assert!(checked.status.success(), "{}", text(&checked.stderr));
}

#[test]
fn a_directory_that_is_no_clone_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refused = partitura(directory.path(), &["new", "shop", "--path", "."]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("no clone of Partitura"), "{}", text(&refused.stderr));
    assert!(!directory.path().join("shop").exists());
}
