//! The example `checkout`, as its users meet it: a process that is given orders, killed, and started again.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Deserialize;

/// Nothing here takes as long on any machine; a process that does is stuck.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// The last line on stdout.
#[derive(Debug, PartialEq, Deserialize)]
struct Figures {
    orders: usize,
    completed: usize,
    compensated: usize,
    failed: usize,
    skipped: usize,
    lost: usize,
    per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    reconciled: bool,
}

/// A run of the example. Dropped, it is killed.
struct Checkout {
    process: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Checkout {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(program("checkout"))
            .args(arguments)
            .arg("--json")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example runs");
        // Read all the time, so that it never waits for a full pipe.
        let stdout = process.stdout.take().map(collect);
        let stderr = process.stderr.take().map(collect);
        Self { process, stdout, stderr }
    }

    /// Gives it its standard input, whole.
    fn given(mut self, input: &str) -> Self {
        let mut stdin = self.process.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("it reads its input");
        self
    }

    fn kill(&mut self) {
        self.process.kill().expect("killed");
    }

    /// Waits for its end.
    fn output(mut self) -> Output {
        let began = Instant::now();
        let status = loop {
            match self.process.try_wait().expect("its status") {
                Some(status) => break status,
                None if began.elapsed() > TIME_LIMIT => {
                    self.kill();
                    panic!("stuck; it said:\n{}\n{}", said(&mut self.stdout), said(&mut self.stderr));
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        Output { status, stdout: said(&mut self.stdout).into(), stderr: said(&mut self.stderr).into() }
    }

    /// Waits for its end, which is a good one.
    fn figures(self) -> (Figures, String) {
        let output = self.output();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
        let last = stdout.lines().last().expect("a last line");
        let figures: Figures = serde_json::from_str(last).unwrap_or_else(|error| panic!("{last}: {error}"));
        assert_eq!((figures.lost, figures.failed, figures.reconciled), (0, 0, true), "{stdout}\n{stderr}");
        assert_eq!(figures.completed + figures.compensated, figures.orders, "{stdout}");
        (figures, stderr)
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `cargo test` builds examples beside the tests.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let program = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let path = program.display();
    assert!(
        program.exists(),
        "there is no {path}; run the tests with `cargo test -p partitura`, or build the example first"
    );
    program
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("the pipe is readable");
        text(&bytes)
    })
}

fn said(pipe: &mut Option<JoinHandle<String>>) -> String {
    pipe.take().map(|pipe| pipe.join().expect("it was read")).unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn directory() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("a path").to_owned();
    (directory, path)
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < TIME_LIMIT, "{what} did not come about");
        thread::sleep(Duration::from_millis(5));
    }
}

fn entries(data: &str, ledger: &str) -> usize {
    let path = Path::new(data).join("ledger").join(ledger);
    fs::read(path).map(|bytes| bytes.iter().filter(|byte| **byte == b'\n').count()).unwrap_or_default()
}

#[test]
fn the_sample_is_carried_out_and_reconciles() {
    let (_directory, data) = directory();
    let (figures, _) = Checkout::start(&["--data", &data]).figures();
    assert_eq!((figures.orders, figures.completed, figures.compensated, figures.skipped), (12, 8, 4, 0));
    assert!(figures.per_s > 0.0 && figures.p50_ms > 0.0 && figures.p99_ms >= figures.p50_ms, "{figures:?}");

    // Once more: everything is recognised, and nothing is done again.
    let charged = entries(&data, "payments.jsonl");
    let (again, _) = Checkout::start(&["--data", &data]).figures();
    assert_eq!((again.completed, again.compensated), (8, 4));
    assert_eq!(entries(&data, "payments.jsonl"), charged);
}

