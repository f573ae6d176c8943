//! What the registry asks the database: who else there is, the flows, the brokers, and whether numbers run out.

use tokio::sync::Mutex;

use super::membership::Membership;
use super::{RegistryParts, Work};
use crate::actors::directory::Directory;
use crate::actors::messages::{FollowFlows, UseServers};
use crate::domain::flow::Flow;
use crate::domain::replicas::Role;
use crate::observe::Telemetry;
use crate::store::{
    Database, LoadServerError, MqttServers, NumbersUsed, Span, StoreError, answer_timeout, load_flows,
    load_limits, load_mqtt_servers, max_dead_letters, numbers_used, timed, too_many_dead_letters,
    with_timeout,
};

/// Hears of the other gateways and reads the flows, as far as that is due. Gives the flows that are to be in force,
/// if anything can have changed.
pub(super) async fn refresh(
    membership: &mut Membership,
    database: &Mutex<Option<Database>>,
    parts: &RegistryParts,
    work: &Work,
    before: Option<&[Flow]>,
) -> Result<Option<Vec<Flow>>, StoreError> {
    if !(work.reload || work.look || before.is_none()) {
        return Ok(None);
    }
    let mut database = database.lock().await;
    // Connects on the arbiter that calls, the first time.
    if database.is_none() {
        *database = Some(Database::connect(&parts.database, 1).await?);
    }
    let Some(database) = database.as_mut() else { return Ok(None) };
    if database.is_superseded() {
        *database = database.anew();
    }
    let due = work.reload || before.is_none();
    let refreshed = with_timeout(answer_timeout(), hear_and_read(membership, database, parts, due)).await;
    if let Err(error) = &refreshed {
        database.recover(error).await?;
    }
    let has_read = refreshed?;
    let may_have_changed = has_read || membership.is_moving_flows();
    Ok(if may_have_changed { membership.flows_in_force(before) } else { None })
}

/// Answers whether the flows were read.
async fn hear_and_read(
    membership: &mut Membership,
    database: &mut Database,
    parts: &RegistryParts,
    due: bool,
) -> Result<bool, StoreError> {
    // Flows are worth more than what others say: a look that failed was told of, and nothing is let go by it.
    let looked = if membership.takes_part() {
        membership.look(database).await
    } else {
        membership.look_whether_alone(database).await
    };
    // A server that is read-only now answers the rest, and then nobody else would do this.
    if let Err(error) = looked {
        database.recover(&error).await?;
    }
    let due = due || membership.is_asked_to_read();
    if due {
        // Who goes for good is there for the session at one broker, and stays with that.
        if *membership.role() != Role::Leaving {
            pass_on_brokers(database, &parts.directory).await;
        }
        let (flows, span): (_, Span) = timed(database, read_all(database, parts)).await?;
        membership.have_read(flows, span);
        parts.directory.delivery.tell(FollowFlows);
    }
    Ok(due)
}

async fn read_all(database: &Database, parts: &RegistryParts) -> Result<Vec<Flow>, StoreError> {
    let observed = &parts.observed;
    match numbers_of(database).await {
        Ok(numbers) => {
            observed
                .metrics
                .database
                .set_numbers_used(numbers.iter().map(|used| (used.column, used.ratio())));
            let running_out = numbers.into_iter().filter_map(NumbersUsed::warning);
            running_out.for_each(|warning| log::warn!("{warning}"));
        }
        // Flows are worth more than a warning.
        Err(error) => log::warn!("Cannot tell whether numbers run out: {error}"),
    }
    look_at_dead_letters(database, observed, parts.dead_letters_warn_rows).await;
    load_flows(database).await
}

/// Warns when the table has become too large, and again only after it was smaller.
async fn look_at_dead_letters(database: &Database, observed: &Telemetry, warn_rows: u64) {
    let letters = &observed.metrics.dead_letters;
    match max_dead_letters(database).await {
        Ok(rows) => {
            let was_too_large = letters.replace_rows(rows).is_some_and(|before| before > warn_rows);
            if let Some(warning) = too_many_dead_letters(rows, warn_rows).filter(|_| !was_too_large) {
                log::warn!("{warning}");
            }
        }
        Err(error) => log::warn!("Cannot tell how many dead letters there are: {error}"),
    }
}

/// The list of brokers is read with the flows; those in force stay where it cannot be.
async fn pass_on_brokers(database: &mut Database, directory: &Directory) {
    match load_mqtt_servers(database).await {
        Ok(MqttServers { usable, skipped }) => directory.mqtt.tell(UseServers {
            servers: usable.into_iter().map(Into::into).collect(),
            skipped: skipped.iter().map(ToString::to_string).collect(),
        }),
        Err(error) => {
            log::error!("Error reloading the brokers: {error}; those in force stay");
            // The flows may be read without an error, and then nobody else would do this.
            if let LoadServerError::Store(error) = error
                && let Err(error) = database.recover(&error).await
            {
                log::error!("Error reloading the brokers: {error}");
            }
        }
    }
}

async fn numbers_of(database: &Database) -> Result<Vec<NumbersUsed>, StoreError> {
    numbers_used(database, &load_limits(database).await?).await
}
