//! `partitura new`: a project that builds and runs.

use std::path::Path;

use crate::args::New;
use crate::failure::Failure;
use crate::output::Out;

const MAIN: &str = include_str!("../template/src/main.rs");
const ORDERS: &str = include_str!("../template/src/orders.rs");
const MANIFEST: &str = include_str!("../template/Cargo.toml.in");
const README: &str = include_str!("../template/README.md.in");

/// A broker that a project can be written for.
struct Broker {
    name: &'static str,
    /// Its URL in the compose file.
    url: &'static str,
    /// Its part of the compose file; empty: it needs none.
    compose: &'static str,
}

const POSTGRES_URL: &str = "postgres://postgres:postgres@127.0.0.1:5432/postgres";
const POSTGRES: &str = "  postgres:
    image: postgres:17
    environment: { POSTGRES_PASSWORD: postgres }
    ports: [\"5432:5432\"]
";

const BROKERS: [Broker; 5] = [
    Broker { name: "embedded", url: "embedded:./data", compose: "" },
    Broker {
        name: "nats",
        url: "nats://127.0.0.1:4222",
        compose: "  nats:\n    image: nats:2.12\n    command: [\"-js\"]\n    ports: [\"4222:4222\"]\n",
    },
    Broker {
        name: "rabbitmq",
        url: "amqp://guest:guest@127.0.0.1:5672",
        compose: "  rabbitmq:\n    image: rabbitmq:4\n    ports: [\"5672:5672\"]\n",
    },
    Broker {
        name: "kafka",
        url: "kafka://127.0.0.1:9092",
        compose: "  kafka:\n    image: apache/kafka:4.1.0\n    ports: [\"9092:9092\"]\n",
    },
    Broker {
        name: "pulsar",
        url: "pulsar://127.0.0.1:6650",
        compose: "  pulsar:\n    image: apachepulsar/pulsar:4.0.0\n    command: [\"bin/pulsar\", \"standalone\"]\n    ports: [\"6650:6650\"]\n",
    },
];

/// Writes the project into a directory of its name, which must not exist yet.
pub(crate) fn write(asked: &New, out: &mut Out<'_>) -> Result<(), Failure> {
    let broker = BROKERS.iter().find(|broker| broker.name == asked.broker).ok_or_else(|| {
        let known: Vec<&str> = BROKERS.iter().map(|broker| broker.name).collect();
        Failure::usage(format!("no project can be written for {:?}; write one of {}", asked.broker, known.join(", ")))
    })?;
    let directory = Path::new(&asked.name);
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    check(name)?;
    if directory.exists() {
        return Err(Failure::usage(format!("{} exists already; choose another name", directory.display())));
    }
    let from = source(asked.path.as_deref())?;
    for (path, text) in files(name, broker, &from) {
        let path = directory.join(path);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
        written.map_err(|error| Failure::failed(format!("write {}: {error}", path.display())))?;
    }
    let up = if broker.compose.is_empty() { "" } else { "docker compose up -d && " };
    out.line(&format!("{}: written. Now: cd {0} && {up}cargo run", directory.display()))
}

/// Where the project takes Partitura from, as its manifest has it.
struct Source {
    partitura: String,
    page: String,
}

/// From the repository, or from a directory with a clone of it.
fn source(clone: Option<&Path>) -> Result<Source, Failure> {
    let Some(clone) = clone else {
        let repository = format!("git = {:?}", env!("CARGO_PKG_REPOSITORY"));
        return Ok(Source { partitura: repository.clone(), page: repository });
    };
    let found = |part: &str| match clone.join("crates").join(part).canonicalize() {
        Ok(path) => Ok(format!("path = {:?}", path.display().to_string())),
        Err(error) => Err(Failure::usage(format!("{} is no clone of Partitura: {error}", clone.display()))),
    };
    Ok(Source { partitura: found("partitura")?, page: found("web")? })
}

/// A package has a name of small letters, digits and signs.
fn check(name: &str) -> Result<(), Failure> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_part) {
        return Ok(());
    }
    let text = format!("{name:?} cannot be the name of a package; use a-z, 0-9, - and _, beginning with a letter");
    Err(Failure::usage(text))
}

fn files(name: &str, broker: &Broker, from: &Source) -> Vec<(&'static str, String)> {
    let is_embedded = broker.compose.is_empty();
    let features = match is_embedded {
        true => String::new(),
        false => format!(", features = [\"{}\", \"postgres\"]", broker.name),
    };
    let filled = |text: &str| {
        text.replace("@NAME@", name)
            .replace("@PARTITURA@", &from.partitura)
            .replace("@PAGE@", &from.page)
            .replace("@FEATURES@", &features)
            .replace("@BROKER@", broker.url)
            .replace("@STORE@", if is_embedded { "" } else { POSTGRES_URL })
            .replace("@UP@", if is_embedded { "" } else { "docker compose up -d\n" })
    };
    let mut files = vec![
        ("Cargo.toml", filled(MANIFEST)),
        ("README.md", filled(README)),
        ("src/main.rs", filled(MAIN)),
        ("src/orders.rs", filled(ORDERS)),
        (".gitignore", "target/\ndata/\n".to_owned()),
    ];
    if !is_embedded {
        files.push(("compose.yaml", format!("services:\n{}{POSTGRES}", broker.compose)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_fill_in_whatever_the_broker_is() {
        for broker in &BROKERS {
            for (path, text) in files("shop", broker, &source(None).unwrap()) {
                let left = ["@NAME@", "@PARTITURA@", "@PAGE@", "@FEATURES@", "@BROKER@", "@STORE@", "@UP@"];
                assert!(left.iter().all(|mark| !text.contains(mark)), "{path} of {}", broker.name);
            }
        }
    }

    #[test]
    fn only_a_name_of_a_package_is_taken() {
        check("my-shop_2").unwrap();
        for name in ["", "Shop", "2shop", "a b", "a/../b", "-a"] {
            check(name).unwrap_err();
        }
    }
}
