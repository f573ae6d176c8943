//! Role among the replicas: alone, member of a group, or shard.

use super::catalogue as names;
use super::reader::{InvalidSetting, SettingsReader};
use crate::domain::replicas::{Role, Shard, ShareGroup};

/// Purpose of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Running a gateway.
    Running,
    /// Retiring a replica. Its former role is not checked against the current number of replicas.
    Retiring,
}

/// Reads the role and the group. A retiring replica keeps its group, because its session may belong to one.
pub(super) fn role(
    reader: &mut SettingsReader<'_>,
    purpose: Purpose,
    client_id: Option<&str>,
) -> Result<(Role, Option<ShareGroup>), InvalidSetting> {
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
        require_own_client_id(reader, &role, client_id)?;
    }
    Ok((role, group))
}

fn shard(reader: &mut SettingsReader<'_>, index: Option<u32>, count: u32) -> Result<Shard, InvalidSetting> {
    match index {
        None if count > 1 => Err(reader.refuse_missing(&names::SHARD_INDEX)),
        Some(index) if index >= count => {
            let expected = format!("a number below SHARD_COUNT, which is {count}");
            Err(reader.refuse_setting(&names::SHARD_INDEX, expected))
        }
        index => Ok(Shard { index: index.unwrap_or(0), count }),
    }
}

/// Rejects the default client id, because clients with equal ids disconnect each other forever.
fn require_own_client_id(
    reader: &mut SettingsReader<'_>,
    role: &Role,
    client_id: Option<&str>,
) -> Result<(), InvalidSetting> {
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
