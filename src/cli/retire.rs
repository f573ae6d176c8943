//! `mqtt-gateway retire`: brings what a replica has left behind into the database.

use std::io::{self, Write};

use clap::Args;

use crate::app::{RetireOrder, Retired, retire};
use crate::settings::Settings;

/// What the help says below the options.
pub(super) const HELP: &str = "\
Run it with the settings, the MQTT_CLIENT_ID and the INBOX_DIR of a replica that is gone for good. It waits until other
gateways have subscribed the flows of that replica, takes what the broker keeps for it and what its inbox holds into
the database, and has the broker forget its session. It may be interrupted, and run again.
Exit codes: 0 nothing is left of the replica, 1 something is (run it again), 2 wrong settings.";

/// Options of `retire`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(super) struct RetireOptions {
    /// Let go of the flows although no other gateway takes them: from then on their messages are lost.
    #[arg(long)]
    last: bool,
    /// Only the session at the broker of this row of `mqtt_servers`; else each that is enabled is gone to in turn, and one
    /// that is out of reach for a minute is left out and named.
    #[arg(long, value_name = "ID")]
    broker: Option<i64>,
    /// The inbox of the replica is lost: begin with an empty one. Its messages that were not stored are lost.
    #[arg(long)]
    new_inbox: bool,
}

/// Retires, and says on standard output what came of it. Gives the exit code.
pub(super) fn run(settings: &Settings, options: RetireOptions) -> i32 {
    let RetireOptions { last: is_last, broker, new_inbox } = options;
    match retire(settings, RetireOrder { is_last, broker, new_inbox }) {
        Ok(retired) => {
            // Whoever closed standard output does not want to know.
            let _ = tell(&settings.mqtt.client_id, retired);
            0
        }
        Err(code) => code,
    }
}

fn tell(client_id: &str, Retired { from_the_broker, to_be_posted }: Retired) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "Retired {client_id}: its inbox is in the database.")?;
    writeln!(out, "Messages that the broker still had for it: {from_the_broker}")?;
    writeln!(
        out,
        "Messages that wait to be posted, and that another gateway takes over within a minute: {to_be_posted}"
    )
}