#[test]
fn ledgers_agree_although_the_clocks_of_those_who_wrote_them_differ() {
    const FIVE_MINUTES: i64 = 300_000_000;
    let (_directory, data) = directory();
    Checkout::start(&["--data", &data]).figures();
    let mut off = FIVE_MINUTES;
    for ledger in ["stock.jsonl", "payments.jsonl", "shipments.jsonl", "letters.jsonl"] {
        rewrite(&data, ledger, |line| {
            // As if every other entry came from a process whose clock is behind.
            off = -off;
            line["at"] = (line["at"].as_i64().expect("a time") + off).into();
        });
    }
    let (figures, _) = Checkout::start(&["--data", &data]).figures();
    assert_eq!((figures.completed, figures.compensated), (8, 4));
}

#[test]
fn what_was_done_in_another_order_is_a_mismatch() {
    let (_directory, data) = directory();
    Checkout::start(&["--data", &data]).figures();
    let mut moved = 0;
    rewrite(&data, "payments.jsonl", |line| {
        // Money that was taken before anything was reserved.
        if line["entry"]["charged"].is_object() && moved == 0 {
            (line["place"], moved) = (0.into(), 1);
        }
    });
    assert_eq!(moved, 1);
    let output = Checkout::start(&["--data", &data]).output();
    assert!(!output.status.success(), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("mismatch: order"), "{}", text(&output.stderr));
}

/// Changes each line of a ledger.
fn rewrite(data: &str, ledger: &str, mut change: impl FnMut(&mut serde_json::Value)) {
    let path = Path::new(data).join("ledger").join(ledger);
    let written = fs::read_to_string(&path).expect("a ledger");
    let lines = written.lines().map(|line| {
        let mut line = serde_json::from_str(line).expect("a line");
        change(&mut line);
        format!("{line}\n")
    });
    let changed: String = lines.collect();
    fs::write(&path, changed).expect("written");
}

#[test]
fn killed_at_any_moment_it_goes_on_where_it_was() {
    const ORDERS: usize = 600;
    let seed = std::env::var("CHECKOUT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) ^ jiffies());
    println!("CHECKOUT_SEED={seed}");
    let mut moments = Moments(seed);
    let (_directory, data) = directory();
    let orders = ORDERS.to_string();
    let arguments = ["--orders", &orders, "--data", &data, "--in-flight", "100"];

    // How long it takes is the machine's affair; how far it has come is in the ledger.
    for kill in 1..=5 {
        let before = entries(&data, "stock.jsonl");
        let so_far = before + (moments.next() % (ORDERS as u64 / 6)) as usize;
        let mut run = Checkout::start(&arguments);
        eventually("progress, or the end", || {
            entries(&data, "stock.jsonl") >= so_far || run.process.try_wait().expect("its status").is_some()
        });
        thread::sleep(Duration::from_micros(moments.next() % 50_000));
        run.kill();
        let output = run.output();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.code().is_none_or(|code| code == 0), "run {kill}: {}\n{stdout}\n{stderr}", output.status);
        println!("kill {kill}: at {} entries in the stockroom", entries(&data, "stock.jsonl"));
    }

    let (figures, stderr) = Checkout::start(&arguments).figures();
    assert_eq!(figures.orders, ORDERS, "{stderr}");
    // Whatever was killed when, the same orders end in the same way.
    let (_directory, elsewhere) = directory();
    let (undisturbed, _) = Checkout::start(&["--orders", &orders, "--data", &elsewhere]).figures();
    assert_eq!((figures.completed, figures.compensated), (undisturbed.completed, undisturbed.compensated));
}

