//! Brokers that are programs of their own.

use std::process::Command;

use super::peer::{ENDS, PASSWORD, Peer, serve, starter};

mod rabbitmq {
    use super::*;

    /// Default number of unacknowledged messages in flight.
    const PREFETCH: usize = 10;

    #[test]
    #[ignore = "needs rabbitmq-server; run by scripts/faults"]
    fn overlapping_flows_are_served() {
        let peer = Peer::start(|directory, ports| {
            let mut command = Command::new(starter("rabbitmq.sh"));
            command.arg(directory).args(["gw", PASSWORD]).args(ports);
            command
        });
        let found = serve("RabbitMQ", &peer, "gw");
        assert_eq!(found.out_of_order, 0);
        // It restarts packet identifiers on each connection. Each message is for three flows.
        assert!(found.twice <= ENDS * PREFETCH * 3, "{found:?}");
    }
}

mod ejabberd {
    use super::*;

    #[test]
    #[ignore = "needs ejabberd; run by scripts/faults"]
    fn overlapping_flows_are_served() {
        let peer = Peer::start(|directory, [port, ..]| {
            let mut command = Command::new(starter("ejabberd.sh"));
            command.arg(directory).args(["gw", PASSWORD, &port]);
            command
        });
        let found = serve("ejabberd", &peer, "gw@localhost");
        assert_eq!((found.twice, found.out_of_order), (0, 0));
    }
}

mod aedes {
    use super::*;

    #[test]
    #[ignore = "needs node and aedes; run by scripts/faults"]
    fn overlapping_flows_are_served() {
        let modules = std::env::var("NODE_MODULES").expect("NODE_MODULES is a node_modules with aedes");
        let peer = Peer::start(|_, [port, ..]| {
            let mut command = Command::new("node");
            command.arg(starter("aedes.cjs")).args([&modules, "gw", PASSWORD, &port]);
            command
        });
        // It bounds nothing that is under way, and mixes stored messages with new ones.
        serve("aedes", &peer, "gw");
    }
}
