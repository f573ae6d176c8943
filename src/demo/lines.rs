//! Formats the introduction and the summary of the demo.

use std::fmt;
use std::path::PathBuf;

use crate::control::EVENT_HEAD;
use crate::embedded::broker::Ports;
use crate::http::FlowBalance;

/// Text at the start of the demo: its console, flows, ports and files.
pub(super) struct Introduction {
    pub(super) database: PathBuf,
    pub(super) ports: Ports,
    /// Link to the console, if there is one.
    pub(super) console: Option<String>,
}

impl fmt::Display for Introduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ports { v4, v5 } = self.ports;
        f.write_str("The gateway is starting, with a broker, sensors and endpoints of its own.\n\n")?;
        if let Some(console) = &self.console {
            write!(
                f,
                "Open its console, and break something on the page \"Demo\" (this link is valid once):\n\
                 \x20 {console}\n\n"
            )?;
        }
        write!(
            f,
            "Flow         topic                   action\n\
             TEMPERATURE  sensors/+/temperature   STORE_DB\n\
             HUMIDITY     sensors/+/humidity      STORE_DB\n\
             ALARMS       alarms/#                POST_ENDPOINT\n\
             MAINTENANCE  maintenance/#           POST_ENDPOINT  to an endpoint that fails\n\
             \n\
             Publish to it yourself (MQTT 3.1.1 at port {v4}, MQTT 5 at port {v5}):\n\
             \x20 mosquitto_pub -h 127.0.0.1 -p {v4} -t sensors/kitchen/temperature -m '{{\"value\": 21.5}}'\n\
             \x20 mosquitto_pub -h 127.0.0.1 -p {v4} -t alarms/attic -m '{{\"severity\": \"low\", \"text\": \"a mouse\"}}'\n\
             The database, where flows can be changed while it runs (taken up within 5 s):\n\
             \x20 {database}\n\
             Ctrl-C ends it; the next start continues the numbers.\n\
             \n\
             {EVENT_HEAD}\n",
            database = self.database.display(),
        )
    }
}

/// Text at the end of the demo: the outcomes of its sensors' readings.
pub(super) struct DemoSummary(pub(super) Vec<FlowBalance>);

impl fmt::Display for DemoSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("The demo has ended. Stored: ")?;
        self.by_flow(f, |flow| flow.stored)?;
        f.write_str("; posted: ")?;
        self.by_flow(f, |flow| flow.posted)?;
        f.write_str("; waiting for the endpoint: ")?;
        self.by_flow(f, |flow| flow.waiting)?;
        let sum = |count: fn(&FlowBalance) -> u64| self.0.iter().map(count).sum::<u64>();
        match (sum(|flow| flow.missing), sum(|flow| flow.under_way)) {
            (0, 0) => f.write_str(". Nothing was lost.\n"),
            (0, under_way) => writeln!(f, ". Nothing was lost; still on their way: {under_way}."),
            (missing, _) => writeln!(f, ". Missing: {missing}."),
        }
    }
}

impl DemoSummary {
    fn by_flow(&self, f: &mut fmt::Formatter<'_>, count: fn(&FlowBalance) -> u64) -> fmt::Result {
        let mut separator = "";
        for flow in self.0.iter().filter(|flow| count(flow) > 0) {
            write!(f, "{separator}{} {}", flow.flow, count(flow))?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("nothing") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_names_every_flow() {
        assert_eq!(
            DemoSummary(Vec::new()).to_string(),
            "The demo has ended. Stored: nothing; posted: nothing; waiting for the endpoint: nothing. \
             Nothing was lost.\n"
        );
        let flow =
            |name: &str, stored| FlowBalance { flow: name.to_owned(), stored, ..FlowBalance::default() };
        let mut summary = DemoSummary(vec![flow("A", 2), flow("B", 0), flow("C", 1)]);
        assert!(summary.to_string().contains("Stored: A 2, C 1;"));
        summary.0[2].under_way = 1;
        assert!(summary.to_string().ends_with(". Nothing was lost; still on their way: 1.\n"));
        summary.0[0].missing = 2;
        assert!(summary.to_string().ends_with(". Missing: 2.\n"));
    }
}
