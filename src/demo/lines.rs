//! Formats the introduction and the summary of the demo.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::control::{EVENT_HEAD, shown};
use crate::embedded::broker::Ports;

/// Maximum length of the code of a flow, in characters.
const MAX_CODE_CHARS: usize = 60;

/// Text at the start of the demo: its flows, ports and files.
pub(super) struct Introduction {
    pub(super) database: PathBuf,
    pub(super) ports: Ports,
    /// URL to which alarms are posted.
    pub(super) endpoint: String,
}

impl fmt::Display for Introduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ports { v4, v5 } = self.ports;
        write!(
            f,
            "The gateway is starting, with a broker, sensors and an endpoint of its own.\n\
             \n\
             Flow         topic                   action\n\
             TEMPERATURE  sensors/+/temperature   STORE_DB\n\
             HUMIDITY     sensors/+/humidity      STORE_DB\n\
             ALARMS       alarms/#                POST_ENDPOINT  {endpoint}\n\
             \n\
             Publish to it yourself (MQTT 3.1.1 at port {v4}, MQTT 5 at port {v5}):\n\
             \x20 mosquitto_pub -h 127.0.0.1 -p {v4} -t sensors/kitchen/temperature -m '{{\"value\": 21.5}}'\n\
             \x20 mosquitto_pub -h 127.0.0.1 -p {v4} -t alarms/attic -m '{{\"severity\": \"low\", \"text\": \"a mouse\"}}'\n\
             The database, where flows can be changed while it runs (taken up within 5 s):\n\
             \x20 {database}\n\
             Ctrl-C ends it; the next start continues the numbers.\n\
             \n\
             {EVENT_HEAD}\n",
            endpoint = self.endpoint,
            database = self.database.display(),
        )
    }
}

/// Numbers of messages shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages stored, by flow.
    pub(super) stored: BTreeMap<String, u64>,
    /// Messages posted, by flow.
    pub(super) posted: BTreeMap<String, u64>,
    pub(super) dead_letters: u64,
    /// Events that the view has missed.
    pub(super) missed: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("The demo has ended. Stored: ")?;
        by_flow(f, &self.stored)?;
        f.write_str("; posted: ")?;
        by_flow(f, &self.posted)?;
        write!(f, "; dead letters: {}.", self.dead_letters)?;
        if self.missed > 0 {
            write!(f, " Not shown and not counted: {}.", self.missed)?;
        }
        Ok(())
    }
}

fn by_flow(f: &mut fmt::Formatter<'_>, counts: &BTreeMap<String, u64>) -> fmt::Result {
    if counts.is_empty() {
        return f.write_str("nothing");
    }
    for (index, (flow_code, count)) in counts.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(f, "{separator}{} {count}", shown(flow_code, MAX_CODE_CHARS))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    #[test]
    fn summary_names_every_flow() {
        let mut counts = Counts::default();
        assert_eq!(
            counts.to_string(),
            "The demo has ended. Stored: nothing; posted: nothing; dead letters: 0."
        );
        counts.stored.insert("A".to_owned(), 2);
        counts.stored.insert("B".to_owned(), 1);
        assert!(counts.to_string().contains("Stored: A 2, B 1;"));
        counts.missed = 3;
        assert!(counts.to_string().ends_with("; dead letters: 0. Not shown and not counted: 3."));
    }
}
