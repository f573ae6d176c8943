//! `mqtt-gateway retire`: moves the remaining messages of a replica into the database.

use std::io::{self, Write};

use clap::Args;

use crate::app::{RetireOrder, Retired, retire};
use crate::settings::Settings;

/// Text below the options in `--help`.
pub(super) const HELP: &str = "\
Run it with the settings, the MQTT_CLIENT_ID and the INBOX_DIR of the replica to retire. It waits until other gateways
have subscribed to the flows of that replica. Then it processes the messages that the broker and the inbox still hold,
and deletes the session at the broker. It may be interrupted and run again.
Exit codes: 0 nothing is left of the replica, 1 something is left (run it again), 2 wrong settings.";

/// Options of `retire`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(super) struct RetireOptions {
    /// Release the flows even if no other gateway takes them over: from then on their messages are lost.
    #[arg(long)]
    last: bool,
    /// Process only the session at the broker with this id in `mqtt_servers`. By default, all enabled brokers are
    /// visited in turn; a broker that is unreachable for a minute is skipped and named.
    #[arg(long, value_name = "ID")]
    broker: Option<i64>,
    /// Start with an empty inbox, because the replica's inbox is lost. Its messages that were not stored are lost.
    #[arg(long)]
    new_inbox: bool,
}

/// Retires the replica and prints the result. Returns the exit code.
pub(super) fn run(settings: &Settings, options: RetireOptions) -> i32 {
    let RetireOptions { last: is_last, broker, new_inbox } = options;
    match retire(settings, RetireOrder { is_last, broker, new_inbox }) {
        Ok(retired) => {
            // A closed standard output does not make the retirement fail.
            let _ = print_result(&settings.mqtt.client_id, retired);
            0
        }
        Err(code) => code,
    }
}

fn print_result(client_id: &str, Retired { from_the_broker, to_be_posted }: Retired) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "Retired {client_id}: its inbox is in the database.")?;
    writeln!(out, "Messages that the broker still had for it: {from_the_broker}")?;
    writeln!(
        out,
        "Messages that wait to be posted, and that another gateway takes over within a minute: {to_be_posted}"
    )
}
