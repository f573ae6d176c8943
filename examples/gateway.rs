//! A program that contains the gateway: it checks the flows by a rule of its own, and then runs the gateway until a
//! signal ends it.
//!
//! ```sh
//! DATABASE_URL=sqlite:gateway.sqlite cargo run --example gateway
//! ```

use std::error::Error;
use std::process;

use mqtt_gateway::observe::logging;
use mqtt_gateway::store::{Database, StoreError, migrate};
use mqtt_gateway::{Settings, load_flows, load_settings, run_forever};

fn main() -> Result<(), Box<dyn Error>> {
    let settings = load_settings()?;
    logging::init(&settings)?;
    for topic in actix_rt::System::new().block_on(topics(&settings))? {
        if topic.starts_with('#') {
            log::error!("This site allows no flow for all topics, such as {topic}");
            log::logger().flush();
            process::exit(1);
        }
    }
    process::exit(run_forever(settings));
}

/// The topic filters of all enabled flows, in a database with the current tables.
async fn topics(settings: &Settings) -> Result<Vec<String>, StoreError> {
    let database = Database::connect(&settings.database, 1).await?;
    migrate(&database).await?;
    Ok(load_flows(&database).await?.into_iter().map(|flow| flow.topic).collect())
}
