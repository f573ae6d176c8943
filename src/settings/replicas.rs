//! What the gateway is among others: alone, a member of a group, or a shard.

use super::catalogue as names;
use super::reader::{Reader, Refused};
use crate::domain::replicas::{Role, Shard, ShareGroup};

/// What the settings are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To run a gateway.
    Running,
    /// To retire one. What it was among the others need not go together with how many they are now.
    Retiring,
}

/// What it is, and its group: one that is retired is no member any more, but its session may know it as one.
pub(super) fn role(
    reader: &mut Reader<'_>,
    purpose: Purpose,
    client_id: Option<&str>,
) -> Result<(Role, Option<ShareGroup>), Refused> {
    let group = reader.share_group(&names::SHARED_GROUP);
    let index = reader.ordinal(&names::SHARD_INDEX);
    let count: Result<u32, _> = reader.integer(&names::SHARD_COUNT);
    let (group, index, count) = (group?, index?, count?);
    if purpose == Purpose::Retiring {
        return Ok((Role::Leaving, group));
    }
    let role = match group.clone() {
        Some(_) if count > 1 => {
            let expected =
                format!("to be unset, because SHARD_COUNT is {count}: messages are either shared or sharded");
            return Err(reader.refuse_setting(&names::SHARED_GROUP, expected));
        }
        Some(group) => Role::InGroup(group),
        None => Role::Shard(shard(reader, index, count)?),
    };
    if role.is_one_of_several() {
        needs_a_client_id_of_its_own(reader, &role, client_id)?;
    }
    Ok((role, group))
}

fn shard(reader: &mut Reader<'_>, index: Option<u32>, count: u32) -> Result<Shard, Refused> {
    match index {
        None if count > 1 => Err(reader.refuse_missing(&names::SHARD_INDEX)),
        Some(index) if index >= count => {
            let expected = format!("a number below SHARD_COUNT, which is {count}");
            Err(reader.refuse_setting(&names::SHARD_INDEX, expected))
        }
        index => Ok(Shard { index: index.unwrap_or(0), count }),
    }
}

/// Two clients of one name would throw each other out for ever.
fn needs_a_client_id_of_its_own(
    reader: &mut Reader<'_>,
    role: &Role,
    client_id: Option<&str>,
) -> Result<(), Refused> {
    let names::Fallback::Value(default) = names::MQTT_CLIENT_ID.default else { return Ok(()) };
    if client_id != Some(default) {
        return Ok(());
    }
    let expected = format!(
        "a name that no other replica has, such as the pod's, because this one is {role}: \
         clients of one name throw each other out"
    );
    Err(reader.refuse_setting(&names::MQTT_CLIENT_ID, expected))
}
