//! Which deployment is meant: a flag counts before the environment, and that before the profile.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use partitura::Partitura;
use serde::Deserialize;

use crate::args::Target;
use crate::failure::Failure;

/// How long a broker may take to answer.
const LIMIT: Duration = Duration::from_secs(15);

/// A deployment, as the file of settings has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Profile {
    broker: Option<String>,
    pub(crate) store: Option<String>,
    namespace: Option<String>,
    partitions: Option<u32>,
}

/// Connects to the deployment that is meant.
pub(crate) async fn connect(target: &Target) -> Result<Partitura, Failure> {
    let Profile { broker, store, namespace, partitions } = resolve(target)?;
    let broker = broker.ok_or_else(|| {
        Failure::usage("which broker? Write --broker URL, set PARTITURA_BROKER, or name a --profile of partitura.json")
    })?;
    open(&broker, store.as_deref(), namespace, partitions).await
}

/// Connects.
pub(crate) async fn open(
    broker: &str,
    store: Option<&str>,
    namespace: Option<String>,
    partitions: Option<u32>,
) -> Result<Partitura, Failure> {
    let mut connection = partitura::connect(broker);
    if let Some(store) = store {
        connection = connection.store(store);
    }
    let connection = connection.with(move |mut settings| {
        if let Some(namespace) = namespace {
            settings = settings.namespace(namespace);
        }
        match partitions {
            Some(partitions) => settings.partitions(partitions),
            None => settings,
        }
    });
    limited("connect to broker and store", connection).await
}

/// Waits for a while.
pub(crate) async fn limited<T>(
    what: &str,
    answer: impl IntoFuture<Output = Result<T, partitura::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(LIMIT, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::failed(format!("{what}: no answer within {LIMIT:?}"))),
    }
}

pub(crate) fn resolve(target: &Target) -> Result<Profile, Failure> {
    let of_file = match file(target)? {
        None if target.profile.is_some() => {
            return Err(Failure::usage("there is no file of settings to take a profile from: write partitura.json"));
        }
        None => Profile::default(),
        Some((path, text)) => {
            let read = serde_json::from_str::<BTreeMap<String, Profile>>(&text);
            let mut profiles = read.map_err(|error| Failure::usage(format!("read {}: {error}", path.display())))?;
            let name = target.profile.as_deref().unwrap_or("default");
            match profiles.remove(name) {
                Some(profile) => profile,
                None if target.profile.is_none() => Profile::default(),
                None => {
                    let known: Vec<&String> = profiles.keys().collect();
                    return Err(Failure::usage(format!(
                        "{} has no profile {name:?}; it has {known:?}",
                        path.display()
                    )));
                }
            }
        }
    };
    // A store belongs to its broker: that of a profile does not go with another broker.
    let is_own = target.broker.is_some();
    Ok(Profile {
        broker: target.broker.clone().or(of_file.broker),
        store: target.store.clone().or(of_file.store.filter(|_| !is_own)),
        namespace: target.namespace.clone().or(of_file.namespace.filter(|_| !is_own)),
        partitions: target.partitions.or(of_file.partitions.filter(|_| !is_own)),
    })
}

fn file(target: &Target) -> Result<Option<(PathBuf, String)>, Failure> {
    if let Some(path) = &target.config {
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|error| Failure::usage(format!("read {}: {error}", path.display())))?;
        return Ok(Some((path.clone(), text)));
    }
    let home = |name: &str, below: &str| std::env::var_os(name).map(|home| PathBuf::from(home).join(below));
    let of_user = home("XDG_CONFIG_HOME", "partitura.json").or_else(|| home("HOME", ".config/partitura.json"));
    let places = [Some(PathBuf::from("partitura.json")), of_user];
    let found =
        places.into_iter().flatten().find_map(|path| std::fs::read_to_string(&path).ok().map(|text| (path, text)));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(config: &str, profile: Option<&str>, broker: Option<&str>) -> (tempfile::TempDir, Target) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("partitura.json");
        std::fs::write(&path, config).unwrap();
        let (profile, broker) = (profile.map(str::to_owned), broker.map(str::to_owned));
        (directory, Target { profile, broker, config: Some(path), ..Target::default() })
    }

    const FILE: &str = r#"{"default": {"broker": "embedded:./data"}, "live": {"broker": "b:", "store": "s:"}}"#;

    #[test]
    fn a_flag_counts_before_the_profile_and_takes_no_store_from_it() {
        let (_kept, asked) = target(FILE, None, None);
        assert_eq!(resolve(&asked).unwrap().broker.as_deref(), Some("embedded:./data"));
        let (_kept, asked) = target(FILE, Some("live"), None);
        assert_eq!(resolve(&asked).unwrap().store.as_deref(), Some("s:"));
        let (_kept, asked) = target(FILE, Some("live"), Some("other:"));
        let found = resolve(&asked).unwrap();
        assert_eq!((found.broker.as_deref(), found.store), (Some("other:"), None));
    }

    #[test]
    fn a_profile_that_is_missing_or_misspelt_is_named() {
        let (_kept, asked) = target(FILE, Some("lvie"), None);
        assert!(resolve(&asked).unwrap_err().to_string().contains("lvie"));
        let (_kept, asked) = target(r#"{"default": {"brokre": "x"}}"#, None, None);
        assert!(resolve(&asked).unwrap_err().to_string().contains("brokre"));
    }
}