#[test]
fn malformed_lines_are_reported_with_their_numbers_and_skipped() {
    let (_directory, data) = directory();
    let input = Path::new(&data).join("orders.jsonl");
    let mut lines: Vec<u8> = concat!(
        r#"{"id":"a","item":"flute","units":1,"total":100,"card":"1","address":"here"}"#,
        "\n",
        "{\"id\":\n",
        r#"{"id":"b","item":"flute","units":1,"card":"1","address":"here"}"#,
        "\n",
        "\n",
        r#"{"id":"a","item":"flute","units":1,"total":100,"card":"1","address":"here"}"#,
        "\n",
        r#"{"id":"c","item":"flute","units":1,"total":0,"card":"1","address":"here"}"#,
        "\n",
        r#"{"id":"d","item":"flute","units":-1,"total":100,"card":"1","address":"here"}"#,
        "\n",
    )
    .into();
    lines.extend(b"\xff\xfe\n");
    // The last line needs no end.
    lines.extend(br#"{"id":"e","item":"flute","units":1,"total":100,"card":"1","address":"here"}"#);
    fs::write(&input, lines).expect("written");

    let (figures, stderr) = Checkout::start(&["--data", &data, "--input", input.to_str().expect("a path")]).figures();
    assert_eq!((figures.orders, figures.completed, figures.skipped), (2, 2, 6), "{stderr}");
    for (line, reason) in [
        (2, "EOF"),
        (3, "missing field `total`"),
        (5, "`id` a is taken by line 1"),
        (6, "`total` is zero"),
        (7, "invalid value: integer `-1`"),
        (8, "expected value"),
    ] {
        let report = stderr.lines().find(|report| report.contains(&format!("line {line}:")));
        assert!(report.is_some_and(|report| report.contains(reason)), "line {line}, {reason}, in:\n{stderr}");
    }
}

#[test]
fn a_second_process_on_the_same_data_is_told_who_has_it() {
    let (_directory, data) = directory();
    let mut first = Checkout::start(&["--data", &data, "--orders", "100000"]);
    eventually("a first charge", || entries(&data, "payments.jsonl") > 0);
    let second = Checkout::start(&["--data", &data]).output();
    let said = text(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("in use by process {} ", first.process.id())), "{said}");
    assert!(first.process.try_wait().expect("its status").is_none(), "the first one goes on");
    first.kill();
}

#[test]
fn orders_come_through_a_pipe_as_well() {
    let (_directory, data) = directory();
    let sample = include_str!("../examples/checkout/sample.jsonl");
    let (figures, _) = Checkout::start(&["--data", &data, "--input", "-"]).given(sample).figures();
    assert_eq!((figures.orders, figures.completed, figures.compensated), (12, 8, 4));
}

#[test]
fn no_orders_at_all_are_carried_out_without_a_fuss() {
    let (_directory, data) = directory();
    let (figures, _) = Checkout::start(&["--data", &data, "--input", "-"]).given("\nnot an order\n").figures();
    assert_eq!((figures.orders, figures.skipped), (0, 1));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let (_directory, data) = directory();
    let output = Checkout::start(&["--data", &data, "--input", "no/such/file"]).output();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no/such/file"), "{}", text(&output.stderr));
}

/// Random numbers from a seed (SplitMix64).
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn jiffies() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map(|now| now.as_nanos() as u64).unwrap_or_default()
}

#[test]
fn the_program_of_the_readme_is_an_example_and_prints_what_the_readme_says() {
    let (readme, source) = (include_str!("../../../README.md"), include_str!("../examples/order.rs"));
    let (_, code) = source.split_once("\n\n").expect("a comment, then the code");
    let (code, _) = code.split_once("\n#[cfg(test)]").expect("the code, then its test");
    assert!(readme.contains(&format!("```rust\n{code}```")), "the README has another program than examples/order.rs");
    let output = Command::new(program("order")).arg("memory:").output().expect("the example");
    let printed = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(readme.contains(&format!("```text\n{printed}```")), "{printed}");
}

#[test]
fn the_test_of_the_readme_is_that_of_the_example() {
    let (readme, source) = (include_str!("../../../README.md"), include_str!("../examples/order/tests.rs"));
    let (_, shown) = readme.split_once("```rust,ignore\n").expect("a test");
    let (shown, _) = shown.split_once("```").expect("its end");
    assert!(source.contains(shown), "{shown}");
}
