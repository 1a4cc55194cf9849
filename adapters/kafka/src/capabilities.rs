//! The capabilities of a cluster, from the settings of its brokers.

use std::time::{Duration, Instant};

use partitura_broker::{Capabilities, Delay, Durability, ErrorKind, Limits, Result, Supports};
use rdkafka::admin::{AdminOptions, ConfigResource, ResourceSpecifier};

use crate::client::{Admin, Client};
use crate::error;
use crate::ready::PAUSE;

/// The time in which a broker has to tell its settings, before another one is asked.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(5);
/// The time in which one of them has to: a broker that has just started, or was frozen, answers slowly for a while.
const RETRY_FOR: Duration = Duration::from_secs(30);
/// The longest delay.
const MAX_DELAY: Duration = Duration::from_secs(3_652 * 86_400);
/// The lateness of the 99th percentile of delayed messages, at most, with little load.
const LATENESS: Duration = Duration::from_millis(100);

/// Reads the capabilities. A client without the right to ask gets those that every cluster has.
pub(crate) async fn read(client: &Client) -> Result<Capabilities> {
    let config = settings(&*client.admin()?, client.brokers()).await?;
    let value = |name: &str| config.as_ref().and_then(|config: &ConfigResource| config.get(name)?.value.clone());
    let replicated =
        value("min.insync.replicas").and_then(|count| count.parse().ok()).is_some_and(|count: u32| count > 1);
    // No request returns the version of a broker. Before 4.0 this setting had it, except during an upgrade.
    let version = value("inter.broker.protocol.version").unwrap_or_else(|| "4 or later".into());
    Ok(Capabilities {
        broker: format!("kafka {version}"),
        durability: if replicated { Durability::Replicated } else { Durability::Written },
        delay: Delay { native: false, max: MAX_DELAY, lateness: LATENESS },
        hold: None,
        limits: Limits::default(),
        supports: Supports::default(),
    })
}

/// The settings of the first broker that tells them. `None` if this client has no right to read them.
async fn settings(admin: &Admin, brokers: &[i32]) -> Result<Option<ConfigResource>> {
    let began = Instant::now();
    let options = AdminOptions::new().request_timeout(Some(SETTINGS_TIMEOUT));
    for broker in brokers.iter().cycle() {
        let described = admin.describe_configs([&ResourceSpecifier::Broker(*broker)], &options).await;
        let failure = match described.map(|all| all.into_iter().next()) {
            Ok(Some(Ok(config))) => return Ok(Some(config)),
            Ok(Some(Err(code))) if error::kind(code) != ErrorKind::Unauthorized => error::refused("connect", code),
            Ok(_) => return Ok(None),
            // The broker may have gone a moment ago.
            Err(failed) => error::error("connect", failed),
        };
        if began.elapsed() > RETRY_FOR {
            return Err(failure);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(None)
}
