//! The life of one server, the smallest of them, on ports of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use partitura_servers::{Error, Kind, Server};

type TestResult = Result<(), Box<dyn std::error::Error>>;

#[test]
fn a_server_is_installed_started_killed_started_again_and_wiped() -> TestResult {
    let server = Server::private(Kind::Nats, "test", 31422);
    server.down(true)?;

    server.up()?;
    let first = server.status();
    assert!(first.up && first.pid.is_some(), "{first:?}");
    server.up()?;
    assert_eq!(server.status(), first, "it was up already");

    server.kill()?;
    let killed = server.status();
    assert!(!killed.up && killed.pid.is_none(), "{killed:?}");
    assert!(matches!(server.kill(), Err(Error::NotRunning { .. })));

    server.start()?;
    let second = server.status();
    assert!(second.up && second.pid != first.pid, "{second:?}");
    refuses_only_wrong_credentials(&server)?;

    let authority = server.endpoints().tls.expect("it offers TLS").authority;
    assert!(authority.exists());
    server.down(true)?;
    assert!(!server.status().up && !authority.exists());
    Ok(())
}

fn refuses_only_wrong_credentials(server: &Server) -> TestResult {
    let login = server.endpoints().login.expect("it checks credentials");
    assert_eq!(greet(server, r#"{"verbose":false}"#)?, "PONG");
    let with = |password: &str| format!(r#"{{"verbose":false,"user":"{}","pass":"{password}"}}"#, login.user);
    assert_eq!(greet(server, &with(&login.password))?, "PONG");
    assert_eq!(greet(server, &with("wrong"))?, "-ERR 'Authorization Violation'");
    Ok(())
}

/// The server's answer to a client that sends this introduction.
fn greet(server: &Server, introduction: &str) -> Result<String, Box<dyn std::error::Error>> {
    let url = server.url();
    let mut stream = TcpStream::connect(url.trim_start_matches("nats://"))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let info = lines.next().ok_or("the server says nothing")??;
    assert!(info.starts_with("INFO "), "{info}");
    write!(stream, "CONNECT {introduction}\r\nPING\r\n")?;
    lines
        .map_while(Result::ok)
        .find(|line| !line.starts_with("INFO "))
        .ok_or_else(|| "the server does not answer".into())
}

#[test]
fn a_server_that_a_test_left_frozen_is_thawed_by_the_next_start() -> TestResult {
    let server = Server::private(Kind::Nats, "frozen", 31462);
    server.down(true)?;
    server.up()?;
    let before = server.status();
    server.freeze()?;
    assert!(!server.status().up);
    server.up()?;
    assert_eq!(server.status(), before, "the same process goes on");
    server.down(true)?;
    Ok(())
}

#[test]
fn several_may_start_the_same_server_at_once() -> TestResult {
    let server = Server::private(Kind::Nats, "rush", 31442);
    server.down(true)?;
    let rush: Vec<_> = (0..4)
        .map(|_| {
            let server = server.clone();
            std::thread::spawn(move || server.up().map(|()| server.status().pid))
        })
        .collect();
    let outcomes = rush.into_iter().map(|one| one.join().expect("up does not panic"));
    let processes = outcomes.collect::<Result<Vec<_>, _>>()?;
    assert!(processes.iter().all(|pid| pid.is_some() && *pid == processes[0]), "{processes:?}");
    server.down(true)?;
    Ok(())
}

#[test]
fn a_port_that_is_taken_is_named() -> TestResult {
    let server = Server::private(Kind::Nats, "taken", 31462);
    let _other = std::net::TcpListener::bind("127.0.0.1:31462")?;
    let refusal = server.up().expect_err("the port is taken");
    assert!(matches!(refusal, Error::PortTaken { port: 31462, .. }), "{refusal}");
    Ok(())
}

#[test]
fn a_server_that_cannot_start_shows_what_it_said() -> TestResult {
    let server = Server::private(Kind::Nats, "ends", 31482);
    server.down(true)?;
    // This port is not checked first, and the server needs it as well.
    let _other = std::net::TcpListener::bind("127.0.0.1:31483")?;
    let refusal = server.up().expect_err("it cannot listen");
    let shown = refusal.to_string();
    server.down(true)?;
    // With containers the engine listens, and fails, before there is a server.
    assert!(matches!(refusal, Error::Ended { .. } | Error::Command { .. }), "{refusal}");
    assert!(shown.contains("31483"), "{shown}");
    Ok(())
}
